"""What the engine refuses for its length; apart, so that naming it imports no torch."""

from __future__ import annotations

from fledge.core.errors import InputError


class ContextLengthError(InputError):
    """A prompt leaves no tokens, or too few, for its answer.

    ``tokens`` is the length of the prompt and ``context`` the most tokens of prompt and answer
    together; each None where another server refused and did not say.
    """

    def __init__(
        self,
        message: str,
        *,
        tokens: int | None = None,
        context: int | None = None,
        remedy: str = "shorten it or start a new conversation",
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.tokens = tokens
        self.context = context
