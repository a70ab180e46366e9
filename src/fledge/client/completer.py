"""What a chat model may offer besides chatting: continuing plain text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from fledge.core.protocols import Delta, Sampling


@runtime_checkable
class Completer(Protocol):
    """Continues a text as it stands, without a chat template."""

    def complete(self, prompt: str, sampling: Sampling) -> Iterator[Delta]:
        """The continuation in pieces; the last carries the reply.  Closing it stops the work."""
