"""A decoder in, a ``Runner`` out: PyTorch on any device; the reference for the native kernels."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from weakref import WeakValueDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fledge.core.errors import InputError
from fledge.engine.step import Piece
from fledge.model.decoder import Decoder
from fledge.model.lora_checkpoint import load_lora
from fledge.model.paged_cache import PagedCache

LOGIT_ROWS = 512
"""Positions whose logits are held on the device at a time."""


@dataclass(frozen=True, eq=False)
class AdaptedModel:
    """A model that shares the weights of another, with an adapter around its layers."""

    model: Decoder


class TorchRunner:
    """Computes pieces of equal length and adapter together and the others one after the other.

    So nothing is padded but the keys of shorter sequences, which are masked.
    """

    def __init__(self, model: Decoder, *, blocks: int, block_size: int = 16) -> None:
        config = model.config
        self.model = model
        self.vocabulary, self.context = config.vocab_size, config.context
        self.block_size, self.blocks = block_size, blocks
        self._adapted: WeakValueDictionary[str, AdaptedModel] = WeakValueDictionary()
        self._cache = PagedCache(blocks, block_size, config, model.compute_dtype, model.device)

    @torch.no_grad()
    def step(self, pieces: Sequence[Piece]) -> NDArray[np.float32]:
        """Remember the pieces' tokens in their blocks; the logits they want, in order: (n,V).

        Raises InputError for a token or position that is not there.
        """
        for piece in pieces:
            self._check(piece)
        groups: dict[tuple[int, tuple[str, ...]], list[int]] = {}
        for place, piece in enumerate(pieces):
            groups.setdefault((len(piece.tokens), piece.scope), []).append(place)
        found: dict[int, Tensor] = {}  # (rows,D) by the piece's place
        for places in groups.values():
            group = [pieces[place] for place in places]
            found.update(zip(places, self._hidden(group), strict=True))
        return self._logits(pieces, found)

    def add_adapter(self, key: str, folder: Path) -> AdaptedModel:
        """The LoRA adapter in ``folder`` (PEFT's layout) for pieces that name ``key``.

        It is there as long as the returned object is.  Raises InputError when it does not belong
        to this model.
        """
        adapted = self._adapted[key] = AdaptedModel(_beside(self.model, folder))
        return adapted

    def copy_block(self, source: int, target: int) -> None:
        """Overwrite a block with another, in all layers."""
        for block in (source, target):
            if not 0 <= block < self.blocks:
                raise InputError(f"block {block} does not exist", remedy=f"below {self.blocks}")
        self._cache.copy_block(source, target)

    def _logits(self, pieces: Sequence[Piece], hidden: Mapping[int, Tensor]) -> NDArray[np.float32]:
        """From the hidden states (rows,D) of each piece, by its place: (n,V)."""
        ends = np.cumsum([piece.rows for piece in pieces])
        logits = np.empty((int(ends[-1]), self.vocabulary), np.float32)
        by_scope: dict[tuple[str, ...], list[int]] = {}
        for place, piece in enumerate(pieces):
            if piece.rows:
                by_scope.setdefault(piece.scope, []).append(place)
        for places in by_scope.values():
            model = self._model_of(pieces[places[0]])
            parts = torch.cat([hidden[place] for place in places]).split(LOGIT_ROWS)
            rows = np.concatenate([np.arange(*ends[[p, p]] - [pieces[p].rows, 0]) for p in places])
            logits[rows] = np.concatenate([model.logits(part).cpu().numpy() for part in parts])
        return logits

    def _model_of(self, piece: Piece) -> Decoder:
        if not piece.scope:
            return self.model
        adapted = self._adapted.get(piece.scope[0])
        if adapted is None:
            raise InputError("the step cannot be computed: an adapter is not loaded")
        return adapted.model

    def _hidden(self, group: Sequence[Piece]) -> list[Tensor]:
        """The hidden states before the wanted logits, of pieces of one length."""
        tokens = len(group[0].tokens)
        rows = self._cache.rows(
            [piece.blocks for piece in group], [piece.start for piece in group], tokens
        )
        ids = torch.tensor([piece.tokens for piece in group], device=self.model.device)
        model = self._model_of(group[0])
        hidden = model.hidden(ids, cache=rows)  # (B,T,D)
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


def _beside(model: Decoder, folder: Path) -> Decoder:
    """The same model with the adapter in ``folder``; what is large is shared."""
    shared = list(chain(model.parameters(), model.buffers()))
    learns = [one.requires_grad for one in shared]
    adapted = copy.deepcopy(model, {id(one): one for one in shared})
    load_lora(adapted, folder)
    for one, before in zip(shared, learns, strict=True):  # it froze them for training
        one.requires_grad_(before)
    return adapted.eval()
