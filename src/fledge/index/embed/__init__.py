"""Texts to vectors for an index: a folder, a server.  See docs/grounding-embedding.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fledge.core.lazy import facade

if TYPE_CHECKING:
    from fledge.index.embed.cache import default_cache as default_cache
    from fledge.index.embed.opening import open_embedder as open_embedder
    from fledge.index.embed.protocol import IndexEmbedder as IndexEmbedder
    from fledge.index.embed.trust import LanguageScore as LanguageScore
    from fledge.index.embed.trust import measure_languages as measure_languages
    from fledge.index.embed.trust import write_languages as write_languages

__all__ = [
    "IndexEmbedder",
    "LanguageScore",
    "default_cache",
    "measure_languages",
    "open_embedder",
    "write_languages",
]

__getattr__ = facade(
    __name__,
    {
        "IndexEmbedder": "protocol",
        "LanguageScore": "trust",
        "default_cache": "cache",
        "measure_languages": "trust",
        "open_embedder": "opening",
        "write_languages": "trust",
    },
)
