"""A smaller model in, guesses of what a larger one will draw out: speculative decoding.

The guesses are the smaller model's greedy tokens, verified in one step of the larger one
(arXiv:2211.17192): what is drawn is what would be drawn without them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from fledge.core.errors import InputError
from fledge.engine.chain.settings import Settings
from fledge.engine.request import Generation

if TYPE_CHECKING:
    from fledge.engine.native.weights import Opened

Generate = Callable[[Sequence[Sequence[int]], Settings, Sequence[int]], list[Generation]]
"""``Engine.generate``: (prompts, settings, stop ids)."""


class Drafter(Protocol):
    """Guesses what follows."""

    def guess(self, tokens: Sequence[int], count: int) -> tuple[int, ...]:
        """Up to ``count`` tokens that may follow ``tokens``."""
        ...


class DraftModel:
    """A ``Drafter`` over an engine of its own; what it has read stays in its prefix cache."""

    def __init__(self, generate: Generate, context: int) -> None:
        self._generate, self._context = generate, context

    def guess(self, tokens: Sequence[int], count: int) -> tuple[int, ...]:
        """The model's greedy continuation; none where its context is full."""
        room = min(count, self._context - len(tokens))
        if room < 1:
            return ()
        return self._generate([tokens], Settings(max_new_tokens=room), ())[0].token_ids


def shallow(opened: Opened) -> Opened:
    """The same model without every second layer of its middle: for self-speculation.

    First and last layer stay, which do more than the others (arXiv:2309.08168).  Raises
    InputError for a model of fewer than four layers.
    """
    from fledge.engine.native.weights import Opened, check_weights

    config = opened.config
    if config.depth < 4:
        raise InputError(
            f"a model of {config.depth} layers has none to skip",
            remedy="name a draft model instead",
        )
    kept = [0, *range(2, config.depth - 1, 2), config.depth - 1]
    stored = {}
    for name, tensor in opened.stored.items():
        parts = name.split(".")
        if parts[:2] == ["model", "layers"]:
            if int(parts[2]) not in kept:
                continue
            parts[2] = str(kept.index(int(parts[2])))
        stored[".".join(parts)] = tensor
    windowed = None
    if config.window_layers is not None:
        windowed = tuple(new for new, old in enumerate(kept) if old in config.window_layers)
    small = config.model_copy(update={"depth": len(kept), "window_layers": windowed})
    where = next(iter(opened.stored.values())).file
    return Opened(small, check_weights(stored, small, where))
