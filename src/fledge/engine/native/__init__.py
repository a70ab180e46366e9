"""The decoder on CPUs: one call a step into C++ compiled on first use.  No torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fledge.core.lazy import facade

if TYPE_CHECKING:
    from fledge.engine.native.runner import NativeRunner as NativeRunner

__all__ = ["NativeRunner"]

__getattr__ = facade(__name__, {"NativeRunner": "runner"})
