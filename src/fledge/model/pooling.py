"""The vectors of a text's tokens in, the vector of the text out."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor


def pool(
    hidden: Tensor,
    mask: Tensor,
    how: Literal["mean", "cls", "max"] = "mean",
    normalize: bool = True,
) -> Tensor:
    """One vector a text.  hidden (B,T,D), mask (B,T), true or 1 at tokens -> (B,D) float32.

    "cls" takes the first token that is no padding.  A row that is all padding gives zeros.
    """
    keep = mask.bool().unsqueeze(-1)  # (B,T,1)
    hidden = torch.where(keep, hidden.float(), 0.0)  # padding may hold anything, NaN too
    if how == "mean":
        pooled = hidden.sum(1) / keep.sum(1).clamp(min=1)
    elif how == "cls":
        pooled = hidden[torch.arange(len(hidden), device=hidden.device), mask.int().argmax(1)]
    elif how == "max":
        pooled = hidden.masked_fill(~keep, -torch.inf).amax(1)
        pooled = torch.where(keep.any(1), pooled, 0.0)
    else:
        raise ValueError(f"pooling {how!r} is not known: mean, cls or max")
    return F.normalize(pooled, dim=-1) if normalize else pooled
