"""What ``fledge doctor`` says of the processor is what training does with it."""

from __future__ import annotations

import pytest
import torch

from fledge.train.config import LoopConfig
from fledge.train.device import choose_precision
from fledge.train.hardware import describe_torch


@pytest.mark.parametrize(
    ("there", "pays", "said"),
    [
        (False, True, "not native: training uses fp32"),
        (True, False, "native, but slower than fp32: training uses fp32"),
        (True, True, "native"),
    ],
)
def test_the_number_type_told_is_the_one_chosen(
    monkeypatch: pytest.MonkeyPatch, there: bool, pays: bool, said: str
) -> None:
    for room in ("device", "hardware"):
        monkeypatch.setattr(f"fledge.train.{room}.cpu_has_bfloat16", lambda: there)
        monkeypatch.setattr(f"fledge.train.{room}.bfloat16_pays", lambda: pays)
    assert describe_torch()["CPU bf16"] == said
    chosen = choose_precision(LoopConfig(), torch.device("cpu"))
    assert (chosen == torch.float32) == ("training uses fp32" in said)
