"""The decoder: token ids in, logits out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fledge.model.attention import Attention, Mask, causal_mask, windowed
from fledge.model.block_attention import EXPLICIT_TOKENS, score_bias
from fledge.model.branches import find_branches
from fledge.model.cache import Cache
from fledge.model.config import ModelConfig
from fledge.model.ffn import FeedForward
from fledge.model.linear import Linear
from fledge.model.norm import RMSNorm
from fledge.model.rope import reach_of, rope_table
from fledge.model.sparse_attention import block_mask

ROPE_ROWS = 16_384
"""Positions tabled from the start, or the context where that is less; the table grows."""


class Layer(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x)).  The residual stream is float32."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.width, config.norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RMSNorm(config.width, config.norm_eps)
        self.mlp = FeedForward(config)

    def forward(
        self,
        x: Tensor,
        dtype: torch.dtype,
        rope: tuple[Tensor, Tensor],
        mask: Mask,
        cache: Cache | None,
        layer: int,
    ) -> Tensor:
        """x (B,T,D) float32 -> (B,T,D) float32; products are computed in ``dtype``."""
        x = x + self.self_attn(self.input_layernorm(x).to(dtype), rope, mask, cache, layer)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x).to(dtype))
        return out


class Decoder(nn.Module):
    """A causal language model: RMSNorm before each block, RoPE, grouped keys, a gated block.

    ``ModelConfig`` says the rest.  Modules bear the names of the Hugging Face layout, so
    ``state_dict`` needs only a prefix.  ``compute_dtype`` is the type of the products; weights
    keep theirs.  ``sparse`` computes attention without a cache by FlexAttention, which pays in
    generated code on a GPU.
    """

    sparse = False

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
        self._reach = config.context
        cos, sin = rope_table(min(config.context, ROPE_ROWS), config, torch.device("cpu"))
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def head(self) -> Tensor:
        """The output matrix (V,D): the embedding itself when tied."""
        return self.embed_tokens.weight if self.lm_head is None else self.lm_head.weight

    def use_float8(self) -> None:
        """From now on the layers' products are computed in 8-bit floats (``model/float8.py``)."""
        for module in self.layers.modules():
            if type(module) is Linear:
                module.float8 = True

    def initialize(self, seed: int) -> Decoder:
        """Fill the weights from ``seed``; each layer starts as the identity.

        Matrices and embeddings are normal with deviation 1/sqrt(inputs) (embeddings: 0.02);
        projections back into the residual stream are zero (arXiv:2203.03466, app. D.2), and so
        are biases.
        """
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, weight in self.named_parameters():
                if name.endswith(("o_proj.weight", "down_proj.weight", ".bias")):
                    weight.zero_()
                elif weight.ndim == 2:
                    inner = "layers." in name
                    deviation = weight.shape[1] ** -0.5 if inner else 0.02
                    weight.copy_(torch.randn(weight.shape, generator=generator) * deviation)
        return self

    def embed(self, ids: Tensor) -> Tensor:
        """The embeddings of tokens: (B,T) int64 -> (B,T,D) float32"""
        return F.embedding(ids, self.embed_tokens.weight).float()

    def hidden(
        self,
        ids: Tensor,
        segments: Tensor | None = None,
        *,
        cache: Cache | None = None,
        positions: Tensor | None = None,
        embedded: Tensor | None = None,
        continues: Tensor | None = None,
    ) -> Tensor:
        """The normalised last hidden state, before the output matrix.

        ids (B,T) int64, segments (B,T) int -> (B,T,D) in ``compute_dtype``.  ``embedded``
        (B,T,D) float32 takes the place of ``embed(ids)``.  ``continues`` (B,T) int names the
        segment that each one goes on from, as if all of it stood before its own tokens; -1: none.
        """
        if cache is not None:
            positions, mask = cache.begin(ids, positions)
            rope = self._rope(int(positions.max()) + 1, cache.max_length)
            rope = (rope[0][positions.clamp(min=0)], rope[1][positions.clamp(min=0)])
            masks = self._by_window(partial(windowed, mask, positions))
        elif segments is not None and continues is not None:
            branches = find_branches(segments, continues, self.config.heads, self.config.kv_heads)
            longest = int(branches.positions.max()) + 1
            cos, sin = self._rope(longest, longest)
            rope = (cos[branches.positions], sin[branches.positions])
            masks = self._by_window(branches.within)
        else:
            rope = self._rope(ids.shape[1], ids.shape[1])
            masks = self._masks(ids, segments)
        x = self.embed(ids) if embedded is None else embedded
        for number, layer in enumerate(self.layers):
            x = layer(x, self.compute_dtype, rope, masks[number], cache, number)
        if cache is not None:
            cache.end()
        out: Tensor = self.norm(x)
        return out.to(self.compute_dtype)

    def logits(self, hidden: Tensor) -> Tensor:
        """(...,D) -> (...,V) float32"""
        logits = F.linear(hidden, self.head.to(hidden.dtype)).float()
        cap = self.config.logit_softcap
        return logits if cap is None else cap * torch.tanh(logits / cap)

    def forward(
        self,
        ids: Tensor,
        segments: Tensor | None = None,
        *,
        cache: Cache | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """Logits of the next token at every position: ids (B,T) -> (B,T,V) float32.

        ``segments`` (B,T) numbers the document of each position: a position sees earlier
        positions of its own document only.  With a ``cache`` (see ``KVCache``) the ids continue
        its rows, at ``positions`` (B,T) when given.
        """
        return self.logits(self.hidden(ids, segments, cache=cache, positions=positions))

    def _masks(self, ids: Tensor, segments: Tensor | None) -> list[Mask]:
        """What each layer's queries see of whole rows, in the form its attention reads."""
        T = ids.shape[1]
        if self.sparse:
            return self._by_window(partial(block_mask, T, segments, like=ids))
        mask, places = causal_mask(ids, segments), torch.arange(T, device=ids.device)
        explicit = ids.device.type == "cpu" and T <= EXPLICIT_TOKENS

        def make(window: int | None) -> Tensor:
            narrow = windowed(mask, places, window)
            return score_bias(narrow) if explicit else narrow

        return self._by_window(make)

    def _by_window(self, make: Callable[[int | None], Mask]) -> list[Mask]:
        """A mask for each layer; layers of one window share theirs."""
        windows = [self.config.window_of(layer) for layer in range(self.config.depth)]
        masks = {window: make(window) for window in dict.fromkeys(windows)}
        return [masks[window] for window in windows]

    def _rope(self, length: int, longest: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines of the positions below ``length``, for rows of up to ``longest``.

        With dynamic NTK and a cache that holds more than the context, that is the length the
        cache was made for: keys remembered early would not fit frequencies that change later.
        """
        reach, rows = reach_of(self.config, longest), self.cos.shape[0]
        if length > rows or reach != self._reach or self.cos.dtype != torch.float32:
            if length > rows:  # by half at least: decoding must not make a table for every token
                rows = max(length, rows + rows // 2)
            self._reach = reach
            self.cos, self.sin = rope_table(rows, self.config, self.cos.device, reach)
        return self.cos[:length], self.sin[:length]
