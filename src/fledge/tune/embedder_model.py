"""What embedder training changes: a table of words, or an encoder with its pooling.

Both give unit vectors of padded token ids, and are what the training loop asks of a model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from fledge.core import Config
from fledge.model.pooling import pool
from fledge.model.static_encoder import StaticEncoder, is_static, quantized
from fledge.model.text_encoder import TextEncoder

LETTERS = 16
"""Characters of a text that are looked at for each token that is read: few tokens are longer."""


class StudentShape(Config):
    """What the training loop reads of a model's shape."""

    width: int
    """Dimensions of a vector."""
    context: int
    """Tokens of a text."""
    parameters: int
    """Weights."""
    active: int
    """Weights that a token is multiplied with."""

    @property
    def training_flops_per_token(self) -> int:
        """Six for each weight: forward, and twice that backward."""
        return 6 * self.active


class Student(nn.Module, ABC):
    """An embedder that learns."""

    config: StudentShape
    compute_dtype: torch.dtype = torch.float32
    tokenizer: tokenizers.Tokenizer

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @abstractmethod
    def vectors(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Unit vectors of texts.  ids (N,T), mask (N,T), true at tokens -> (N,D) float32"""

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of texts, cut to ``config.context``."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the embedder, as ``open_student`` and the index open it."""

    @abstractmethod
    def rates(self) -> list[tuple[str, list[nn.Parameter], float]]:
        """(name, weights, peak rate) of what learns."""


class TableStudent(Student):
    """The weighted mean of the rows of a text's tokens: sum_t exp(log_weight_t) row_t, unit length.

    A row keeps its direction and a weight its size apart, so that how much a word counts is learnt
    at a rate of its own.
    """

    def __init__(
        self,
        rows: NDArray[np.float32],
        weights: NDArray[np.float32],
        tokenizer: tokenizers.Tokenizer,
        *,
        context: int,
        storage: str = "int8",
        about: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        lengths = np.linalg.norm(rows, axis=1) * weights
        unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        self.rows = nn.Parameter(torch.from_numpy(unit.astype(np.float32)))
        self.log_weights = nn.Parameter(torch.from_numpy(lengths).float().clamp(min=1e-6).log())
        self.tokenizer, self.storage, self.about = tokenizer, storage, about or {}
        V, D = rows.shape
        self.config = StudentShape(width=D, context=context, parameters=V * (D + 1), active=D)

    def vectors(self, ids: Tensor, mask: Tensor) -> Tensor:
        keep = mask.bool()
        flat = ids[keep]
        lengths = keep.sum(1)
        starts = lengths.cumsum(0) - lengths
        weights = self.log_weights[flat].exp()
        sums = F.embedding_bag(
            flat, self.rows, starts, mode="sum", per_sample_weights=weights
        )  # (N,D)
        return F.normalize(sums, dim=-1)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        most = LETTERS * self.config.context
        cut = [text[:most] for text in texts]
        found = self.tokenizer.encode_batch_fast(cut, add_special_tokens=False)
        return [one.ids[: self.config.context] for one in found]

    @torch.no_grad()
    def frozen(self, name: str = "student") -> StaticEncoder:
        """The embedder as it is used, its numbers stored as ``storage`` says."""
        table = (self.rows * self.log_weights.exp()[:, None]).float().cpu().numpy()
        table[0] = 0.0  # the unknown token says nothing
        if self.storage == "int8":
            rows, weights = quantized(table)
        else:
            rows, weights = table.astype(self.storage), np.ones(len(table), dtype=np.float32)
        config = {**self.about, "storage": self.storage}
        return StaticEncoder(rows, weights, self.tokenizer, config=config, name=name)

    def save(self, folder: Path) -> None:
        self.frozen().save(folder)

    def rates(self) -> list[tuple[str, list[nn.Parameter], float]]:
        return [("embedding", [self.rows], 2e-3), ("vectors", [self.log_weights], 1e-2)]


class EncoderStudent(Student):
    """A transformer and its pooling (``TextEncoder``)."""

    def __init__(self, encoder: TextEncoder, *, context: int) -> None:
        super().__init__()
        self.encoder = encoder.model
        self._text = encoder
        shape = encoder.model.config
        matrices = sum(w.numel() for n, w in encoder.model.named_parameters() if "layers." in n)
        self.config = StudentShape(
            width=shape.width,
            context=min(context, encoder.settings.max_tokens),
            parameters=shape.parameters,
            active=matrices,
        )

    def vectors(self, ids: Tensor, mask: Tensor) -> Tensor:
        return pool(self.encoder(ids, mask), mask, self._text.settings.pooling.how, True)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return self._text.token_ids(texts, limit=self.config.context)

    def save(self, folder: Path) -> None:
        self._text.save(folder)

    def rates(self) -> list[tuple[str, list[nn.Parameter], float]]:
        layers: list[nn.Parameter] = []
        rest: list[nn.Parameter] = []
        for name, weight in self.encoder.named_parameters():
            if weight.requires_grad and "pooler" not in name:
                (layers if "layers." in name and weight.ndim > 1 else rest).append(weight)
        return [("matrices", layers, 5e-5), ("embedding", rest, 5e-5)]


def open_student(folder: Path, *, context: int) -> Student:
    """The embedder in ``folder``, ready to learn; raises InputError where it cannot."""
    if not is_static(folder):
        return EncoderStudent(TextEncoder.load(folder), context=context)
    found = StaticEncoder.load(folder)
    rows = found.rows if found.mapping is None else found.rows[found.mapping]
    storage = str(found.config.get("storage", rows.dtype.name))
    return TableStudent(
        rows.astype(np.float32),
        found.weights,
        found.tokenizer,
        context=context,
        storage=storage,
        about={k: v for k, v in found.config.items() if k != "storage"},
    )
