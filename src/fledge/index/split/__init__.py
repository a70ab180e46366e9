"""Documents to chunks, each an exact span.  See docs/grounding-splitting.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fledge.core.lazy import facade

if TYPE_CHECKING:
    from fledge.index.split.config import SplitConfig as SplitConfig

__all__ = ["SplitConfig"]

__getattr__ = facade(__name__, {"SplitConfig": "config"})
