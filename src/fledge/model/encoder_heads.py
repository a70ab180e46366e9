"""What stands on an encoder: classes of a text (or of a pair), and the words under masks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fledge.model.encoder import Encoder, LayerNorm, activation_of, initialize
from fledge.model.encoder_config import EncoderConfig
from fledge.model.linear import Linear


class Classifier(nn.Module):
    """Logits of classes from the pooled first token; one class alone makes a reranker's score."""

    def __init__(
        self,
        config: EncoderConfig,
        labels: tuple[str, ...],
        compute_dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        if not labels or len(set(labels)) != len(labels):
            raise ValueError(f"labels must be given and differ: {labels}")
        self.labels = labels
        self.encoder = Encoder(config.model_copy(update={"pooler": True}), compute_dtype)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = Linear(config.width, len(labels), bias=True)

    def initialize(self, seed: int) -> Classifier:
        """Fill the weights from ``seed`` (see ``Encoder.initialize``)."""
        initialize(self, seed)
        return self

    def forward(
        self, ids: Tensor, mask: Tensor | None = None, types: Tensor | None = None
    ) -> Tensor:
        """(B,T) each, as in ``Encoder`` -> logits (B, classes) float32"""
        pooled = self.dropout(self.encoder.pooled(self.encoder(ids, mask, types)))
        out: Tensor = self.classifier(pooled.to(self.encoder.compute_dtype))
        return out.float()


class MaskedLM(nn.Module):
    """Logits of the token at every place; the output matrix is the embedding."""

    def __init__(self, config: EncoderConfig, compute_dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.encoder = Encoder(config, compute_dtype)
        self.dense = Linear(config.width, config.width, bias=True)
        self.norm = LayerNorm(config.width, config.norm_eps)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        self.activation = activation_of(config)

    def initialize(self, seed: int) -> MaskedLM:
        """Fill the weights from ``seed`` (see ``Encoder.initialize``)."""
        initialize(self, seed)
        return self

    def forward(
        self, ids: Tensor, mask: Tensor | None = None, types: Tensor | None = None
    ) -> Tensor:
        """(B,T) each, as in ``Encoder`` -> logits (B,T,V) float32"""
        dtype = self.encoder.compute_dtype
        x = self.encoder(ids, mask, types).to(dtype)
        x = self.norm(self.activation(self.dense(x))).to(dtype)
        matrix = self.encoder.embed_tokens.weight.to(dtype)
        return F.linear(x, matrix).float() + self.bias.float()
