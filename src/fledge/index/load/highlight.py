"""A quote in, the rectangles to mark on its pages out."""

from __future__ import annotations

from collections.abc import Sequence

from fledge.index.loaded import Box


def highlight(boxes: Sequence[Box], start: int, end: int) -> list[Box]:
    """The parts of ``boxes`` that draw [start, end), words cut in proportion to their characters.

    ``boxes`` are in the text's order.
    """
    raise NotImplementedError
