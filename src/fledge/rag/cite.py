"""What a model wrote with markers in, text whose every marker was checked out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from fledge.core.types import Span
from fledge.index.sentences import sentences
from fledge.index.store.protocol import Snapshot
from fledge.index.terms import terms
from fledge.rag.answered import Citation
from fledge.rag.checks import Borne, bears_out
from fledge.rag.passage import Passage

_MARKERS = re.compile(r"\s*[\[【](\d{1,3}(?:\s*[,，、;]\s*\d{1,3})*)[\]】]")
_LEADING = re.compile(r"(?:\s*[\[【]\d{1,3}(?:\s*[,，、;]\s*\d{1,3})*[\]】][.。]?)+")


@dataclass(frozen=True, kw_only=True)
class Checked:
    """One sentence of an answer as it may be shown; ``text`` is "" when it may not."""

    text: str
    citations: tuple[Citation, ...] = ()
    dropped: str = ""
    note: str = ""


@dataclass
class Checker:
    """Checks the sentences of one answer one after the other, and numbers what they cite.

    ``passages`` are numbered from 1, as the model was told.
    """

    question: str
    passages: Sequence[Passage]
    snapshot: Snapshot
    citations: list[Citation] = field(default_factory=list)

    def check(self, written: str) -> Checked:
        """A sentence with or without markers, checked.

        A marker stays when its passage bears the sentence out, and then stands for the very
        sentences that do; where another passage does, that one is cited instead.  A sentence that
        says something no passage bears out is dropped.
        """
        named = _numbers(written)
        plain = _MARKERS.sub("", written).strip()
        if not set(terms(plain)):
            return Checked(text=plain if any(c.isalnum() for c in plain) else "")
        cited, wrong = self._borne(plain, [n - 1 for n in named])
        note = ""
        if not cited:
            cited, _ = self._borne(plain, range(len(self.passages)))
            cited = cited[:1]
            if cited and wrong:
                note = f"a citation of [{named[0]}] did not hold: another passage does"
        if not cited:
            return Checked(text="", dropped=plain, note="a sentence that no passage bears out")
        found = [self._citation(passage, borne) for passage, borne in cited]
        found = [one for one in found if one.holds(self.snapshot)]
        if not found:
            return Checked(text="", dropped=plain, note="a quotation that its document lacks")
        known = list(dict.fromkeys(one.marker for one in found))
        return Checked(text=with_markers(plain, known), citations=tuple(found), note=note)

    def _borne(
        self, sentence: str, places: Sequence[int] | range
    ) -> tuple[list[tuple[Passage, Borne]], int]:
        """The passages of these places that bear a sentence out, and how many do not."""
        found, wrong = [], 0
        for place in places:
            passage = self.passages[place] if 0 <= place < len(self.passages) else None
            borne = bears_out(sentence, passage.text, self.question) if passage else None
            if passage is None or borne is None:
                wrong += 1
            else:
                found.append((passage, borne))
        return found, wrong

    def _citation(self, passage: Passage, borne: Borne) -> Citation:
        """A new marker, or the one that stands for the same words already."""
        span = _inside(passage.span, borne.start, borne.end)
        for one in self.citations:
            if one.span == span:
                return one
        citation = Citation(
            marker=f"[{len(self.citations) + 1}]",
            path=passage.path,
            span=span,
            quote=passage.text[borne.start : borne.end],
            place=passage.place,
        )
        self.citations.append(citation)
        return citation


def with_markers(sentence: str, markers: Sequence[str]) -> str:
    """ "It opened in 1937. [1]", "建于隋朝。[1]"."""
    gap = "" if sentence.endswith(tuple("。！？；”」』）")) else " "
    return f"{sentence}{gap}{''.join(markers)}"


def _inside(span: Span, start: int, end: int) -> Span:
    return replace(span, start=span.start + start, end=span.start + end)


def _numbers(text: str) -> list[int]:
    """The passages that a sentence names, in order."""
    found = [int(n) for match in _MARKERS.finditer(text) for n in re.findall(r"\d+", match[1])]
    return list(dict.fromkeys(found))


@dataclass(frozen=True)
class Claim:
    """A sentence with the markers behind it, and what parts it from the one before."""

    gap: str
    text: str
    start: int = 0
    """Where it begins in the text that was split."""


class Claims:
    """A text that comes in pieces, as whole sentences."""

    def __init__(self) -> None:
        self._rest = ""
        self._begun = False

    def feed(self, piece: str) -> Iterator[Claim]:
        """The sentences that are complete: the next one has begun, and not with a marker."""
        self._rest += piece
        whole = split_claims(self._rest)
        if len(whole) > 1 and any(character.isalpha() for character in whole[-1].text):
            yield from self._given(whole[:-1])
            self._rest = whole[-1].gap + self._rest[whole[-1].start :]

    def end(self) -> Iterator[Claim]:
        """What is left."""
        yield from self._given(split_claims(self._rest))
        self._rest = ""

    def _given(self, claims: Sequence[Claim]) -> Iterator[Claim]:
        for claim in claims:
            yield claim if self._begun else replace(claim, gap="")
            self._begun = True


def split_claims(text: str) -> list[Claim]:
    """Sentences, each with the markers that follow it: "It opened in 1937. [1]"."""
    found: list[Claim] = []
    behind = 0
    for start, end in sentences(text):
        sentence, gap = text[start:end], _gap(text[behind:start])
        behind = end
        leading = _LEADING.match(sentence)
        if leading and found:
            found[-1] = replace(found[-1], text=f"{found[-1].text} {leading[0].strip()}")
            start += leading.end()
            start += len(text[start:end]) - len(text[start:end].lstrip())
            sentence = text[start:end]
        if sentence:
            found.append(Claim(gap, sentence, start))
    return found


def _gap(between: str) -> str:
    """Paragraphs and lines stay apart; other blanks become one."""
    if "\n" in between:
        return "\n\n" if between.count("\n") > 1 else "\n"
    return " " if between else ""
