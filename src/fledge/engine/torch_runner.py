"""A decoder in, a ``Runner`` out: PyTorch on any device; the reference for the native kernels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fledge.core.errors import InputError
from fledge.engine.step import Piece
from fledge.model.decoder import Decoder
from fledge.model.paged_cache import PagedCache

LOGIT_ROWS = 512
"""Positions whose logits are held on the device at a time."""


class TorchRunner:
    """Computes pieces of equal length together and the others one after the other.

    So nothing is padded but the keys of shorter sequences, which are masked.
    """

    def __init__(self, model: Decoder, *, blocks: int, block_size: int = 16) -> None:
        config = model.config
        self.model = model
        self.vocabulary, self.context = config.vocab_size, config.context
        self.block_size, self.blocks = block_size, blocks
        self._cache = PagedCache(blocks, block_size, config, model.compute_dtype, model.device)

    @torch.inference_mode()
    def step(self, pieces: Sequence[Piece]) -> NDArray[np.float32]:
        """Remember the pieces' tokens in their blocks; the logits they want, in order: (n,V).

        Raises InputError for a token or position that is not there.
        """
        for piece in pieces:
            self._check(piece)
        groups: dict[int, list[int]] = {}
        for place, piece in enumerate(pieces):
            groups.setdefault(len(piece.tokens), []).append(place)
        found: dict[int, Tensor] = {}  # (rows,D) by the piece's place
        for places in groups.values():
            group = [pieces[place] for place in places]
            found.update(zip(places, self._hidden(group), strict=True))
        wanted = [found[place] for place, piece in enumerate(pieces) if piece.rows]
        if not wanted:
            return np.empty((0, self.vocabulary), np.float32)
        parts = torch.cat(wanted).split(LOGIT_ROWS)
        return np.concatenate([self.model.logits(part).cpu().numpy() for part in parts])

    def copy_block(self, source: int, target: int) -> None:
        """Overwrite a block with another, in all layers."""
        for block in (source, target):
            if not 0 <= block < self.blocks:
                raise InputError(f"block {block} does not exist", remedy=f"below {self.blocks}")
        self._cache.copy_block(source, target)

    def _hidden(self, group: Sequence[Piece]) -> list[Tensor]:
        """The hidden states before the wanted logits, of pieces of one length."""
        tokens = len(group[0].tokens)
        rows = self._cache.rows(
            [piece.blocks for piece in group], [piece.start for piece in group], tokens
        )
        ids = torch.tensor([piece.tokens for piece in group], device=self.model.device)
        hidden = self.model.hidden(ids, cache=rows)  # (B,T,D)
        return [row[tokens - piece.rows :] for row, piece in zip(hidden, group, strict=True)]

    def _check(self, piece: Piece) -> None:
        end = piece.start + len(piece.tokens)
        if not piece.tokens or piece.start < 0 or end > self.context:
            raise InputError("a position is beyond the context, or a piece is empty")
        if end > len(piece.blocks) * self.block_size:
            raise InputError("a block table is too short for its positions")
        if not all(0 <= block < self.blocks for block in piece.blocks):
            raise InputError("a block table names a block that does not exist")
        if not all(0 <= token < self.vocabulary for token in piece.tokens):
            raise InputError("a token is not in the vocabulary")
