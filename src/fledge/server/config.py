"""The config of the server."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from fledge.core.config import Config


class ServerConfig(Config):
    """How the server shares one model among its clients."""

    api_keys: tuple[str, ...] = ()
    """Keys of which a client must send one as ``Authorization: Bearer KEY``; none: open to all."""

    concurrent: int = Field(default=16, ge=1)
    """Answers written at the same time, token by token in turn."""

    waiting: int = Field(default=32, ge=0)
    """Requests that may wait for their turn; the next one gets 429."""

    max_body_bytes: int = Field(default=1_000_000, ge=1)
    """A longer request gets 413."""

    adapter_folder: Path | None = None
    """Clients may load the LoRA adapters in this folder; None: none but those it starts with."""

    drain_seconds: float = Field(default=30.0, ge=0)
    """After SIGTERM or Ctrl-C, running answers have this long to finish."""
