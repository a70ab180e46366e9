"""GGUF, the one-file format of llama.cpp: a decoder and its tokenizer in and out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fledge.core.lazy import facade

if TYPE_CHECKING:
    from fledge.model.gguf.magic import is_gguf as is_gguf
    from fledge.model.gguf.read import GgufFile as GgufFile
    from fledge.model.gguf.read import gguf_tokenizer as gguf_tokenizer
    from fledge.model.gguf.read import load_gguf as load_gguf
    from fledge.model.gguf.read import read_gguf as read_gguf
    from fledge.model.gguf.write import write_gguf as write_gguf

__all__ = ["GgufFile", "gguf_tokenizer", "is_gguf", "load_gguf", "read_gguf", "write_gguf"]

__getattr__ = facade(
    __name__,
    {
        "GgufFile": "read",
        "gguf_tokenizer": "read",
        "is_gguf": "magic",
        "load_gguf": "read",
        "read_gguf": "read",
        "write_gguf": "write",
    },
)
