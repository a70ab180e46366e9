"""RoPE tables without torch: a config in, cosines and sines out; as ``fledge.model.rope``."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from fledge.model.config import ModelConfig, RopeScaling
from fledge.model.rope_layout import yarn_magnitude

Floats = NDArray[np.float32]


def rope_table(positions: int, config: ModelConfig) -> tuple[Floats, Floats]:
    """Cosines and sines of the positions below ``positions``: two (positions, d/2).

    No sequence is longer than the context here, so dynamic NTK has the frequencies of that length.
    """
    angles = np.outer(np.arange(positions, dtype=np.float32), inverse_frequencies(config))
    scaling = config.rope_scaling
    scale = np.float32(1.0)
    if scaling is not None and scaling.kind == "yarn":
        scale = np.float32(scaling.attention_factor or yarn_magnitude(scaling.factor))
    return np.cos(angles) * scale, np.sin(angles) * scale


def inverse_frequencies(config: ModelConfig) -> Floats:
    """Radians a position for each pair of a head: (d/2,) (arXiv:2104.09864, eq. 15)."""
    scaling = config.rope_scaling
    if scaling is None:
        return _plain(config, config.rope_theta)
    original = scaling.original_context or config.context
    if scaling.kind == "dynamic":
        stretch = scaling.factor * config.context / original - (scaling.factor - 1)
        size = config.head_size
        return _plain(config, config.rope_theta * stretch ** (size / (size - 2)))
    plain = _plain(config, config.rope_theta)
    if scaling.kind == "linear":
        return plain / np.float32(scaling.factor)
    kept = _kept(plain, scaling, original, config)
    return kept * plain + (1 - kept) * plain / np.float32(scaling.factor)


def _plain(config: ModelConfig, theta: float) -> Floats:
    exponents = np.arange(0, config.head_size, 2, dtype=np.float32) / np.float32(config.head_size)
    return np.float32(1.0) / np.float32(theta) ** exponents


def _kept(plain: Floats, scaling: RopeScaling, original: int, config: ModelConfig) -> Floats:
    """The share of each frequency that stays: Llama 3.1, or YaRN (arXiv:2309.00071, eq. 18-23)."""
    if scaling.kind == "llama3":
        low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
        turns = original * plain / np.float32(2 * math.pi)  # within the original context
        return np.clip((turns - low) / (high - low), 0, 1).astype(np.float32)
    size, base = config.head_size, 2 * math.log(config.rope_theta)
    first, last = (  # the dimensions that turn so often within the original context
        size * math.log(original / (turns * 2 * math.pi)) / base
        for turns in (scaling.beta_fast, scaling.beta_slow)
    )
    if scaling.truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, size - 1)
    last = last + 0.001 if first == last else last  # a step instead of a ramp
    pairs = np.arange(size // 2, dtype=np.float32)
    return (1 - np.clip((pairs - first) / (last - first), 0, 1)).astype(np.float32)
