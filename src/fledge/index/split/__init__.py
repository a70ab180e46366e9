"""Documents to chunks, each an exact span.  See docs/grounding-splitting.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fledge.core.lazy import facade

if TYPE_CHECKING:
    from fledge.index.split.config import SplitConfig as SplitConfig
    from fledge.index.split.measure import starts_of as starts_of
    from fledge.index.split.splitting import VERSION as VERSION
    from fledge.index.split.splitting import split as split

__all__ = ["VERSION", "SplitConfig", "split", "starts_of"]

__getattr__ = facade(
    __name__,
    {"SplitConfig": "config", "VERSION": "splitting", "split": "splitting", "starts_of": "measure"},
)
