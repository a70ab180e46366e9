"""Texts in, vectors out by a table alone: the weighted mean of the rows of a text's tokens.

No torch, so that a search answers right after the start.  The folder is that of model2vec
(``config.json``, ``model.safetensors``, ``tokenizer.json``), which opens it, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from fledge.core.errors import InputError
from fledge.core.files import read_json, replacing, write_json

KIND = "model2vec"
"""The word in ``config.json`` by which such a folder is known."""

CONFIG, WEIGHTS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"

Vectors = NDArray[np.float32]

CHUNK = 256
"""Texts whose tokens' rows are in memory at once."""


class StaticEncoder:
    """Texts to vectors of ``dimensions`` float32 numbers, unit length unless told otherwise.

    ``rows`` (R,D) int8 or float, ``weights`` (V,) float32 of the tokens, ``mapping`` (V,) the row
    of each token (None: its number).  A text without a known token becomes zeros.
    """

    def __init__(
        self,
        rows: NDArray[Any],
        weights: NDArray[np.float32],
        tokenizer: tokenizers.Tokenizer,
        *,
        mapping: NDArray[np.int64] | None = None,
        config: dict[str, Any] | None = None,
        name: str = "static",
    ) -> None:
        self.rows, self.weights, self.mapping = rows, weights.astype(np.float32), mapping
        self.name, self.dimensions = name, int(rows.shape[1])
        self.config = {"model_type": KIND, "normalize": True, **(config or {})}
        self.tokenizer = tokenizer
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self._check()

    @classmethod
    def load(cls, path: Path | str) -> StaticEncoder:
        """The encoder at ``path``; raises InputError naming the file and what is wrong with it."""
        folder = Path(path)
        config = read_json(folder / CONFIG)
        if not is_static(folder):
            raise InputError(
                f"{folder / CONFIG} describes no table of vectors", remedy="name another folder"
            )
        try:
            stored = load_file(folder / WEIGHTS)
            rows = stored["embeddings"]
        except (OSError, SafetensorError, KeyError) as error:
            raise InputError(
                f"{folder / WEIGHTS} cannot be read: {error}", remedy="copy it again"
            ) from None
        try:
            tokenizer = tokenizers.Tokenizer.from_file(str(folder / TOKENIZER))
        except Exception as error:  # the library raises bare Exception
            raise InputError(
                f"{folder / TOKENIZER} cannot be read: {error}", remedy="copy it again"
            ) from None
        mapping = stored.get("mapping")
        known = len(rows) if mapping is None else len(mapping)
        return cls(
            rows,
            stored.get("weights", np.ones(known, dtype=np.float32)),
            tokenizer,
            mapping=None if mapping is None else mapping.astype(np.int64),
            config=config,
            name=folder.name,
        )

    def save(self, folder: Path) -> None:
        """Write a folder that ``load`` and model2vec open."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {"embeddings": self.rows, "weights": self.weights}
        if self.mapping is not None:
            tensors["mapping"] = self.mapping
        with replacing(folder / WEIGHTS) as temporary:
            save_file(tensors, temporary)
        with replacing(folder / TOKENIZER) as temporary:
            temporary.write_text(self.tokenizer.to_str(), encoding="utf-8")
        write_json(folder / CONFIG, self.config)

    def cut(self, dimensions: int) -> StaticEncoder:
        """The encoder of the first ``dimensions`` numbers (Matryoshka, arXiv:2205.13147)."""
        if not 1 <= dimensions <= self.dimensions:
            raise InputError(
                f"dimensions = {dimensions} of {self.name}, which has {self.dimensions}",
                remedy=f"1 to {self.dimensions}",
            )
        return StaticEncoder(
            np.ascontiguousarray(self.rows[:, :dimensions]),
            self.weights,
            self.tokenizer,
            mapping=self.mapping,
            config=self.config,
            name=self.name,
        )

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text."""
        return [len(one.ids) for one in self._encode(texts)]

    def vectors(self, texts: Sequence[str]) -> Vectors:
        """One vector a text, in the order given: (N, dimensions).  Texts are read whole."""
        out = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        for start in range(0, len(texts), CHUNK):
            encodings = self._encode(texts[start : start + CHUNK])
            lengths = np.array([len(one.ids) for one in encodings])
            told = np.flatnonzero(lengths) + start
            if len(told):
                ids = np.concatenate([one.ids for one in encodings]).astype(np.int64)
                taken = self.rows[ids if self.mapping is None else self.mapping[ids]]
                weighed = np.multiply(taken, self.weights[ids, None], dtype=np.float32)
                starts = (np.cumsum(lengths) - lengths)[lengths > 0]
                sums = np.add.reduceat(weighed, starts, axis=0)
                out[told] = sums / lengths[lengths > 0, None]
        if self.config["normalize"]:
            out /= np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-12)
        return out

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """One vector a text, as plain lists (the protocol ``Embedder``)."""
        rows: list[list[float]] = self.vectors(texts).tolist()
        return rows

    def _encode(self, texts: Sequence[str]) -> list[tokenizers.Encoding]:
        encode = self.tokenizer.encode_batch_fast
        found: list[tokenizers.Encoding] = encode(list(texts), add_special_tokens=False)
        return found

    def _check(self) -> None:
        """Raise InputError when table, weights, mapping and tokenizer do not fit each other."""
        known = self.tokenizer.get_vocab_size(with_added_tokens=True)
        if self.rows.ndim != 2 or self.weights.ndim != 1:
            raise InputError(f"{self.name}: embeddings are no table", remedy="copy it again")
        if len(self.weights) < known:
            raise InputError(
                f"{self.name}: the tokenizer has {known} tokens, the table {len(self.weights)}",
                remedy="use the tokenizer the table was trained with",
            )
        numbers = np.arange(known) if self.mapping is None else self.mapping
        if len(numbers) < known or numbers.min() < 0 or numbers.max() >= len(self.rows):
            raise InputError(f"{self.name}: tokens without a row", remedy="copy it again")


def is_static(folder: Path | str) -> bool:
    """Whether ``folder`` holds a table of vectors rather than a transformer."""
    file = Path(folder) / CONFIG
    values = read_json(file) if file.is_file() else None
    return isinstance(values, dict) and values.get("model_type") == KIND


def quantized(table: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Rows in 8 bits and the weight of each: row = weight x eight bits.  (V,D) -> (V,D), (V,)"""
    largest = np.abs(table).max(axis=1)
    weights = (largest / 127).astype(np.float32)
    whole = np.rint(table / np.maximum(weights, 1e-30)[:, None])
    return whole.astype(np.int8), weights
