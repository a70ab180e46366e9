"""Train a byte-level BPE, encode and decode, render conversations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fledge.core.lazy import facade

if TYPE_CHECKING:
    from fledge.tokenizer.config import TokenizerConfig as TokenizerConfig
    from fledge.tokenizer.tokenizer import Tokenizer as Tokenizer
    from fledge.tokenizer.train import train_tokenizer as train_tokenizer

__all__ = ["Tokenizer", "TokenizerConfig", "train_tokenizer"]

__getattr__ = facade(
    __name__,
    {"Tokenizer": "tokenizer", "TokenizerConfig": "config", "train_tokenizer": "train"},
)
