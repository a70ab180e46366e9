"""What doors that answer from an index share: options, the model's room, an index opened."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fledge.cli.progress import terminal_progress
from fledge.core.protocols import ChatModel

if TYPE_CHECKING:
    from fledge.rag.grounding import Grounding
    from fledge.rag.retrieval_config import RetrievalConfig

FolderT = TypeVar("FolderT", bound=Callable[..., Any])


def retrieval_options(door: FolderT) -> FolderT:
    """Options that say how passages are found."""
    for option in (
        click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE",
                     help="rerank.how=none, widen.window=3, …"),
        click.option("--reranker", metavar="DIR|URL", help="A cross-encoder, or …/v1/rerank."),
        click.option("-k", "count", type=click.IntRange(1, 200), default=5, show_default=True,
                     help="Passages."),
        click.option("--strategy", default="default", show_default=True, metavar="NAME",
                     help="How passages are found; fledge rag strategies lists them."),
    ):  # fmt: skip
        door = option(door)
    return door


def retrieval_of(strategy: str, count: int, overrides: tuple[str, ...]) -> RetrievalConfig:
    """The config that the options say."""
    from fledge.core.config import parse_config
    from fledge.core.recipe import apply_override
    from fledge.rag.retrieval_config import RetrievalConfig
    from fledge.rag.strategies import strategy as known

    values: dict[str, Any] = {**known(strategy).settings, "k": count}
    if any(override.startswith("rerank.how=model") for override in overrides):
        values["rerank"] = {"how": "model"}
    for override in overrides:
        apply_override(values, override)
    return parse_config(RetrievalConfig, values, "--strategy and --set")


@contextmanager
def grounding(
    folder: Path, model: ChatModel | None = None, reranker: str | None = None
) -> Iterator[Grounding]:
    """The index in ``folder``, open."""
    from fledge.rag.grounding import opened
    from fledge.rag.rerankers import open_reranker
    from fledge.rag.room import counter_of

    chosen = open_reranker(reranker) if reranker else None
    with opened(folder, model=model, reranker=chosen, count=counter_of(model)) as found:
        yield found


def opened_model(spec: str | None) -> ChatModel | None:
    """The model that ``--model`` names, if any."""
    if spec is None:
        return None
    from fledge.client.open import open_model

    return open_model(spec, progress=terminal_progress())
