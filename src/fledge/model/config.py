"""The shape of a decoder: numbers in, a frozen ``ModelConfig`` out.  No torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from fledge.core import Config

HEAD_SIZE = 64
"""Dimensions a head: heads of 64 are the fastest on CPUs with AVX-512 (measured)."""


class RopeScaling(Config):
    """How RoPE reaches beyond the length it was trained on."""

    kind: Literal["linear", "dynamic", "llama3", "yarn"]
    """Position interpolation (arXiv:2306.15595), dynamic NTK, Llama 3, YaRN (arXiv:2309.00071).

    Dynamic NTK raises the base with the sequence's length, from the context on: up to there all
    sequences share their frequencies."""
    factor: float = Field(gt=0)
    """How many times longer than ``original_context``."""
    original_context: int | None = Field(default=None, ge=1)
    """Tokens before scaling (linear needs none).  None: the model's ``context``."""
    low_frequency_factor: float = Field(default=1.0, gt=0)
    """llama3: wavelengths longer than ``original_context`` / this are stretched by ``factor``."""
    high_frequency_factor: float = Field(default=4.0, gt=0)
    """llama3: wavelengths shorter than ``original_context`` / this stay as they are."""
    beta_fast: float = Field(default=32.0, gt=0)
    """yarn: dimensions that turn more often than this within the context stay as they are."""
    beta_slow: float = Field(default=1.0, gt=0)
    """yarn: dimensions that turn less often than this are interpolated by ``factor``."""
    attention_factor: float | None = Field(default=None, gt=0)
    """yarn: multiplies cosines and sines.  None: 0.1 ln(factor) + 1."""
    truncate: bool = True
    """yarn: round the bounds of the ramp to whole dimensions."""

    @model_validator(mode="after")
    def _bounds_are_in_order(self) -> RopeScaling:
        low, high = self.low_frequency_factor, self.high_frequency_factor
        if self.kind == "llama3" and low >= high:
            raise ValueError(f"low_frequency_factor ({low}) must be below high ({high})")
        if self.kind == "yarn" and self.beta_slow > self.beta_fast:
            raise ValueError(f"beta_slow ({self.beta_slow}) exceeds beta_fast ({self.beta_fast})")
        return self


class ModelConfig(Config):
    """A causal decoder: Llama, Mistral, Qwen 2 and 3, SmolLM and what lies between."""

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
    """Inner dimensions of the feed-forward block."""
    context: int = Field(ge=1)
    """Tokens a sequence may hold: the length the model was trained on."""
    qk_norm: bool = True
    """RMS-normalise queries and keys per head before RoPE (Qwen3)."""
    tied: bool = True
    """The output projection is the embedding."""
    rope_theta: float = Field(default=10_000.0, gt=0)
    """Base of the RoPE frequencies (arXiv:2104.09864)."""
    rope_scaling: RopeScaling | None = None
    """How RoPE is stretched, if it is."""
    norm_eps: float = Field(default=1e-6, gt=0)
    """Added to the mean square inside RMSNorm."""
    activation: Literal["silu", "gelu", "gelu_tanh", "relu2"] = "silu"
    """Of the feed-forward block; "relu2" is relu(x)^2 (arXiv:2109.08668)."""
    gated: bool = True
    """down(activation(gate(x)) * up(x)) (arXiv:2002.05202), else down(activation(up(x)))."""
    attention_bias: bool = False
    """Queries, keys and values have biases (Qwen 2)."""
    output_bias: bool = False
    """The attention's output projection has a bias."""
    ffn_bias: bool = False
    """The feed-forward projections have biases."""
    window: int | None = Field(default=None, ge=1)
    """Sliding window: a position sees itself and ``window`` - 1 before it (arXiv:2310.06825)."""
    window_layers: tuple[int, ...] | None = None
    """The layers (0-based) where ``window`` holds.  None: all."""
    logit_softcap: float | None = Field(default=None, gt=0)
    """Logits become cap * tanh(logits / cap) (arXiv:2408.00118)."""
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
        if any(not 0 <= layer < self.depth for layer in self.window_layers or ()):
            raise ValueError(f"window_layers {self.window_layers} exceed depth {self.depth}")
        return self

    @model_validator(mode="after")
    def _rope_can_be_stretched(self) -> ModelConfig:
        kind = self.rope_scaling.kind if self.rope_scaling else None
        if kind == "dynamic" and self.head_size < 4:
            raise ValueError("dynamic RoPE scaling needs heads of 4 dimensions or more")
        if kind == "yarn" and self.rope_theta <= 1:
            raise ValueError(f"yarn needs rope_theta above 1, not {self.rope_theta}")
        return self

    def window_of(self, layer: int) -> int | None:
        """Tokens the layer (0-based) looks back over, itself included; None: all."""
        if self.window_layers is not None and layer not in self.window_layers:
            return None
        return self.window

    @property
    def layer_parameters(self) -> int:
        """Weights of the matrices of one layer."""
        attention = self.width * self.head_size * 2 * (self.heads + self.kv_heads)
        return attention + (3 if self.gated else 2) * self.width * self.ffn

    @property
    def parameters(self) -> int:
        """All weights, embeddings and norms included."""
        vectors = 2 * self.width + 2 * self.head_size * self.qk_norm + self._layer_biases
        embeddings = self.vocab_size * self.width * (1 if self.tied else 2)
        return self.depth * (self.layer_parameters + vectors) + self.width + embeddings

    @property
    def _layer_biases(self) -> int:
        attention = self.head_size * (self.heads + 2 * self.kv_heads) * self.attention_bias
        inner = (2 if self.gated else 1) * self.ffn
        return attention + self.width * self.output_bias + (inner + self.width) * self.ffn_bias

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
