"""Chunks that were found in, passages out: the chunk, sentences around it, or a larger chunk.

Texts are always slices of the document, never put together from pieces.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from fledge.index.sentences import sentences
from fledge.index.store.protocol import Found, Snapshot
from fledge.rag.fusion import Candidate
from fledge.rag.passage import Passage
from fledge.rag.retrieval_config import WidenConfig

REACH = 400
"""Characters that are read for each sentence of a window; longer sentences make it smaller."""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A chunk on its way to a passage, and the numbers of the chunks that led to it."""

    found: Found
    score: float
    scores: dict[str, float] = field(default_factory=dict)
    led: tuple[int, ...] = ()


def widened(
    candidates: Sequence[Candidate], found: Sequence[Found], config: WidenConfig, snapshot: Snapshot
) -> list[Passage]:
    """A passage for each candidate, in their order; wider ones that overlap become one."""
    pieces = [
        Piece(found=chunk, score=one.score, scores=dict(one.scores), led=(one.chunk,))
        for one, chunk in zip(candidates, found, strict=True)
    ]
    if config.how in ("merge", "parent"):
        share = config.share if config.how == "merge" else 0.0
        pieces = _merged(pieces, share, snapshot)
    passages = [_passage(piece) for piece in pieces]
    if config.how == "window":
        passages = [_window(passage, config.window, snapshot) for passage in passages]
    return passages if config.how == "none" else _joined(passages, snapshot)


def _passage(piece: Piece) -> Passage:
    chunk = piece.found
    return Passage(
        span=chunk.span,
        text=chunk.text,
        path=chunk.path,
        score=piece.score,
        place=chunk.place,
        heading=chunk.heading,
        date=chunk.date,
        metadata=chunk.metadata,
        found=piece.led,
        scores=piece.scores,
    )


def _merged(pieces: list[Piece], share: float, snapshot: Snapshot) -> list[Piece]:
    """Pieces replaced by their parent, level by level, where ``share`` of its children are there.

    A ``share`` of 0 takes one level of parents whatever there is.
    """
    while True:
        parents = {p.found.parent for p in pieces if p.found.parent is not None}
        if not parents:
            return pieces
        children = snapshot.children(sorted(parents))
        held: dict[int, list[Piece]] = {}
        for piece in pieces:
            if piece.found.parent is not None:
                held.setdefault(piece.found.parent, []).append(piece)
        chosen = sorted(
            parent
            for parent, group in held.items()
            if not share or _enough(len(group), len(children.get(parent, ())), share)
        )
        if not chosen:
            return pieces
        above = dict(zip(chosen, snapshot.chunks(chosen), strict=True))
        pieces = _replaced(pieces, above)
        if not share:
            return pieces


def _enough(held: int, children: int, share: float) -> bool:
    return held > 1 and held >= share * children


def _replaced(pieces: Sequence[Piece], above: dict[int, Found]) -> list[Piece]:
    """Each group of children as its parent, where the best of them stood."""
    kept: dict[tuple[str, int], Piece] = {}
    for piece in pieces:
        parent = piece.found.parent
        if parent not in above:
            kept[("own", piece.found.chunk)] = piece
            continue
        key = ("parent", parent)
        first = kept.get(key)
        if first is None:
            kept[key] = replace(piece, found=above[parent])
        else:
            kept[key] = replace(first, led=(*first.led, *piece.led))
    return list(kept.values())


def _window(passage: Passage, count: int, snapshot: Snapshot) -> Passage:
    """The passage with up to ``count`` sentences more on each side."""
    span, reach = passage.span, REACH * count
    if not count:
        return passage
    first = max(0, span.start - reach)
    before = snapshot.text(span.document, first, span.start)
    after = snapshot.text(span.document, span.end, span.end + reach)
    left = sentences(before)
    if first > 0:
        left = left[1:]  # it began before what was read
    right = sentences(after)
    if len(after) == reach:
        right = right[:-1]  # it may go on behind it
    start = first + left[-count:][0][0] if left else span.start
    end = span.end + right[:count][-1][1] if right else span.end
    return _moved(passage, start, end, snapshot)


def _moved(passage: Passage, start: int, end: int, snapshot: Snapshot) -> Passage:
    """The passage as another span of its document."""
    span = passage.span
    if (start, end) == (span.start, span.end):
        return passage
    place = passage.place if start == span.start else place_at(snapshot, span.document, start)
    return replace(
        passage,
        span=replace(span, start=start, end=end),
        text=snapshot.text(span.document, start, end),
        place=place,
    )


def place_at(snapshot: Snapshot, document: str, start: int) -> str:
    """The label of the place where a character stands: "page 3"; "" where there is none."""
    places = snapshot.places(document)
    at = bisect_right([place.start for place in places], start) - 1
    return places[at].label if at >= 0 and start < places[at].end else ""


def _joined(passages: Sequence[Passage], snapshot: Snapshot) -> list[Passage]:
    """Passages that overlap in a document as one, where the better of them stood."""
    kept: list[Passage] = []
    for passage in passages:
        grown = passage
        place = len(kept)
        while True:
            others = [i for i, one in enumerate(kept) if _overlap(one, grown)]
            if not others:
                break
            place = min(place, others[0])
            for i in reversed(others):
                grown = _union(kept.pop(i), grown, snapshot)
        kept.insert(min(place, len(kept)), grown)
    return kept


def _overlap(one: Passage, other: Passage) -> bool:
    a, b = one.span, other.span
    return (a.document, a.hash) == (b.document, b.hash) and a.start < b.end and b.start < a.end


def _union(better: Passage, other: Passage, snapshot: Snapshot) -> Passage:
    start = min(better.span.start, other.span.start)
    end = max(better.span.end, other.span.end)
    led = tuple(dict.fromkeys((*better.found, *other.found)))
    if other.score > better.score:
        better, other = other, better
    return replace(_moved(better, start, end, snapshot), found=led)
