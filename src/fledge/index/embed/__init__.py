"""Texts to vectors for an index: a folder, a server.  See docs/grounding-embedding.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fledge.core.lazy import facade

if TYPE_CHECKING:
    from fledge.index.embed.protocol import IndexEmbedder as IndexEmbedder

__all__ = ["IndexEmbedder"]

__getattr__ = facade(__name__, {"IndexEmbedder": "protocol"})
