"""Numbers of 8 and 4 bits: a matrix in, its packed form out, and back.  Pure functions.

The error of one number is known: int8 |x - back(x)| <= scale / 2; NF4 |x - back(x)| <= half the
widest gap of the codebook (0.152) times the largest of its block.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fledge.core.errors import InputError

Packed = dict[str, Tensor]
"""Names of buffers -> tensors."""

NF4_CODES = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)
"""Quantiles of the normal distribution, scaled to [-1, 1], zero included (2305.14314, app. E)."""

SCALES_A_GROUP = 256
"""NF4, double: scales that share one second scale (2305.14314, section 3)."""


def quantize_int8(weight: Tensor, group: int, scale_dtype: torch.dtype = torch.float16) -> Packed:
    """Symmetric int8, a scale for each ``group`` inputs.  (O,I) -> codes (O,I), scales (O,groups).

    The last group may be shorter.  A scale is rounded up to its type, so that no code is cut off
    and the error stays within half a step.
    """
    _check_group(group)
    grouped = _grouped(weight.float(), group)  # (O,groups,group)
    scales = _rounded_up(grouped.abs().amax(-1) / 127, scale_dtype)
    if not scales.isfinite().all():
        raise InputError("weights are too large for int8 scales", remedy="check the checkpoint")
    steps = grouped / scales.float().clamp(min=torch.finfo(torch.float32).tiny).unsqueeze(-1)
    codes = steps.round().clamp(-127, 127).to(torch.int8).flatten(1)[:, : weight.shape[1]]
    return {"codes": codes.contiguous(), "scales": scales}


def dequantize_int8(packed: Packed, group: int) -> Tensor:
    """codes x scales: (O,I) float32"""
    codes = packed["codes"]
    scales = packed["scales"].float().repeat_interleave(group, dim=1)[:, : codes.shape[1]]
    return codes.float() * scales


def quantize_nf4(weight: Tensor, group: int, double: bool = False) -> Packed:
    """Normal float of 4 bits: each number is the nearest code times the largest of its block.

    Blocks of ``group`` run over the flattened matrix, two numbers a byte, the first in the high
    half (as bitsandbytes lays them).  Returns ``codes`` uint8 and ``scales`` float32, one a block;
    with ``double`` the scales less their mean are int8 (``scales``) in groups of 256 with a
    float32 scale (``scales_scales``), and the mean is ``scales_mean``: linear steps where the
    paper has 8-bit floats, since scales less their mean are spread evenly around zero.
    """
    _check_group(group)
    if group % 2:
        raise InputError(f"nf4 group {group} is odd", remedy="two numbers share a byte: use 64")
    blocks = _grouped(weight.float().reshape(1, -1), group)[0]  # (N,group)
    scales = blocks.abs().amax(-1)
    packed: Packed = {"scales": scales}
    if double:
        packed = _double(scales)
        scales = _scales(packed)
    middles = _middles(weight.device)
    steps = blocks / scales.clamp(min=torch.finfo(torch.float32).tiny).unsqueeze(-1)
    codes = torch.bucketize(steps, middles).to(torch.uint8).flatten()
    return {"codes": codes[0::2] << 4 | codes[1::2], **packed}


def dequantize_nf4(packed: Packed, shape: tuple[int, int], group: int) -> Tensor:
    """The matrix of ``shape``, float32."""
    pairs = packed["codes"]
    codes = torch.stack((pairs >> 4, pairs & 15), dim=-1).view(-1, group)  # (N,group)
    values = torch.tensor(NF4_CODES, device=pairs.device)[codes.int()]
    values = values * _scales(packed).unsqueeze(-1)
    return values.flatten()[: shape[0] * shape[1]].view(shape)


def _rounded_up(values: Tensor, dtype: torch.dtype) -> Tensor:
    """The smallest numbers of ``dtype`` not below ``values``, which are not negative."""
    rounded = values.to(dtype)
    bits = torch.int32 if dtype == torch.float32 else torch.int16
    above = (rounded.view(bits) + 1).view(dtype)  # the next float has the next bit pattern
    return torch.where(rounded.float() < values, above, rounded)


def _double(scales: Tensor) -> Packed:
    mean = scales.mean()
    second = quantize_int8((scales - mean).view(1, -1), SCALES_A_GROUP, torch.float32)
    return {
        "scales": second["codes"][0],
        "scales_scales": second["scales"][0],
        "scales_mean": mean,
    }


def _scales(packed: Packed) -> Tensor:
    """One float32 scale a block, whether or not it is packed itself."""
    if "scales_mean" not in packed:
        return packed["scales"]
    second = {"codes": packed["scales"][None], "scales": packed["scales_scales"][None]}
    scales = dequantize_int8(second, SCALES_A_GROUP)[0] + packed["scales_mean"]
    return scales.clamp(min=0)


def _middles(device: torch.device) -> Tensor:
    codes = torch.tensor(NF4_CODES, device=device)
    return (codes[1:] + codes[:-1]) / 2


def _grouped(rows: Tensor, group: int) -> Tensor:
    """(O,I) -> (O,groups,group), the last group filled up with zeros."""
    missing = -rows.shape[1] % group
    return torch.nn.functional.pad(rows, (0, missing)).view(rows.shape[0], -1, group)


def _check_group(group: int) -> None:
    if group < 1:
        raise InputError(f"quantization group {group} is not positive", remedy="use 32, 64 or 128")
