"""A BERT folder in, vectors of a few short texts out, without PyTorch: for queries.

The same numbers as ``fledge.model.TextEncoder`` in float32, to rounding, and there within a tenth
of a second of the start of a process, where importing PyTorch alone takes longer.  Letters: T
time, D width, H heads, d head size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from numpy.typing import NDArray

from fledge.core.config import nearest
from fledge.core.errors import InputError
from fledge.core.files import read_json
from fledge.engine.native.tensors import Stored, open_tensors
from fledge.index.embed.protocol import Vectors
from fledge.model.bert import bert_name, from_bert, plain_name
from fledge.model.encoder_config import TextSettings
from fledge.model.locate import find_checkpoint
from fledge.model.sentence_folder import MODULES, read_settings, transformer_folder

Array = NDArray[np.float32]

POSITIONS = ("embeddings.position_ids",)
"""0, 1, 2, …: old writers stored it among the weights, in whole numbers."""


class NumpyEncoder:
    """Texts to vectors of ``dimensions`` float32 numbers; one text after the other."""

    def __init__(self, path: Path, settings: TextSettings | None = None) -> None:
        top = path if (path / MODULES).is_file() else find_checkpoint(path)
        folder = find_checkpoint(transformer_folder(top))
        self._weights = {
            plain_name(name): stored for name, stored in open_tensors(folder, POSITIONS).items()
        }
        pooler = "pooler.dense.weight" in self._weights
        self.config = from_bert(
            read_json(folder / "config.json"), folder / "config.json", pooler=pooler
        )
        found = settings or read_settings(top, self.config)
        if found is None:
            raise InputError(
                f"{path} does not say how to pool (it has no {MODULES})",
                remedy="name a sentence-transformers folder",
            )
        self.settings, self.dimensions = found, self.config.width
        self._tokenizer = _tokenizer(folder / "tokenizer.json", found.max_tokens)
        self._ready: dict[str, Array] = {}

    def vectors(self, texts: Sequence[str], *, prompt: str | None = None) -> Vectors:
        """One vector a text, in the order given: (N, dimensions)."""
        out = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        for number, text in enumerate(texts):
            encoding = self._tokenizer.encode(self._prepared(text, prompt))
            out[number] = self._pooled(self._hidden(encoding.ids, encoding.type_ids))
        return out

    def knows(self, text: str) -> bool:
        """Whether the tokenizer has tokens for (nearly) all of ``text``."""
        unknown = [self._tokenizer.token_to_id(token) for token in ("[UNK]", "<unk>")]
        ids = self._tokenizer.encode(self._prepared(text, None), add_special_tokens=False).ids
        return sum(one in unknown for one in ids) <= len(ids) / 20

    def _prepared(self, text: str, prompt: str | None) -> str:
        name = self.settings.default_prompt if prompt is None else prompt
        if name is not None and name not in self.settings.prompts:
            raise InputError(
                f"prompt {name!r} is not known", remedy=nearest(name, list(self.settings.prompts))
            )
        text = text if name is None else self.settings.prompts[name] + text
        return text.lower() if self.settings.lowercase else text

    def _hidden(self, ids: Sequence[int], types: Sequence[int]) -> Array:
        """A vector for every token: (T,) each -> (T,D)"""
        x = self._rows("embed_tokens", ids) + self._rows("embed_types", types)
        x = self._norm(x + self._rows("embed_positions", range(len(ids))), "embed_norm")
        activation = ACTIVATIONS[self.config.activation]
        for layer in range(self.config.depth):
            at = f"layers.{layer}"
            x = self._norm(x + self._attention(x, f"{at}.self_attn"), f"{at}.attention_norm")
            inner = activation(self._linear(x, f"{at}.mlp.up_proj"))
            x = self._norm(x + self._linear(inner, f"{at}.mlp.down_proj"), f"{at}.mlp_norm")
        return x

    def _attention(self, x: Array, name: str) -> Array:
        """(T,D) -> (T,D); every token sees all others"""
        heads = self.config.heads
        q, k, v = (
            self._linear(x, f"{name}.{part}").reshape(len(x), heads, -1).transpose(1, 0, 2)
            for part in ("q_proj", "k_proj", "v_proj")
        )  # (H,T,d) each
        scores = q @ k.transpose(0, 2, 1) / np.float32(np.sqrt(q.shape[-1]))  # (H,T,T)
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        mixed = (scores / scores.sum(axis=-1, keepdims=True)) @ v  # (H,T,d)
        return self._linear(mixed.transpose(1, 0, 2).reshape(len(x), -1), f"{name}.o_proj")

    def _pooled(self, hidden: Array) -> Array:
        """(T,D) -> (D,)"""
        how = self.settings.pooling.how
        one = hidden[0] if how == "cls" else hidden.max(0) if how == "max" else hidden.mean(0)
        length = np.linalg.norm(one) if self.settings.pooling.normalize else 1.0
        result: Array = (one / max(float(length), 1e-12)).astype(np.float32)
        return result

    def _linear(self, x: Array, name: str) -> Array:
        result: Array = x @ self._weight(f"{name}.weight").T + self._weight(f"{name}.bias")
        return result

    def _norm(self, x: Array, name: str) -> Array:
        x = x - x.mean(axis=-1, keepdims=True)
        x = x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + np.float32(self.config.norm_eps))
        result: Array = x * self._weight(f"{name}.weight") + self._weight(f"{name}.bias")
        return result

    def _rows(self, name: str, numbers: Sequence[int]) -> Array:
        """Rows of a table; the others are not read from the disk."""
        stored = self._stored(f"{name}.weight")
        rows: NDArray[Any] = stored.numbers[np.asarray(numbers, dtype=np.int64)]
        return (rows.astype(np.uint32) << 16).view(np.float32) if stored.is_bfloat16 else rows

    def _weight(self, name: str) -> Array:
        if name not in self._ready:
            self._ready[name] = self._stored(name).floats()
        return self._ready[name]

    def _stored(self, name: str) -> Stored:
        theirs = bert_name(name)
        if theirs not in self._weights:
            raise InputError(f"the weights have no tensor {theirs}", remedy="copy the model again")
        return self._weights[theirs]


def _tokenizer(path: Path, most: int) -> tokenizers.Tokenizer:
    if not path.is_file():
        raise InputError(f"{path} does not exist", remedy="copy it beside the weights")
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise InputError(f"{path} cannot be read: {error}", remedy="copy it again") from None
    tokenizer.no_padding()
    tokenizer.enable_truncation(most)
    return tokenizer


def _erf(x: Array) -> Array:
    """The error function to 2e-7 (Abramowitz and Stegun, 7.1.26)."""
    t = 1 / (1 + 0.3275911 * np.abs(x))
    tail = 1.061405429 * t - 1.453152027
    for factor in (1.421413741, -0.284496736, 0.254829592):
        tail = tail * t + factor
    result: Array = np.sign(x) * (1 - tail * t * np.exp(-x * x))
    return result


def _gelu(x: Array) -> Array:
    """x times the share of a normal distribution below it (arXiv:1606.08415)."""
    half = np.multiply(x, 0.5, dtype=np.float32)
    result: Array = half + half * _erf(np.multiply(x, 0.7071067812, dtype=np.float32))
    return result


def _gelu_tanh(x: Array) -> Array:
    inner = 0.7978845608 * (x + 0.044715 * x * x * x)  # sqrt(2 / pi)
    result: Array = x * (1 + np.tanh(inner)) / 2
    return result


def _silu(x: Array) -> Array:
    result: Array = x / (1 + np.exp(-np.clip(x, -80, None)))
    return result


def _relu(x: Array) -> Array:
    return np.maximum(x, np.float32(0))


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "silu": _silu,
    "relu": _relu,
}
