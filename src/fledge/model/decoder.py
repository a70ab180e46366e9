"""The decoder: token ids in, logits out."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fledge.model.cache import KVCache
from fledge.model.config import ModelConfig
from fledge.model.layers import Attention, Linear, RMSNorm, SwiGLU, rope_table


class Layer(nn.Module):
    """x + attention(norm(x)), then x + swiglu(norm(x)).  The residual stream is float32."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.width, config.norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RMSNorm(config.width, config.norm_eps)
        self.mlp = SwiGLU(config)

    def forward(
        self,
        x: Tensor,
        dtype: torch.dtype,
        rope: tuple[Tensor, Tensor],
        mask: Tensor,
        cache: KVCache | None,
        layer: int,
    ) -> Tensor:
        """x (B,T,D) float32 -> (B,T,D) float32; products are computed in ``dtype``."""
        x = x + self.self_attn(self.input_layernorm(x).to(dtype), rope, mask, cache, layer)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x).to(dtype))
        return out


class Decoder(nn.Module):
    """A causal language model: RMSNorm before each block, RoPE, grouped keys, SwiGLU, no biases.

    Modules bear the names of the Hugging Face layout, so ``state_dict`` needs only a prefix.
    ``compute_dtype`` is the type of the products; weights keep theirs.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, config: ModelConfig, compute_dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.config = config
        self.compute_dtype = compute_dtype
        self.embed_tokens = nn.Embedding(config.vocab_size, config.width)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.depth))
        self.norm = RMSNorm(config.width, config.norm_eps)
        self.lm_head = None if config.tied else Linear(config.width, config.vocab_size)
        cos, sin = rope_table(config.context, config, torch.device("cpu"))
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.embed_tokens.weight.device

    @property
    def head(self) -> Tensor:
        """The output matrix (V,D): the embedding itself when tied."""
        return self.embed_tokens.weight if self.lm_head is None else self.lm_head.weight

    def initialize(self, seed: int) -> Decoder:
        """Fill the weights from ``seed``; each layer starts as the identity.

        Matrices and embeddings are normal with deviation 1/sqrt(inputs) (embeddings: 0.02);
        projections back into the residual stream are zero (arXiv:2203.03466, app. D.2).
        """
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, weight in self.named_parameters():
                if name.endswith(("o_proj.weight", "down_proj.weight")):
                    weight.zero_()
                elif weight.ndim == 2:
                    inner = "layers." in name
                    deviation = weight.shape[1] ** -0.5 if inner else 0.02
                    weight.copy_(torch.randn(weight.shape, generator=generator) * deviation)
        return self

    def hidden(
        self,
        ids: Tensor,
        segments: Tensor | None = None,
        *,
        cache: KVCache | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """The normalised last hidden state, before the output matrix.

        ids (B,T) int64, segments (B,T) int -> (B,T,D) in ``compute_dtype``
        """
        if cache is not None:
            positions, mask = cache.begin(ids, positions)
            rope = self._rope(int(positions.max()) + 1)
            rope = (rope[0][positions.clamp(min=0)], rope[1][positions.clamp(min=0)])
        else:
            mask = causal_mask(ids, segments)
            rope = self._rope(ids.shape[1])
        x = F.embedding(ids, self.embed_tokens.weight).float()
        for number, layer in enumerate(self.layers):
            x = layer(x, self.compute_dtype, rope, mask, cache, number)
        if cache is not None:
            cache.end()
        out: Tensor = self.norm(x)
        return out.to(self.compute_dtype)

    def logits(self, hidden: Tensor) -> Tensor:
        """(...,D) -> (...,V) float32"""
        return F.linear(hidden, self.head.to(hidden.dtype)).float()

    def forward(
        self,
        ids: Tensor,
        segments: Tensor | None = None,
        *,
        cache: KVCache | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """Logits of the next token at every position: ids (B,T) -> (B,T,V) float32.

        ``segments`` (B,T) numbers the document of each position: a position sees earlier
        positions of its own document only.  With a ``cache`` (see ``KVCache``) the ids continue
        its rows, at ``positions`` (B,T) when given.
        """
        return self.logits(self.hidden(ids, segments, cache=cache, positions=positions))

    def _rope(self, length: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines of the positions below ``length``; the table grows when needed."""
        if length > self.cos.shape[0]:
            self.cos, self.sin = rope_table(length, self.config, self.cos.device)
        return self.cos[:length], self.sin[:length]


def causal_mask(ids: Tensor, segments: Tensor | None) -> Tensor:
    """What each query may see: earlier keys (of its segment).  (B,T) -> bool (B or 1,1,T,T)"""
    T = ids.shape[1]
    places = torch.arange(T, device=ids.device)
    causal = places[:, None] >= places
    if segments is None:
        return causal[None, None]
    return (causal & (segments[:, :, None] == segments[:, None, :])).unsqueeze(1)
