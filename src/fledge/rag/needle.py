"""Depths and lengths in, a grid of how often the needle was found out: by retrieval, by a model."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from fledge.core.config import Config
from fledge.core.errors import FledgeError
from fledge.core.protocols import ChatModel, Progress, Sampling, Silent
from fledge.core.types import Message
from fledge.metrics.answers import answers
from fledge.rag.haystack import Needle, hay, needle, own_hay, stack
from fledge.rag.language import Language

Mode = Literal["retrieval", "context"]
ROOM = 48
"""Tokens that a model may answer with."""
_ASK: dict[Language, str] = {
    "en": "{text}\n\nAnswer from the text above, in a few words: {question}",
    "zh": "{text}\n\n请根据上文简短回答：{question}",
}


class NeedleConfig(Config):
    """The grid."""

    depths: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    """Where the needle is: 0 first, 1 last."""
    lengths: tuple[int, ...] = Field(default=(500, 1000, 2000, 4000), min_length=1)
    """Tokens of the haystack, estimated."""
    languages: tuple[Language, ...] = ("en", "zh")
    repeats: int = Field(default=3, ge=1, le=100)
    """Needles for each place in the grid."""
    seed: int = 0
    embedder: str = "none"
    """Of retrieval."""
    size: int = Field(default=200, ge=1)
    """Of retrieval: the most tokens of a chunk."""
    k: int = Field(default=1, ge=1)
    """Of retrieval: passages among which the needle must be."""


@dataclass(kw_only=True)
class Grid:
    """Shares found: ``found[length][depth]`` of ``tried``; failures of the model by their text."""

    mode: Mode
    language: Language
    lengths: tuple[int, ...]
    depths: tuple[float, ...]
    found: list[list[float]]
    tried: int
    notes: dict[str, int] = field(default_factory=dict)

    @property
    def share(self) -> float:
        """Over the whole grid."""
        cells = [value for row in self.found for value in row]
        return sum(cells) / len(cells)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {**vars(self), "share": self.share}


def needle_grids(
    config: NeedleConfig,
    *,
    model: ChatModel | None = None,
    own: str = "",
    progress: Progress | None = None,
) -> list[Grid]:
    """A grid for each language, of retrieval, or of ``model``'s own context when there is one.

    ``own``: a text of one's own as hay, for all languages.
    """
    progress = progress or Silent()
    cells = len(config.depths) * len(config.lengths) * config.repeats * len(config.languages)
    mode: Mode = "retrieval" if model is None else "context"
    with progress.bar("needle", cells, "needles") as bar:
        return [
            _grid(config, language, mode, _tester(config, language, model), own, bar.advance)
            for language in config.languages
        ]


Tester = Callable[[str, Needle], bool]


def _grid(
    config: NeedleConfig,
    language: Language,
    mode: Mode,
    test: Tester,
    own: str,
    advance: Callable[[], None],
) -> Grid:
    grid = Grid(
        mode=mode,
        language=language,
        lengths=config.lengths,
        depths=config.depths,
        found=[],
        tried=config.repeats,
    )
    for length in config.lengths:
        row = []
        for depth in config.depths:
            hits = 0
            for repeat in range(config.repeats):
                seed = config.seed * 1000 + repeat
                straws = own_hay(own, length) if own else hay(language, length, seed)
                one = needle(language, seed)
                try:
                    hits += test(stack(straws, one, depth, language), one)
                except FledgeError as error:  # a context that is too short finds nothing
                    grid.notes[error.message] = grid.notes.get(error.message, 0) + 1
                advance()
            row.append(hits / config.repeats)
        grid.found.append(row)
    return grid


def _tester(config: NeedleConfig, language: Language, model: ChatModel | None) -> Tester:
    if model is None:
        return lambda text, one: _retrieved(text, one, config)

    def ask(text: str, one: Needle) -> bool:
        prompt = _ASK[language].format(text=text, question=one.question)
        message = Message(role="user", content=prompt)
        reply = model.chat([message], Sampling(max_new_tokens=ROOM))
        return answers(reply.text, one.answer, question=one.question)

    return ask


def _retrieved(text: str, one: Needle, config: NeedleConfig) -> bool:
    """Whether the needle's sentence is in one of the first passages of an index of the text."""
    from fledge.index.config import IndexConfig
    from fledge.index.embed import open_embedder
    from fledge.index.folder import build_index
    from fledge.rag.grounding import opened
    from fledge.rag.retrieval_config import RetrievalConfig

    with tempfile.TemporaryDirectory(prefix="fledge-needle-") as name:
        work = Path(name)
        (work / "hay").mkdir()
        (work / "hay" / "hay.txt").write_text(text, encoding="utf-8")
        index = IndexConfig(
            input=(str(work / "hay"),),
            embedder=config.embedder,
            split={"size": config.size},
        )
        embedder = open_embedder(config.embedder)
        try:
            build_index(index, work / "index", embedder)
        finally:
            embedder.close()
        with opened(work / "index") as grounding, grounding.store.snapshot() as snapshot:
            retriever = grounding.retriever(RetrievalConfig(k=config.k))
            passages = retriever.retrieve(snapshot, one.question).passages
    return any(one.sentence in passage.text for passage in passages)


def worst(grids: Sequence[Grid]) -> float:
    """The smallest share of any place in any grid."""
    return min(value for grid in grids for row in grid.found for value in row)
