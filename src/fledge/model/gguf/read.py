"""A GGUF file in, memory-mapped: its shape, its tensors one by one, its tokenizer, a Decoder."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import tokenizers
import torch
from torch import Tensor

from fledge.core.errors import InputError
from fledge.core.protocols import Progress, Silent
from fledge.model.config import ModelConfig
from fledge.model.decoder import Decoder
from fledge.model.gguf.magic import MAGIC
from fledge.model.gguf.metadata import from_metadata
from fledge.model.gguf.names import ROPE_FACTORS, our_name, separate, turned_heads
from fledge.model.gguf.rebuild import from_vocabulary
from fledge.model.weights import DTYPES, check_dtype, place
from fledge.tokenizer.tokenizer import Tokenizer

KINDS = ("F32", "F16", "BF16", "Q8_0")
"""Types of tensors that are read."""

_Kind = gguf.GGMLQuantizationType


def read_gguf(path: Path | str) -> tuple[ModelConfig, Iterator[tuple[str, Tensor]]]:
    """The shape and the tensors, as (our name, tensor): float32 for Q8_0, else as stored."""
    file = GgufFile(path)
    return file.config, file.tensors()


def load_gguf(
    path: Path | str,
    dtype: str = "float32",
    *,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> Decoder:
    """The decoder in a GGUF file, in evaluation mode; as ``load_model`` for directories.

    Raises InputError naming the file and what is wrong with it.
    """
    return GgufFile(path).decoder(dtype, device=device, progress=progress)


def gguf_tokenizer(path: Path | str) -> Tokenizer:
    """The tokenizer in a GGUF file."""
    return GgufFile(path).tokenizer()


class GgufFile:
    """An open GGUF file.  Raises InputError when it is damaged or of a kind not supported."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._reader, self.fields = _open(self.path)
        if (self.fields.get("split.count") or 1) > 1:
            raise InputError(
                f"{self.path} is one part of a split GGUF",
                remedy="join the parts with llama-gguf-split --merge",
            )
        self._tensors = {tensor.name: tensor for tensor in self._reader.tensors}
        for tensor in self._reader.tensors:
            if tensor.tensor_type.name not in KINDS:
                raise InputError(
                    f"{self.path}: tensor {tensor.name} is {tensor.tensor_type.name}",
                    remedy=f"only {', '.join(KINDS)} are read so far",
                )

    @cached_property
    def config(self) -> ModelConfig:
        """The shape of the model."""
        rope = self._tensors.get(ROPE_FACTORS)
        embedding = self._tensors.get("token_embd.weight")
        rows = int(embedding.shape[-1]) if embedding is not None else 0
        config = from_metadata(
            self.fields,
            self._tensors.keys(),
            None if rope is None else np.array(rope.data, dtype=np.float32),
            max(rows, 1),
            self.path,
        )
        if rows == 0:
            raise self._missing("token_embd.weight")
        self._check_sizes(config)
        return config

    def _check_sizes(self, config: ModelConfig) -> None:
        """Raises InputError unless the sizes are those of the tensors.

        Before a model is built: a damaged size may ask for more than the memory.
        """
        layers = {name.split(".")[1] for name in self._tensors if name.startswith("blk.")}
        if len(layers) != config.depth:
            raise InputError(
                f"{self.path}: block_count is {config.depth}, but there are tensors of"
                f" {len(layers)} layers",
                remedy="copy the file again",
            )
        for name, sizes in (
            ("token_embd.weight", [config.width, config.vocab_size]),
            ("blk.0.attn_q.weight", [config.width, config.heads * config.head_size]),
            ("blk.0.attn_k.weight", [config.width, config.kv_heads * config.head_size]),
            ("blk.0.ffn_up.weight", [config.width, config.ffn]),
        ):
            if name not in self._tensors:
                raise self._missing(name)
            if self._tensors[name].shape.tolist() != sizes:
                raise self._misshapen(name, self._tensors[name].shape[::-1])

    @property
    def stored(self) -> dict[str, int]:
        """Type (of ``KINDS``) -> number of weights, the most frequent first."""
        sizes: Counter[str] = Counter()
        for name, tensor in self._tensors.items():
            if name != ROPE_FACTORS:
                sizes[tensor.tensor_type.name] += int(tensor.n_elements)
        return dict(sizes.most_common())

    @property
    def kind(self) -> str:
        """The type that most weights have: one of ``KINDS``."""
        return next(iter(self.stored), "F32")

    def tensors(self, kinds: Collection[str] = KINDS) -> Iterator[tuple[str, Tensor]]:
        """(our name, tensor) one by one, rows in our order: float32 for Q8_0, else as stored.

        ``kinds``: only tensors of these types.
        """
        architecture = self.fields["general.architecture"]
        for name, tensor in self._tensors.items():
            if name == ROPE_FACTORS or tensor.tensor_type.name not in kinds:
                continue
            ours = our_name(name)
            if ours is None:
                raise InputError(
                    f"{self.path}: tensor {name} has no place in the model",
                    remedy="only plain decoders are supported",
                )
            heads = turned_heads(ours, self.config) if architecture == "llama" else None
            if heads is not None and tensor.shape[-1] != heads * self.config.head_size:
                raise self._misshapen(name, tensor.shape[::-1])
            yield ours, _tensor(tensor, heads)

    def decoder(
        self,
        dtype: str = "float32",
        *,
        device: torch.device | str = "cpu",
        progress: Progress | None = None,
    ) -> Decoder:
        """The model, in evaluation mode; it holds and computes in ``dtype``."""
        check_dtype(dtype)
        with torch.device("meta"):  # no memory yet
            model = Decoder(self.config, DTYPES[dtype])
        shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
        count = sum(shape.numel() for shape in shapes.values())
        with (progress or Silent()).bar("reading", count, "weights") as bar:
            for name, tensor in self.tensors():
                shape = shapes.pop(name, None)
                if shape != tensor.shape:
                    raise self._misshapen(name, tensor.shape)
                place(model, name, tensor.to(device, DTYPES[dtype]))
                bar.advance(tensor.numel())
        if shapes:
            raise self._missing(next(iter(shapes)))
        model.cos, model.sin = model.cos.to(device), model.sin.to(device)
        return model.eval()

    def tokenizer_files(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """(tokenizer.json, tokenizer_config.json) as values."""
        tokens = self.fields.get("tokenizer.ggml.tokens") or []
        if self.fields.get("tokenizer.ggml.model") and len(tokens) != self.config.vocab_size:
            raise InputError(
                f"{self.path}: the tokenizer has {len(tokens)} tokens, the embedding"
                f" {self.config.vocab_size} rows",
                remedy="convert the model again",
            )
        return from_vocabulary(self.fields, self.config.context, self.path)

    def tokenizer(self) -> Tokenizer:
        """The tokenizer, ready to use."""
        model, config = self.tokenizer_files()
        return Tokenizer(tokenizers.Tokenizer.from_str(json.dumps(model)), config)

    def _misshapen(self, name: str, shape: Iterable[int]) -> InputError:
        return InputError(
            f"{self.path}: tensor {name} of shape {tuple(map(int, shape))} does not fit the shape"
            " that the file gives the model",
            remedy="convert the model again",
        )

    def _missing(self, name: str) -> InputError:
        return InputError(f"{self.path}: tensor {name} is missing", remedy="copy the file again")


class _Reader(gguf.GGUFReader):
    """The official reader, which otherwise takes what lies beyond the end of a file for empty."""

    def _get(self, offset: int, dtype: Any, count: int = 1, override_order: Any = None) -> Any:
        if int(offset) + int(count) * np.dtype(dtype).itemsize > len(self.data):
            raise ValueError("it ends too early")
        return super()._get(offset, dtype, count, override_order)


def _open(path: Path) -> tuple[_Reader, dict[str, Any]]:
    """The reader and the values of all keys."""
    if not path.is_file():
        raise InputError(f"{path} is no file", remedy="check the path")
    with path.open("rb") as handle:
        magic = handle.read(4)
    if magic != MAGIC:
        raise InputError(f"{path} is not a GGUF file", remedy="check the file")
    try:
        with np.errstate(all="raise"):
            reader = _Reader(path)
            return reader, {name: field.contents() for name, field in reader.fields.items()}
    except (ValueError, IndexError, KeyError, ArithmeticError, UnicodeError, TypeError) as error:
        raise InputError(
            f"{path} is truncated or damaged: {error}", remedy="copy the file again"
        ) from None


def _tensor(tensor: Any, heads: int | None) -> Tensor:
    """One tensor of a file as torch's, rows in our order."""
    shape = tuple(int(n) for n in reversed(tensor.shape))
    if tensor.tensor_type == _Kind.BF16:
        values = np.array(tensor.data).view(np.int16).reshape(shape)
    elif tensor.tensor_type == _Kind.Q8_0:
        values = gguf.quants.dequantize(tensor.data, _Kind.Q8_0).reshape(shape)
    else:
        values = np.array(tensor.data).reshape(shape)
    if heads is not None:
        values = separate(values, heads)
    made = torch.from_numpy(values)
    return made.view(torch.bfloat16) if tensor.tensor_type == _Kind.BF16 else made
