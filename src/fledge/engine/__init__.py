"""Generate text with a model: KV-cached, batched, sampled, streamed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fledge.core.lazy import facade

if TYPE_CHECKING:
    from fledge.engine.engine import Engine as Engine
    from fledge.engine.errors import ContextLengthError as ContextLengthError
    from fledge.engine.loading import load_engine as load_engine
    from fledge.engine.request import Generation as Generation
    from fledge.engine.request import Token as Token

__all__ = ["ContextLengthError", "Engine", "Generation", "Token", "load_engine"]

__getattr__ = facade(
    __name__,
    {
        "ContextLengthError": "errors",
        "Engine": "engine",
        "Generation": "request",
        "Token": "request",
        "load_engine": "loading",
    },
)
