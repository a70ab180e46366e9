"""A model in, how its tokens are counted and what its context holds out."""

from __future__ import annotations

from fledge.core.protocols import ChatModel
from fledge.rag.answer import AnswerConfig
from fledge.rag.prompt import Counter, estimate_tokens

MARGIN = 32
"""Tokens that a chat template may add to a prompt."""
LEAST = 64
"""Tokens of a prompt below which there is none."""


def counter_of(model: ChatModel | None) -> Counter:
    """Tokens as the model counts them; estimated for one that is elsewhere."""
    engine = getattr(model, "engine", None)
    if engine is None:
        return estimate_tokens
    return lambda text: len(engine.tokenizer.encode(text))


def fitted(config: AnswerConfig, model: ChatModel | None) -> AnswerConfig:
    """``config`` with prompt and answer no longer than the model's context holds, where it is
    known; an answer gets at most a quarter of it."""
    engine = getattr(model, "engine", None)
    if engine is None:
        return config
    answer = min(config.max_new_tokens, engine.context // 4)
    budget = max(LEAST, min(config.budget, engine.context - answer - MARGIN))
    return config.model_copy(update={"budget": budget, "max_new_tokens": answer})
