"""A quote in, the rectangles to mark on its pages out."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace

from fledge.index.loaded import Box


def highlight(boxes: Sequence[Box], start: int, end: int) -> list[Box]:
    """The parts of ``boxes`` that draw [start, end), words cut in proportion to their characters.

    ``boxes`` are in the text's order and do not overlap, as a loader gives them.
    """
    marked = []
    first = max(bisect_right(boxes, start, key=lambda box: box.start) - 1, 0)
    for box in boxes[first:]:
        if box.start >= end:
            break
        if box.end > start:
            marked.append(_cut(box, max(start, box.start), min(end, box.end)))
    return marked


def _cut(box: Box, start: int, end: int) -> Box:
    step = (box.right - box.left) / (box.end - box.start)
    return replace(
        box,
        start=start,
        end=end,
        left=box.left + (start - box.start) * step,
        right=box.left + (end - box.start) * step,
    )
