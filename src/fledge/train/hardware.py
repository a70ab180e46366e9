"""What PyTorch finds on this machine, in words."""

from __future__ import annotations

import torch

from fledge.train.device import cpu_has_bfloat16


def describe_torch() -> dict[str, str]:
    """Name -> finding, for ``fledge doctor``."""
    rows = {
        "CPU bf16": "native" if cpu_has_bfloat16() else "not native: training uses fp32",
        "CPU kernels": torch.backends.cpu.get_cpu_capability(),
        "GPU": "none (not needed)",
    }
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        rows["GPU"] = ", ".join(names)
    elif torch.backends.mps.is_available():
        rows["GPU"] = "Apple (MPS), not used: training and generation run on the CPU"
    return rows
