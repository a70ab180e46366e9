"""Summed negative log-likelihoods in, bits per byte out."""

from __future__ import annotations

import math


def bits_per_byte(nats: float, size: int) -> float:
    """Bits a model needs per byte: ``nats`` (summed -ln p) of a text of ``size`` UTF-8 bytes."""
    if size <= 0:
        raise ValueError(f"a text of {size} bytes has no bits per byte")
    return nats / math.log(2) / size
