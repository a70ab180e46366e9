"""Names and row order of tensors: ours <-> GGUF's.  No torch.

llama.cpp's ``llama`` architecture turns neighbouring dimensions in RoPE, (0,1), (2,3), …; we, as
Hugging Face, turn (0, d/2), (1, d/2+1), ….  So its query and key rows are interleaved.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fledge.model.config import ModelConfig

WHOLE = {"embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output"}
"""Outside the layers: our name -> GGUF's."""

INNER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
"""Inside a layer: our name -> GGUF's."""

ROPE_FACTORS = "rope_freqs.weight"
"""What the wavelengths of RoPE are multiplied by (Llama 3): made from the config, not learnt."""

_OURS = {
    **{theirs: ours for ours, theirs in WHOLE.items()},
    **{theirs: ours for ours, theirs in INNER.items()},
}


def gguf_name(name: str) -> str:
    """ "layers.3.self_attn.q_proj.weight" -> "blk.3.attn_q.weight"."""
    stem, _, kind = name.rpartition(".")
    if stem in WHOLE:
        return f"{WHOLE[stem]}.{kind}"
    _, layer, inner = stem.split(".", 2)
    return f"blk.{layer}.{INNER[inner]}.{kind}"


def our_name(name: str) -> str | None:
    """The inverse of ``gguf_name``; None for a tensor a decoder has no place for."""
    stem, _, kind = name.rpartition(".")
    if kind not in ("weight", "bias"):
        return None
    if not stem.startswith("blk."):
        whole = _OURS.get(stem)
        return f"{whole}.{kind}" if whole in WHOLE else None
    _, layer, inner = [*stem.split(".", 2), ""][:3]
    ours = _OURS.get(inner)
    return f"layers.{layer}.{ours}.{kind}" if layer.isdigit() and ours in INNER else None


def turned_heads(name: str, config: ModelConfig) -> int | None:
    """Heads of a tensor whose rows RoPE turns (queries or keys, ours by name), else None."""
    stem = name.rpartition(".")[0]
    if stem.endswith("self_attn.q_proj"):
        return config.heads
    return config.kv_heads if stem.endswith("self_attn.k_proj") else None


def interleave(rows: NDArray[Any], heads: int) -> NDArray[Any]:
    """Rows (heads * d, ...) in halves -> in neighbouring pairs."""
    return np.ascontiguousarray(_swap(rows, heads, 2, rows.shape[0] // heads // 2))


def separate(rows: NDArray[Any], heads: int) -> NDArray[Any]:
    """The inverse of ``interleave``."""
    return np.ascontiguousarray(_swap(rows, heads, rows.shape[0] // heads // 2, 2))


def _swap(rows: NDArray[Any], heads: int, outer: int, inner: int) -> NDArray[Any]:
    split = rows.reshape(heads, outer, inner, *rows.shape[1:])
    return split.swapaxes(1, 2).reshape(rows.shape)
