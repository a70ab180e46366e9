"""Chat models: the local engine, any OpenAI-compatible URL, and a script."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fledge.core.lazy import facade

if TYPE_CHECKING:
    from fledge.client.completer import Completer as Completer
    from fledge.client.echo import Echo as Echo
    from fledge.client.local import LocalModel as LocalModel
    from fledge.client.open import open_model as open_model
    from fledge.client.remote import RemoteModel as RemoteModel

__all__ = ["Completer", "Echo", "LocalModel", "RemoteModel", "open_model"]

__getattr__ = facade(
    __name__,
    {
        "Completer": "completer",
        "Echo": "echo",
        "LocalModel": "local",
        "RemoteModel": "remote",
        "open_model": "open",
    },
)
