"""A model that is being trained in, an engine over its weights as they stand out.

Nothing goes through the disk.  The native runner packs the weights anew where they lie; the torch
runner computes with the very parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fledge.core.errors import FledgeError
from fledge.core.protocols import Progress, Sampling, Silent
from fledge.engine.engine import Engine
from fledge.engine.loading import BLOCK, cache_blocks
from fledge.engine.native.library import load_library
from fledge.engine.native.runner import NativeRunner
from fledge.engine.native.tensors import Stored
from fledge.engine.native.weights import Opened, check_weights
from fledge.engine.runner import Runner
from fledge.engine.torch_runner import TorchRunner
from fledge.model.checkpoint import huggingface_name
from fledge.model.decoder import Decoder
from fledge.model.lora import lora_layers
from fledge.tokenizer.tokenizer import Tokenizer

LIVE = Path("the model in training")
"""Stands for the file in messages."""


class LiveEngine:
    """Engines over the weights of ``model``: ask for another after each update."""

    def __init__(
        self,
        model: Decoder,
        tokenizer: Tokenizer,
        *,
        runner: Literal["auto", "native", "torch"] = "auto",
        threads: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        """``runner`` "auto" is native for a plain model on a CPU where a C++ compiler is at hand;
        ``progress`` hears why not."""
        self._model, self._tokenizer = model, tokenizer
        self._blocks = cache_blocks(model.config, 4)
        self._threads = threads
        self._native = None if runner == "torch" else self._open(runner == "native", progress)
        self._torch: TorchRunner | None = None

    @property
    def runner(self) -> str:
        """Which one computes."""
        return "torch" if self._native is None else "native"

    def engine(self) -> Engine:
        """One that computes with the weights as they are now, until they change.

        It remembers nothing of those before: keys and values of older weights would be wrong.
        """
        return Engine(
            self._runner(), self._tokenizer, self._model.config, name="live", decoder=self._itself
        )

    def _itself(self) -> Decoder:
        return self._model

    def _runner(self) -> Runner:
        if self._native is not None:
            self._native.refill(tensors_of(self._model))
            return self._native
        if self._torch is None:
            self._torch = TorchRunner(self._model, blocks=self._blocks, block_size=BLOCK)
        return self._torch

    def _open(self, asked: bool, progress: Progress | None) -> NativeRunner | None:
        """The native runner; None where it cannot compute this model here."""
        if not asked and self._model.device.type != "cpu":
            return None
        try:
            load_library()
            stored = check_weights(dict(tensors_of(self._model)), self._model.config, LIVE)
        except FledgeError as error:
            if asked:
                raise
            (progress or Silent()).say(f"{error.message}: using PyTorch, which is slower")
            return None
        return NativeRunner(
            Opened(self._model.config, stored),
            blocks=self._blocks,
            block_size=BLOCK,
            weights="float32",
            threads=self._threads,
        )


SAMPLE_TOKENS = 48


class Writer:
    """``train.samples.Write``: continues texts, or answers them as messages."""

    def __init__(self, tokenizer: Tokenizer, *, chat: bool, threads: int | None = None) -> None:
        self._tokenizer, self._chat, self._threads = tokenizer, chat, threads
        self._live: LiveEngine | None = None

    def __call__(self, model: Decoder, prompts: Sequence[str]) -> list[str]:
        """The likeliest tokens after each prompt, ``SAMPLE_TOKENS`` at most."""
        if self._live is None:
            self._live = LiveEngine(model, self._tokenizer, threads=self._threads)
        engine = self._live.engine()
        asked = [self._ids(engine, prompt)[-(engine.context - 1) :] for prompt in prompts]
        made = engine.generate(asked, Sampling(max_new_tokens=SAMPLE_TOKENS))
        return [one.text for one in made]

    def _ids(self, engine: Engine, prompt: str) -> list[int]:
        if not self._chat:
            return engine.encode_text(prompt)
        message = [{"role": "user", "content": prompt}]
        return self._tokenizer.encode_chat(message, add_generation_prompt=True)


APART = ("critic.", "value_head.")
"""Weights that stand beside a model in training and are none of its own."""


def tensors_of(model: Decoder) -> dict[str, Stored]:
    """The weights by their Hugging Face names, sharing the memory of those that are float32.

    Of layers with LoRA the sum.
    """
    adapted = lora_layers(model)
    weights = {f"{name}.weight": layer.merged() for name, layer in adapted.items()}
    for name, weight in model.named_parameters():
        if name.startswith(APART):
            continue
        layer, _, part = name.rpartition(".base.")
        if layer in adapted and part == "bias":
            weights[f"{layer}.bias"] = weight
        elif not any(name.startswith(f"{one}.") for one in adapted):
            weights[name] = weight
    return {
        huggingface_name(name): Stored(LIVE, tuple(weight.shape), _numbers(weight))
        for name, weight in weights.items()
    }


def _numbers(weight: Tensor) -> NDArray[np.float32]:
    numbers: NDArray[np.float32] = weight.detach().cpu().float().contiguous().numpy()
    return numbers
