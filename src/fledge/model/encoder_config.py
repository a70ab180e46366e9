"""The shape of an encoder and how its vectors are pooled: numbers in, configs out.  No torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from fledge.core import Config


class Pooling(Config):
    """How the vectors of a text's tokens become one."""

    how: Literal["mean", "cls", "max"] = "mean"
    """Mean of the tokens, the first token, or the largest of each dimension."""
    normalize: bool = True
    """Divide by the Euclidean length, so that dot product means cosine."""


class EncoderConfig(Config):
    """A bidirectional encoder in the BERT layout (arXiv:1810.04805)."""

    vocab_size: int = Field(ge=1)
    """Tokens in the alphabet, special ones included (V)."""
    width: int = Field(ge=1)
    """Dimensions of a token's vector (D)."""
    depth: int = Field(ge=1)
    """Number of layers."""
    heads: int = Field(ge=1)
    """Attention heads (H); divides ``width``."""
    ffn: int = Field(ge=1)
    """Inner dimensions of the feed-forward block."""
    context: int = Field(default=512, ge=1)
    """Positions that have an embedding: the longest sequence."""
    types: int = Field(default=2, ge=1)
    """Segment types: first text, second text."""
    norm_eps: float = Field(default=1e-12, gt=0)
    """Added to the variance inside LayerNorm."""
    activation: Literal["silu", "gelu", "gelu_tanh", "relu"] = "gelu"
    """Of the feed-forward block."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of hidden numbers set to zero while training, at the three places BERT names."""
    pad_id: int | None = 0
    """Token for padding."""
    pooler: bool = False
    """A dense layer with tanh over the first token follows (heads for classes need it)."""

    @model_validator(mode="after")
    def _heads_divide(self) -> EncoderConfig:
        if self.width % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide width ({self.width})")
        return self

    @property
    def parameters(self) -> int:
        """All weights of the encoder, embeddings, biases and pooler included."""
        D = self.width
        embeddings = (self.vocab_size + self.context + self.types + 2) * D
        layer = 4 * (D + 1) * D + (D + 1) * self.ffn + (self.ffn + 1) * D + 4 * D
        return embeddings + self.depth * layer + (D + 1) * D * self.pooler


class TextSettings(Config):
    """How texts are prepared for an encoder that embeds them."""

    pooling: Pooling = Pooling()
    """How the vectors of a text's tokens become one."""
    max_tokens: int = Field(ge=1)
    """Tokens of a text that are read, special ones included."""
    lowercase: bool = False
    """Lower-case texts before the tokenizer sees them."""
    prompts: dict[str, str] = Field(default_factory=dict)
    """Name -> text put before what is embedded, such as "query: "."""
    default_prompt: str | None = None
    """The prompt used when none is named."""

    @model_validator(mode="after")
    def _prompt_known(self) -> TextSettings:
        if self.default_prompt is not None and self.default_prompt not in self.prompts:
            raise ValueError(f"default_prompt {self.default_prompt!r} is not among the prompts")
        return self
