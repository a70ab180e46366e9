"""The stage ``[samples]``: a config in; a web, its ground truth, conversations, questions out."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fledge.core import InputError, Outcome, Progress
from fledge.core.files import write_jsonl, write_text
from fledge.samples.bridges.articles import Article, write_articles
from fledge.samples.bridges.cards import CARDS, set_card, world_readme
from fledge.samples.bridges.config import SamplesConfig
from fledge.samples.bridges.conversations import ConversationCounts, write_conversations
from fledge.samples.bridges.facts import Bridge, load_bridges, select, split, strangers
from fledge.samples.bridges.invented import all_names, invent_for_all
from fledge.samples.bridges.page import Page, truth_row
from fledge.samples.bridges.phrases import LANGUAGES
from fledge.samples.bridges.post_training import write_post_training
from fledge.samples.bridges.questions import QuestionCounts, write_questions
from fledge.samples.bridges.reading import write_unseen
from fledge.samples.bridges.requests import write_howtos
from fledge.samples.bridges.safety import write_safety_questions
from fledge.samples.bridges.specification_dialogue import (
    write_spec_conversations,
    write_spec_questions,
)
from fledge.samples.bridges.specification_pages import write_chapters
from fledge.samples.bridges.warc import Response, write_warc
from fledge.samples.bridges.web import build_pages, responses


def write_world(config: SamplesConfig, out: Path, progress: Progress) -> Outcome:
    """Write the sample world below ``out``; the same files, byte for byte, for the same config.

    A killed run is simply written again: the whole takes seconds.
    """
    every = load_bridges()
    if config.bridges > len(every):
        raise InputError(
            f"[samples] bridges = {config.bridges}, but facts are known about {len(every)}",
            remedy=f"set samples.bridges to at most {len(every)}",
        )
    bridges = select(every, config.bridges, config.seed)
    taught, held = split(bridges, config.seed)
    pages = build_pages(config, _articles(config, bridges), bridges)
    _write_web(out / "web", pages, config, progress)
    write_jsonl(out / "truth" / "pages.jsonl", (truth_row(page) for page in pages))
    write_jsonl(out / "facts.jsonl", _facts(bridges, taught))
    counts = _write_language(config, out, every, bridges, taught, held)
    reasons = Counter(page.reason or "keep" for page in pages)
    write_text(out / "README.md", world_readme(config, len(pages), dict(reasons), counts))
    kept = {f"pages_{reason}": count for reason, count in sorted(reasons.items())}
    return Outcome(counts={"bridges": len(bridges), "pages": len(pages), **kept, **counts})


def _articles(config: SamplesConfig, bridges: Sequence[Bridge]) -> list[Article]:
    articles = list(write_articles(bridges, config.pages_per_bridge, config.seed))
    if config.specification:
        for language in LANGUAGES:
            articles += write_chapters(language, config.seed)
    return articles


def _write_web(folder: Path, pages: list[Page], config: SamplesConfig, progress: Progress) -> None:
    """The pages in order of their crawl, in ``config.warc_files`` files of about equal size."""
    source = responses(pages, config.seed)
    urls = {page.url for page in pages}
    with progress.bar("sample web", len(pages), "pages") as bar:

        def counted(count: int) -> Iterator[Response]:
            for response in source:
                yield response
                if response.url in urls:
                    bar.advance()
                    count -= 1
                if count == 0:
                    return

        for number in range(config.warc_files):
            done, end = (k * len(pages) // config.warc_files for k in (number, number + 1))
            last = number + 1 == config.warc_files
            path = folder / f"bridges-{number:05d}.warc.gz"
            write_warc(path, counted(-1 if last else end - done))


def _write_language(
    config: SamplesConfig,
    out: Path,
    every: Sequence[Bridge],
    bridges: Sequence[Bridge],
    taught: Sequence[Bridge],
    held: Sequence[Bridge],
) -> dict[str, int]:
    """Conversations, data for what comes after them, evaluation sets; returns how many of each."""
    names = invent_for_all(config.invented_bridges, all_names(every), config.seed)
    conversations = _conversations(config, taught, names.sft)
    counts = {"conversations": write_jsonl(out / "conversations" / "train.jsonl", conversations)}
    others = strangers(every, bridges)
    if config.unseen_bridges:
        random.Random(f"unseen/{config.seed}").shuffle(others)
    unseen, others = others[: config.unseen_bridges], others[config.unseen_bridges :]
    counts |= write_post_training(config, out, taught, others, names)
    if unseen:
        counts |= write_unseen(unseen, config.unseen_pages_per_bridge, out / "unseen", config.seed)
    questions = _questions(config, bridges, held, names.eval)
    for name in CARDS:
        rows = [row for row in questions if row["metadata"]["set"] == name]
        if rows:
            counts[f"questions_{name}"] = write_jsonl(out / "evals" / f"{name}.jsonl", rows)
            write_text(out / "evals" / f"{name}.md", set_card(name, rows))
    return counts


def _conversations(
    config: SamplesConfig, taught: Sequence[Bridge], invented: Sequence[Bridge]
) -> list[dict[str, Any]]:
    counts = ConversationCounts(
        single_per_bridge=config.conversations_per_bridge,
        turns_per_bridge=config.turns_per_bridge,
        unanswerable_share=config.unanswerable_share,
    )
    records = write_conversations(taught, invented, config.seed, counts)
    records += write_howtos(taught, config.howtos, config.seed)
    if config.specification:
        for language in LANGUAGES:
            records += write_spec_conversations(language, config.seed)
    random.Random(f"{config.seed}/conversations").shuffle(records)
    return records


def _questions(
    config: SamplesConfig,
    bridges: Sequence[Bridge],
    held: Sequence[Bridge],
    invented: Sequence[Bridge],
) -> list[dict[str, Any]]:
    counts = QuestionCounts(
        per_attribute=config.questions_per_fact,
        invented=config.unanswerable_questions,
        arithmetic=config.arithmetic_questions,
    )
    records = write_questions(bridges, held, invented, config.seed, counts)
    records += write_safety_questions(held, config.seed)
    if config.specification:
        for language in LANGUAGES:
            records += write_spec_questions(language, config.seed)
    return records


def _facts(bridges: Sequence[Bridge], taught: Sequence[Bridge]) -> Iterator[dict[str, Any]]:
    """One row per bridge; ``split`` tells whether conversations mention it."""
    names = {bridge.id for bridge in taught}
    for bridge in bridges:
        row = {key: dict(v) if hasattr(v, "items") else v for key, v in vars(bridge).items()}
        yield {**row, "split": "taught" if bridge.id in names else "held"}
