"""The config of tokenizer training."""

from __future__ import annotations

from pydantic import Field

from fledge.core.config import Config


class TokenizerConfig(Config):
    """How to train the tokenizer, or which one to take over."""

    vocab_size: int = Field(default=4096, ge=300, le=1_000_000)
    """Entries in all: special tokens, 256 bytes and merges."""

    sample_bytes: int = Field(default=50_000_000, ge=1)
    """Train on at most this many bytes of text (UTF-8), taken evenly from the documents."""

    terms: list[str] = Field(default_factory=list)
    """Texts that shall cost few tokens though the documents hold none of them, such as the roles
    of the chat template and the names of tools: their words become entries of the vocabulary."""

    source: str = ""
    """A folder whose tokenizer is taken over instead of training one."""
