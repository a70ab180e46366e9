"""A tokenizer in, one that can write conversations out.  No torch."""

from __future__ import annotations

from fledge.tokenizer.template import SPECIAL_TOKENS
from fledge.tokenizer.tokenizer import Tokenizer

CHATML = SPECIAL_TOKENS[1:7]
"""Turns, calls and their results: all that the ChatML template writes."""


def chat_tokenizer(tokenizer: Tokenizer) -> tuple[Tokenizer, tuple[str, ...]]:
    """The tokenizer with a chat template all of whose tokens it knows, and those it was given.

    One that has its own template stays as it is; one without gets ChatML.
    """
    missing = tuple(token for token in CHATML if not tokenizer.has_token(token))
    if tokenizer.has_template or not missing:
        return tokenizer, ()
    return tokenizer.extended(missing), missing
