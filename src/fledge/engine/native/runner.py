"""A Hugging Face folder in, a ``Runner`` out that computes on the CPU without torch."""

from __future__ import annotations

import ctypes
import os
import weakref
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from fledge.core.errors import FledgeError, InputError
from fledge.core.run import usable_cores
from fledge.engine.native.adapters import add_adapter, read_adapter
from fledge.engine.native.library import ACTIVATIONS, FAILURES, KINDS, Shape, load_library
from fledge.engine.native.rope import rope_table
from fledge.engine.native.tensors import Stored
from fledge.engine.native.weights import Opened, fill, open_checkpoint
from fledge.engine.step import Piece
from fledge.model.config import ModelConfig


@dataclass(frozen=True, eq=False)
class NativeAdapter:
    """An adapter in the kernels' memory, freed with this object."""

    number: int


class NativeRunner:
    """A ``Runner`` whose steps are one call into C++.

    Batch-invariant: the logits of a sequence are the same to the bit, whatever is computed beside
    it, however its prompt is cut into pieces, wherever its blocks lie, on any number of threads.
    """

    def __init__(
        self,
        source: Path | str | Opened,
        *,
        blocks: int,
        block_size: int = 16,
        weights: Literal["float32", "bfloat16", "int8"] = "bfloat16",
        cache: Literal["float32", "bfloat16"] = "float32",
        threads: int | None = None,
        level: str | None = None,
    ) -> None:
        """``source`` is a Hugging Face, stage or run directory, or a checkpoint opened before.

        ``weights`` is the type they are packed in (int8: groups of 32 inputs share a scale),
        ``cache`` that of keys and values; sums are float32.  ``threads`` None: as many as there are
        usable cores.  ``level`` names the instructions (``build.LEVELS``), None: the best.  Raises
        InputError without a compiler, or naming what is wrong with the checkpoint.
        """
        opened = source if isinstance(source, Opened) else open_checkpoint(source)
        config = opened.config
        threads = usable_cores() if threads is None else threads
        _check(blocks=blocks, block_size=block_size, threads=threads)
        self.config = config
        self.vocabulary, self.context = config.vocab_size, config.context
        self.block_size, self.blocks = block_size, blocks
        self._library = load_library(level)
        shape = _shape(config, weights, cache, blocks, block_size, threads)
        self._model = _open(self._library, shape, config)
        self._adapters: WeakValueDictionary[str, NativeAdapter] = WeakValueDictionary()
        self._closed = weakref.finalize(self, _close, self._library, self._model, os.getpid())
        self._threads = threads
        self.refill(opened.stored)

    def refill(self, stored: Mapping[str, Stored]) -> None:
        """Take the weights of these tensors, of the same names and shapes as those before.

        What the blocks remember was computed with the former weights.
        """
        self._opened = Opened(self.config, stored)
        fill(self._library, self._model, self.config, stored, self._threads)

    @property
    def level(self) -> str:
        """The instructions it uses."""
        name: bytes = self._library.fledge_level()
        return name.decode()

    def step(self, pieces: Sequence[Piece]) -> NDArray[np.float32]:
        """Remember the pieces' tokens in their blocks; the logits they want, in order: (n,V).

        Raises InputError, with nothing computed, for a token, position or block that is not there.
        """
        header, tokens, blocks = array("i"), array("i"), array("i")
        wanted = 0
        try:
            for piece in pieces:
                rows = piece.rows
                wanted += rows
                adapter = self._number(piece.scope[0]) if piece.scope else -1
                header.extend((len(piece.tokens), piece.start, rows, len(piece.blocks), adapter))
                tokens.extend(piece.tokens)
                blocks.extend(piece.blocks)
        except OverflowError:
            raise InputError(f"the step cannot be computed: {FAILURES[1]}") from None
        logits = np.empty((wanted, self.vocabulary), np.float32)
        inputs = (values.buffer_info()[0] for values in (header, tokens, blocks))
        failure = self._library.fledge_step(self._model, len(pieces), *inputs, logits.ctypes.data)
        if failure:
            kind = FledgeError if failure == max(FAILURES) else InputError
            raise kind(f"the step cannot be computed: {FAILURES[failure]}")
        return logits

    def copy_block(self, source: int, target: int) -> None:
        """Overwrite a block with another, in all layers."""
        for block in (source, target):
            if not 0 <= block < self.blocks:
                raise InputError(f"block {block} does not exist", remedy=f"below {self.blocks}")
        self._library.fledge_copy_block(self._model, source, target)

    def add_adapter(self, key: str, folder: Path) -> NativeAdapter:
        """The LoRA adapter in ``folder`` (PEFT's layout) for pieces that name ``key``.

        It is there as long as the returned object is.  Raises InputError when it does not belong
        to this model.
        """
        changes = read_adapter(folder, self._opened)
        number = add_adapter(self._library, self._model, changes)
        adapter = self._adapters[key] = NativeAdapter(number)
        weakref.finalize(
            adapter, _forget, self._closed, self._library, self._model, number, os.getpid()
        )
        return adapter

    def _number(self, key: str) -> int:
        adapter = self._adapters.get(key)
        if adapter is None:
            raise InputError(f"the step cannot be computed: {FAILURES[5]}")
        return adapter.number

    def close(self) -> None:
        """Free the weights and the cache and end the threads; it cannot be used afterwards."""
        self._closed()


def _check(**counts: int) -> None:
    for name, value in counts.items():
        if value < 1:
            raise InputError(f"{name} = {value} is not valid", remedy="give 1 or more")


def _shape(
    config: ModelConfig, weights: str, cache: str, blocks: int, block_size: int, threads: int
) -> Shape:
    for name, value, known in (("weights", weights, KINDS), ("cache", cache, KINDS[:2])):
        if value not in known:
            raise InputError(
                f"{name} = {value!r} is not known", remedy=f"one of {', '.join(known)}"
            )
    return Shape(
        vocabulary=config.vocab_size,
        width=config.width,
        depth=config.depth,
        heads=config.heads,
        kv_heads=config.kv_heads,
        head_size=config.head_size,
        ffn=config.ffn,
        positions=min(config.context, blocks * block_size),  # no sequence is longer
        qk_norm=config.qk_norm,
        gated=config.gated,
        activation=ACTIVATIONS.index(config.activation),
        kind=KINDS.index(weights),
        kv_bfloat16=cache == "bfloat16",
        block_size=block_size,
        blocks=blocks,
        threads=threads,
        norm_eps=config.norm_eps,
        softcap=config.logit_softcap or 0.0,
    )


def _open(library: ctypes.CDLL, shape: Shape, config: ModelConfig) -> int:
    """The model's address, its weights still zero."""
    windows = np.array([config.window_of(n) or 0 for n in range(config.depth)], np.int32)
    cos, sin = (
        np.ascontiguousarray(part, np.float32) for part in rope_table(shape.positions, config)
    )
    model: int | None = library.fledge_open(
        shape, windows.ctypes.data, cos.ctypes.data, sin.ctypes.data
    )
    if model is None:
        raise FledgeError(
            "memory is full: the weights and the cache do not fit", remedy="use fewer blocks"
        )
    return model


def _forget(
    closed: weakref.finalize[..., NativeRunner],
    library: ctypes.CDLL,
    model: int,
    number: int,
    process: int,
) -> None:
    """Free an adapter, unless its model is gone already or is the parent's."""
    if closed.alive and os.getpid() == process:
        library.fledge_adapter_close(model, number)


def _close(library: ctypes.CDLL, model: int, process: int) -> None:
    """A forked child leaves the model alone: the threads to wait for are its parent's."""
    if os.getpid() == process:
        library.fledge_close(model)
