"""Names for ways of retrieving that are worth comparing, and the settings behind each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fledge.core.config import nearest, parse_config
from fledge.core.errors import InputError
from fledge.rag.retrieval_config import RetrievalConfig


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """A way of retrieving."""

    name: str
    about: str
    settings: dict[str, Any]
    hierarchical: bool = False
    """Whether it needs chunks inside larger chunks."""
    windowed: bool = False
    """Whether the window's size matters."""
    model: bool = False
    """Whether it asks a language model."""
    embedder: bool = False
    """Whether it is nothing without an embedder."""


_PLAIN = {"rerank": {"how": "none"}}
_EQUAL = {language: {"dense": 1, "lexical": 1} for language in ("en", "zh")}

STRATEGIES: dict[str, Strategy] = {
    one.name: one
    for one in (
        Strategy(name="lexical", about="BM25 alone", settings={"legs": "lexical", **_PLAIN}),
        Strategy(name="dense", about="the embedder alone", settings={"legs": "dense", **_PLAIN},
                 embedder=True),
        Strategy(name="rrf", about="both, by equal reciprocal ranks", embedder=True,
                 settings={"fusion": {"how": "ranks", "weights": _EQUAL}, **_PLAIN}),
        Strategy(name="hybrid", about="both, by weighted scores", settings=_PLAIN),
        Strategy(name="default", about="hybrid and a second look at the terms", settings={}),
        Strategy(name="window", about="default with the sentences around", windowed=True,
                 settings={"widen": {"how": "window"}}),
        Strategy(name="merge", about="default, parts found together become their larger chunk",
                 settings={"widen": {"how": "merge"}}, hierarchical=True),
        Strategy(name="parent", about="default, always the larger chunk",
                 settings={"widen": {"how": "parent"}}, hierarchical=True),
        Strategy(name="diverse", about="default without repetitions", settings={"diversity": 0.3}),
        *(
            Strategy(name=how, about=f"default with {how}", settings={"expand": {"how": how}},
                     model=True)
            for how in ("multi_query", "fusion", "hyde", "decompose")
        ),
    )
}  # fmt: skip


def strategy(name: str) -> Strategy:
    """The strategy of this name; raises InputError naming the nearest."""
    if name not in STRATEGIES:
        raise InputError(f"strategy {name!r} is not known", remedy=nearest(name, list(STRATEGIES)))
    return STRATEGIES[name]


def config_of(one: Strategy, *, k: int, window: int) -> RetrievalConfig:
    """Its settings, with so many passages and sentences on each side."""
    values = {**one.settings, "k": k}
    if one.windowed:
        values["widen"] = {"how": "window", "window": window}
    return parse_config(RetrievalConfig, values, f"strategy {one.name}")
