"""The shape of a decoder: numbers in, a frozen ``ModelConfig`` out.  No torch."""

from __future__ import annotations

from pydantic import Field, model_validator

from fledge.core import Config

HEAD_SIZE = 64
"""Dimensions a head: heads of 64 are the fastest on CPUs with AVX-512 (measured)."""


class ModelConfig(Config):
    """A decoder of the Llama family; with ``qk_norm`` of the Qwen3 family."""

    vocab_size: int = Field(ge=1)
    """Tokens in the alphabet, special ones included (V)."""
    width: int = Field(ge=1)
    """Dimensions of the residual stream (D)."""
    depth: int = Field(ge=1)
    """Number of layers."""
    heads: int = Field(ge=1)
    """Query heads (H)."""
    kv_heads: int = Field(ge=1)
    """Key and value heads (K); divides ``heads``."""
    head_size: int = Field(default=HEAD_SIZE, ge=2, multiple_of=2)
    """Dimensions of a head; even, because RoPE turns pairs."""
    ffn: int = Field(ge=1)
    """Dimensions between the projections of the SwiGLU."""
    context: int = Field(ge=1)
    """Tokens a sequence may hold: the length the model was trained on."""
    qk_norm: bool = True
    """RMS-normalise queries and keys per head before RoPE (Qwen3)."""
    tied: bool = True
    """The output projection is the embedding."""
    rope_theta: float = Field(default=10_000.0, gt=0)
    """Base of the RoPE frequencies (arXiv:2104.09864)."""
    norm_eps: float = Field(default=1e-6, gt=0)
    """Added to the mean square inside RMSNorm."""
    bos_id: int | None = None
    """Token that begins a document."""
    eos_ids: tuple[int, ...] = ()
    """Tokens that end a generation."""
    pad_id: int | None = None
    """Token for padding, when there is one."""

    @model_validator(mode="after")
    def _heads_divide(self) -> ModelConfig:
        if self.heads % self.kv_heads:
            raise ValueError(f"kv_heads ({self.kv_heads}) must divide heads ({self.heads})")
        return self

    @property
    def layer_parameters(self) -> int:
        """Weights of the matrices of one layer."""
        attention = self.width * self.head_size * 2 * (self.heads + self.kv_heads)
        return attention + 3 * self.width * self.ffn

    @property
    def parameters(self) -> int:
        """All weights, embeddings and norms included."""
        norms = self.depth * (2 * self.width + 2 * self.head_size * self.qk_norm) + self.width
        embeddings = self.vocab_size * self.width * (1 if self.tied else 2)
        return self.depth * self.layer_parameters + norms + embeddings

    @property
    def training_flops_per_token(self) -> int:
        """Multiply-adds x 2 of forward and backward for one token at full context.

        6 per weight of a matrix that multiplies, plus causal attention (arXiv:2204.02311, B).
        """
        matrices = self.depth * self.layer_parameters + self.vocab_size * self.width
        attention = self.depth * self.heads * self.head_size * self.context
        return 6 * (matrices + attention)


def derive(
    depth: int,
    vocab_size: int,
    context: int,
    *,
    width: int | None = None,
    heads: int | None = None,
    kv_heads: int | None = None,
    ffn: int | None = None,
    tied: bool | None = None,
) -> ModelConfig:
    """The decoder of a ``depth``: 64 x depth wide, heads of 64, grouped keys, SwiGLU of 8/3.

    What is given stands; the rest is derived.  Heads are halved for keys and values where they
    are even, and the embedding is tied below 8 layers (there it would be most of the weights).
    """
    width = width or (heads or depth) * HEAD_SIZE
    heads = heads or max(1, width // HEAD_SIZE)
    return ModelConfig(
        vocab_size=vocab_size,
        width=width,
        depth=depth,
        heads=heads,
        kv_heads=kv_heads or (heads // 2 if heads % 2 == 0 else heads),
        ffn=ffn or -(-8 * width // (3 * HEAD_SIZE)) * HEAD_SIZE,
        context=context,
        tied=depth < 8 if tied is None else tied,
    )
