"""What PyTorch finds on this machine, in words."""

from __future__ import annotations

import torch

from fledge.train.device import bfloat16_pays, cpu_has_bfloat16


def describe_torch() -> dict[str, str]:
    """Name -> finding, for ``fledge doctor``."""
    rows = {
        "CPU bf16": _bfloat16(),
        "CPU kernels": torch.backends.cpu.get_cpu_capability(),
        "GPU": "none (not needed)",
    }
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        rows["GPU"] = ", ".join(names)
    elif torch.backends.mps.is_available():
        rows["GPU"] = "Apple (MPS), not used: training and generation run on the CPU"
    return rows


def _bfloat16() -> str:
    """As training decides it: there, and measured to be no slower than float32."""
    if not cpu_has_bfloat16():
        return "not native: training uses fp32"
    pays = bfloat16_pays()
    return "native" if pays else "native, but slower than fp32: training uses fp32"
