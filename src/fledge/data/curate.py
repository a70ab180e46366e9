"""One raw record through all per-document steps: text out, or the reason it was dropped."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from fledge.core.errors import FledgeError
from fledge.core.types import Verdict
from fledge.data.config import CorpusConfig
from fledge.data.dates import iso_date
from fledge.data.decode import decode, looks_binary, mend, tidy
from fledge.data.extract import Extracted, extract_html
from fledge.data.language import Cld2, LanguageDetector, language_of
from fledge.data.page import Page
from fledge.data.pii import find_pii, mask
from fledge.data.quality import quality_verdict
from fledge.data.records import RawRecord
from fledge.guard.injection import injection_verdict
from fledge.guard.poison import poison_verdict
from fledge.guard.secrets import Hit, find_secrets, secret_verdict
from fledge.guard.unsafe import unsafe_verdict

_FRONT_MATTER = re.compile(r"\A---\s*\n.*?\n---\s*\n", re.DOTALL)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_ROW = re.compile(r"\|[^\n]*\|?\s*")
_RULE = re.compile(r"\|?(?:\s*:?-{2,}:?\s*\|)+\s*(?::?-{2,}:?)?\s*")
_HAN = re.compile("[\u3040-\u30ff\u3400-\u9fff]")


@dataclass(kw_only=True)
class Draft:
    """A document on its way; ``verdict`` is set when it is dropped."""

    id: str
    text: str
    url: str = ""
    source: str = ""
    lang: str = ""
    date: str = ""
    work: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    verdict: Verdict | None = None
    raw_bytes: int = 0
    masked: list[str] = field(default_factory=list)
    """What was masked, in order; needed to measure, never published."""


class Steps:
    """Processor seconds spent per step, for the log."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def time(self, step: str) -> Iterator[None]:
        start = time.process_time()
        try:
            yield
        finally:
            self.seconds[step] = self.seconds.get(step, 0.0) + time.process_time() - start


def draft_of(record: RawRecord) -> Draft:
    """A draft that so far knows only where it comes from."""
    return Draft(
        id=record.id,
        text="",
        url=record.url,
        source=record.source,
        date=iso_date(record.date),
        work=record.work or record.source,
        metadata={key: value for key, value in record.metadata.items() if value},
        raw_bytes=record.size,
    )


def curate_or_drop(
    record: RawRecord,
    config: CorpusConfig,
    *,
    detector: LanguageDetector | None = None,
    steps: Steps | None = None,
) -> Draft:
    """``curate``, but a page that a step fails on is dropped with ``failed.error``.

    What is no fault of the page still raises: a disk that fails, a library that is missing.
    """
    try:
        return curate(record, config, detector=detector, steps=steps)
    except (OSError, ImportError, FledgeError):
        raise
    except Exception as error:  # parsers fail on hostile pages in every way there is
        draft = draft_of(record)
        seen = f"{type(error).__name__}: {error}"[:200]
        draft.verdict = Verdict(reason="failed.error", evidence=seen)
        return draft


def curate(
    record: RawRecord,
    config: CorpusConfig,
    *,
    detector: LanguageDetector | None = None,
    steps: Steps | None = None,
) -> Draft:
    """The record as a document; with a verdict when a step drops it."""
    steps = steps or Steps()
    draft = draft_of(record)
    with steps.time("extract"):
        found, draft.verdict = _extract(record, config, draft)
    if draft.verdict is not None:
        return draft
    with steps.time("tidy"):
        _set_text(draft, record, found)
    if not draft.text:
        draft.verdict = Verdict(reason="extract.empty", evidence="no main text")
        return draft
    hits = find_secrets(draft.text) if config.secrets != "keep" else []
    with steps.time("language"):
        draft.lang, share = language_of(draft.text, detector or Cld2())
        draft.metadata["language_share"] = round(share, 2)
    if config.guard:
        with steps.time("guard"):
            draft.verdict = _guard(draft, found, hits)
    if draft.verdict is None:
        with steps.time("quality"):
            draft.verdict = _quality(draft, record, found, config)
    if draft.verdict is None:
        with steps.time("personal data"):
            _personal(draft, hits, config)
    return draft


def _extract(
    record: RawRecord, config: CorpusConfig, draft: Draft
) -> tuple[Extracted, Verdict | None]:
    """The main text of the record, or why there is none."""
    nothing = Extracted(text="")
    if record.problem:
        return nothing, Verdict(reason=record.problem, evidence=str(record.metadata)[:200])
    content = record.content
    if isinstance(content, bytes):
        text = decode(content, record.charset)
        if text is None:
            return nothing, Verdict(reason="read.binary", evidence=repr(content[:24]))
    else:
        text = content
        if looks_binary(content[:8192].encode("utf-8", "replace")):
            return nothing, Verdict(reason="read.binary", evidence=repr(content[:24]))
    text, mended = mend(text)
    if mended:
        draft.metadata["mended"] = True
    if record.kind == "html":
        found = extract_html(text, config.extraction)
        if found is None:
            return nothing, Verdict(reason="extract.unparsable", evidence=repr(text[:40]))
        return found, None
    if record.kind == "markdown" or text.startswith(("---\n", "# ")):
        text = _COMMENT.sub("", _FRONT_MATTER.sub("", text, count=1))
    return Extracted(text=text), None


def _set_text(draft: Draft, record: RawRecord, found: Extracted) -> None:
    """Tidy and mend the text; the title becomes its first line when the page does not say it."""
    text, title = tidy(found.text), " ".join(tidy(found.title or record.title).split())
    if record.kind == "html":
        text = untable(text)
    if title:
        draft.metadata["title"] = title
        if text and not _starts_with(text, title):
            text = f"{title}\n{text}"
    draft.text = text
    draft.date = draft.date or found.date


def _starts_with(text: str, title: str) -> bool:
    head = " ".join(text[: 2 * len(title) + 40].split()).lower().lstrip("#=*- ")
    return head.startswith(title.lower())


def untable(text: str) -> str:
    """Markdown tables as lines ``label: value``, the way a reader would say them.

    >>> untable("| Length | 200 m |\\n|---|---|\\n| Opened | 1932 |")
    'Length: 200 m\\nOpened: 1932'
    """
    if "|" not in text:
        return text
    lines = []
    for line in text.split("\n"):
        if _RULE.fullmatch(line.strip()):
            continue
        if line.startswith("|") and _ROW.fullmatch(line):
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
            line = _spoken([cell for cell in cells if cell])
        lines.append(line)
    return "\n".join(lines)


def _spoken(cells: list[str]) -> str:
    if len(cells) < 2:
        return "".join(cells)
    chinese = bool(_HAN.search(cells[0]))
    label = cells[0].rstrip(":：")
    return label + ("：" if chinese else ": ") + ("，" if chinese else ", ").join(cells[1:])


def _quality(
    draft: Draft, record: RawRecord, found: Extracted, config: CorpusConfig
) -> Verdict | None:
    page = Page.of(
        draft.text,
        draft.lang,
        web=record.web,
        link_share=found.link_share,
        links=found.links,
    )
    verdict = quality_verdict(page, config.quality)
    if verdict is not None:
        return verdict
    if config.languages and draft.lang not in config.languages:
        return Verdict(reason=f"language.{draft.lang}", evidence=draft.text[:80])
    return None


def _guard(draft: Draft, found: Extracted, secrets: list[Hit]) -> Verdict | None:
    return (
        secret_verdict(draft.text, secrets)
        or injection_verdict(draft.text, found.hidden)
        or poison_verdict(draft.text)
        or unsafe_verdict(draft.text)
    )


def _personal(draft: Draft, secrets: list[Hit], config: CorpusConfig) -> None:
    """Mask or drop personal data and secrets; the spans seen stay in the metadata."""
    personal = find_pii(draft.text, secrets) if config.pii != "keep" else []
    if secrets and config.secrets == "drop":
        draft.verdict = Verdict(reason="secret.found", evidence=_kinds(secrets))
    if personal and config.pii == "drop" and draft.verdict is None:
        draft.verdict = Verdict(reason="pii.found", evidence=_kinds(personal))
    masked = [
        *(personal if config.pii == "mask" else ()),
        *(secrets if config.secrets == "mask" else ()),
    ]
    if draft.verdict is None and masked:
        masked.sort()
        draft.masked = [draft.text[hit.start : hit.end] for hit in masked]
        draft.text, places = mask(draft.text, masked)
        draft.metadata["masked"] = places
    if draft.verdict is None and draft.metadata.get("title"):
        draft.metadata["title"] = _masked_title(draft, masked, config)


def _masked_title(draft: Draft, masked: list[Hit], config: CorpusConfig) -> str:
    """The title without what was masked in the text, and without what it says itself."""
    title: str = draft.metadata["title"]
    for hit, original in zip(masked, draft.masked, strict=True):
        title = title.replace(original, f"<{hit.kind}>")
    secrets = find_secrets(title) if config.secrets == "mask" else []
    personal = find_pii(title, secrets) if config.pii == "mask" else []
    return mask(title, sorted([*secrets, *personal]))[0]


def _kinds(hits: list[Hit]) -> str:
    return ", ".join(sorted({hit.kind for hit in hits}))
