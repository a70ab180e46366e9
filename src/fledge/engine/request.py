"""What comes out of the engine: tokens as they are drawn, and whole generations."""

from __future__ import annotations

from dataclasses import dataclass, field

from fledge.engine.chain.sampler import Choice


@dataclass(frozen=True, kw_only=True)
class Generation:
    """A finished generation.

    ``text`` has neither special tokens nor a stop text.  ``token_ids`` are the tokens drawn,
    without the stop token.  ``finish_reason``: "stop" (stop token or text, or the grammar's end)
    or "length" (``max_new_tokens`` or the context is used up).
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: str
    prompt_tokens: int
    choices: tuple[Choice, ...] = ()
    """With ``logprobs`` or ``inspect``: how each of ``token_ids`` was drawn, and the stop token
    behind them if one was."""
    prompt_choices: tuple[Choice, ...] = ()
    """With ``echo``: what the model thought of each token of the prompt but the first."""
    others: tuple[Generation, ...] = ()
    """The other answers, with ``n`` above 1."""
    cached_tokens: int = field(default=0, compare=False)
    """Tokens of the prompt whose values were remembered from another request."""
    drafted: int = field(default=0, compare=False)
    """Tokens guessed by prompt lookup or a draft model, and verified."""
    accepted: int = field(default=0, compare=False)
    """Guessed tokens that were drawn."""


@dataclass(frozen=True, kw_only=True)
class Token:
    """A drawn token and the text that became certain with it (often none, sometimes more).

    The last one of an answer carries the whole ``generation``.
    """

    id: int
    text: str
    answer: int = 0
    """Which of ``n`` answers it belongs to."""
    choice: Choice | None = None
    """With ``logprobs`` or ``inspect``: how it was drawn."""
    prompt_choices: tuple[Choice, ...] = ()
    """With ``echo``, on the first token: as in ``Generation``."""
    generation: Generation | None = None
