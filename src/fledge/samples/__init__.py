"""The built-in sample world, so that the default recipe needs no network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fledge.core.lazy import facade

if TYPE_CHECKING:
    from fledge.samples.bridges.config import SamplesConfig as SamplesConfig
    from fledge.samples.bridges.world import write_world as write_world

__all__ = ["SamplesConfig", "write_world"]
__getattr__ = facade(__name__, {"SamplesConfig": "bridges.config", "write_world": "bridges.world"})
