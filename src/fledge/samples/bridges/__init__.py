"""The sample world of bridges: facts, a messy web with ground truth, conversations, questions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fledge.core.lazy import facade

if TYPE_CHECKING:
    from fledge.samples.bridges.config import SamplesConfig as SamplesConfig
    from fledge.samples.bridges.world import write_world as write_world

__all__ = ["SamplesConfig", "write_world"]
__getattr__ = facade(__name__, {"SamplesConfig": "config", "write_world": "world"})
