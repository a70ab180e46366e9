"""Documents and labelled questions in, every strategy's quality, time and cost out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from fledge.core.config import Config
from fledge.core.errors import InputError
from fledge.core.protocols import ChatModel, Progress, Silent
from fledge.index.config import IndexConfig
from fledge.rag.answer import AnswerConfig
from fledge.rag.grounding import opened
from fledge.rag.measuring import Measured, measure
from fledge.rag.questions import Labelled, check_documents
from fledge.rag.strategies import Strategy, config_of, strategy
from fledge.rag.tools import Reranker

DEFAULT = ("lexical", "dense", "rrf", "hybrid", "default", "window", "merge", "parent")
OUTER = 4
"""A larger chunk of a hierarchy is so many times the smaller one's size."""


class CompareConfig(Config):
    """The grid."""

    strategies: tuple[str, ...] = DEFAULT
    """Names; see the docs.  Those that need what is not there are left out with a reason."""
    sizes: tuple[int, ...] = Field(default=(200,), min_length=1)
    """The most tokens of a chunk."""
    windows: tuple[int, ...] = Field(default=(2,), min_length=1)
    """Sentences on each side, of the strategy window."""
    ks: tuple[int, ...] = Field(default=(5,), min_length=1)
    """Passages."""
    answer: AnswerConfig = AnswerConfig()


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One combination."""

    strategy: Strategy
    size: int
    window: int | None
    k: int

    @property
    def split(self) -> tuple[str, int]:
        """Which index it searches."""
        return ("hierarchical" if self.strategy.hierarchical else "auto", self.size)


@dataclass(frozen=True, kw_only=True)
class Row:
    """A combination and what it did."""

    cell: Cell
    measured: Measured

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        cell = self.cell
        return {
            "strategy": cell.strategy.name,
            "size": cell.size,
            "window": cell.window,
            "k": cell.k,
            **self.measured.to_json(),
        }


def cells(config: CompareConfig, *, embeds: bool, model: bool) -> tuple[list[Cell], dict[str, str]]:
    """The combinations, those of one index together; and why strategies are left out."""
    found: list[Cell] = []
    left_out: dict[str, str] = {}
    for name in config.strategies:
        one = strategy(name)
        if one.embedder and not embeds:
            left_out[name] = "needs an embedder"
        elif one.model and not model:
            left_out[name] = "needs a language model"
        else:
            windows: Sequence[int | None] = config.windows if one.windowed else (None,)
            found += [
                Cell(strategy=one, size=size, window=window, k=k)
                for size in config.sizes
                for window in windows
                for k in config.ks
            ]
    return sorted(found, key=lambda cell: cell.split), left_out


def compare(
    config: CompareConfig,
    index: IndexConfig,
    questions: Sequence[Labelled],
    work: Path,
    *,
    model: ChatModel | None = None,
    reranker: Reranker | None = None,
    progress: Progress | None = None,
) -> tuple[list[Row], dict[str, str]]:
    """A row for each combination.  Indexes are built below ``work`` and are there the next time.

    Raises InputError when nothing is left to compare.
    """
    progress = progress or Silent()
    grid, left_out = cells(config, embeds=index.embedder != "none", model=model is not None)
    if not grid:
        raise InputError(
            "no strategy is left to compare",
            remedy="; ".join(f"{name} {why}" for name, why in left_out.items()),
        )
    rows: list[Row] = []
    with progress.bar("compare", len(grid) * len(questions), "questions") as bar:
        for split, group in _by_index(grid):
            folder = _built(index, split, work, progress)
            with opened(folder, model=model, reranker=reranker) as grounding:
                with grounding.store.snapshot() as snapshot:
                    check_documents(questions, snapshot)
                for cell in group:
                    retrieval = config_of(cell.strategy, k=cell.k, window=cell.window or 0)
                    answerer = grounding.answerer(retrieval, config.answer)
                    with grounding.store.snapshot() as snapshot:
                        measured = measure(answerer, snapshot, questions, each=bar.advance)
                    rows.append(Row(cell=cell, measured=measured))
    order = {name: place for place, name in enumerate(config.strategies)}
    rows.sort(key=lambda row: (order[row.cell.strategy.name], row.cell.size, row.cell.k))
    return rows, left_out


def _by_index(grid: Sequence[Cell]) -> Iterator[tuple[tuple[str, int], list[Cell]]]:
    for split in dict.fromkeys(cell.split for cell in grid):
        yield split, [cell for cell in grid if cell.split == split]


def _built(index: IndexConfig, split: tuple[str, int], work: Path, progress: Progress) -> Path:
    """The index with chunks of one kind and size, made or brought up to date."""
    from fledge.index.embed import open_embedder
    from fledge.index.folder import build_index

    kind, size = split
    changes: dict[str, Any] = {"size": size}
    if kind == "hierarchical":
        changes |= {"strategy": kind, "sizes": (OUTER * size, size)}
    config = index.model_copy(update={"split": index.split.model_copy(update=changes)})
    folder = work / f"{kind}-{size}"
    embedder = open_embedder(index.embedder, progress=progress)
    try:
        build_index(config, folder, embedder, force=True, progress=progress)
    finally:
        embedder.close()
    return folder
