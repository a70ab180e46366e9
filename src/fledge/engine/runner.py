"""What computes a step: pieces of sequences in, logits out; torch or native behind one protocol."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fledge.engine.step import Piece


class Runner(Protocol):
    """A model with its paged cache of keys and values.

    The cache is ``blocks`` blocks of ``block_size`` positions; which sequence has which blocks is
    the scheduler's business.
    """

    @property
    def vocabulary(self) -> int:
        """Tokens in the alphabet (V)."""
        ...

    @property
    def context(self) -> int:
        """Positions a sequence may have."""
        ...

    @property
    def block_size(self) -> int:
        """Positions of a block."""
        ...

    @property
    def blocks(self) -> int:
        """How many blocks there are."""
        ...

    def step(self, pieces: Sequence[Piece]) -> NDArray[np.float32]:
        """Remember the pieces' tokens in their blocks; the logits they want, in order: (n,V)."""
        ...

    def add_adapter(self, key: str, folder: Path) -> object:
        """A LoRA adapter (PEFT's layout) for pieces that name ``key``, while the object lives."""
        ...

    def copy_block(self, source: int, target: int) -> None:
        """Overwrite a block with another, in all layers."""
        ...
