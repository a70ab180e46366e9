"""Attention in blocks of queries: the same as in one piece, forward and backward."""

from __future__ import annotations

import pytest
import torch

from fledge.model.attention import attend, causal_mask, windowed


@pytest.mark.parametrize("tokens", [5, 129, 300, 515, 700])
@pytest.mark.parametrize("window", [None, 1, 7, 400])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_blocks_change_nothing(tokens: int, window: int | None, kv_heads: int) -> None:
    torch.manual_seed(tokens)
    q = torch.randn(2, 4, tokens, 8, requires_grad=True)
    k, v = (torch.randn(2, kv_heads, tokens, 8, requires_grad=True) for _ in range(2))
    segments = torch.arange(tokens).div(61, rounding_mode="floor").expand(2, -1)
    mask = causal_mask(segments, segments)
    if window is not None:
        mask = windowed(mask, torch.arange(tokens), window)
    slopes = torch.randn(2, 4, tokens, 8)
    found = []
    for causal in (False, True):
        out = attend(q, k, v, mask, causal=causal, window=window if causal else None)
        found.append((out, *torch.autograd.grad((out * slopes).sum(), (q, k, v))))
    for whole, blocks in zip(*found, strict=True):
        torch.testing.assert_close(blocks, whole, rtol=1e-4, atol=1e-5)
