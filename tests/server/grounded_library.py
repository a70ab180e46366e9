"""A small index for tests of the server, and a model whose answers need checking."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fledge.core.types import Message
from fledge.index.config import IndexConfig
from fledge.index.embed import open_embedder
from fledge.index.folder import build_index
from fledge.rag.grounding import opened
from fledge.server.grounded import Library

TEXTS = {
    "humber.txt": "The Humber Bridge crosses an estuary. The Humber Bridge opened in 1981."
    " Its main span is 1,410 metres long.",
    "zhaozhou.txt": "赵州桥位于河北省。赵州桥由李春设计。主拱跨度为37.02米。",
    **{f"other{i}.txt": f"Ledger {i} lists the price of oats and hay." for i in range(40)},
}


def script(messages: list[Message]) -> str:
    """Something true and something made up about a bridge, or who designed another."""
    if "Humber" in messages[-1].content.rsplit("Question:")[-1]:
        return "The Humber Bridge opened in 1981 [1]. It was designed by Leonardo [1]."
    return "赵州桥由李春设计[1]。"


@contextmanager
def small_library(folder: Path) -> Iterator[Library]:
    """An index of ``TEXTS`` below ``folder``, found by words only."""
    texts, index = folder / "texts", folder / "index"
    texts.mkdir()
    for name, text in TEXTS.items():
        (texts / name).write_text(text, encoding="utf-8")
    build_index(IndexConfig(input=[str(texts)], embedder="none"), index, open_embedder("none"))
    with opened(index) as grounding:
        yield Library(grounding)
