"""Serve a chat model: the OpenAI-compatible API and the chat page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fledge.core.lazy import facade

if TYPE_CHECKING:
    from fledge.server.app import create_app as create_app
    from fledge.server.config import ServerConfig as ServerConfig
    from fledge.server.listen import serve as serve

__all__ = ["ServerConfig", "create_app", "serve"]

__getattr__ = facade(__name__, {"ServerConfig": "config", "create_app": "app", "serve": "listen"})
