"""The sampler chain in numpy: logits of one row in, the next token and its record out; no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fledge.core.lazy import facade

if TYPE_CHECKING:
    from fledge.engine.chain.inspection import Inspection as Inspection
    from fledge.engine.chain.lookup import NgramIndex as NgramIndex
    from fledge.engine.chain.sampler import Choice as Choice
    from fledge.engine.chain.sampler import Sampler as Sampler
    from fledge.engine.chain.settings import Settings as Settings

__all__ = ["Choice", "Inspection", "NgramIndex", "Sampler", "Settings"]

__getattr__ = facade(
    __name__,
    {
        "Choice": "sampler",
        "Inspection": "inspection",
        "NgramIndex": "lookup",
        "Sampler": "sampler",
        "Settings": "settings",
    },
)
