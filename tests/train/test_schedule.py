"""The course of the learning rate against its closed form."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fledge.train.config import LoopConfig
from fledge.train.schedule import phases, rate_factor


def course(steps: int, **values: Any) -> list[float]:
    config = LoopConfig.model_validate(values)
    return [rate_factor(step, steps, config) for step in range(steps)]


@given(
    steps=st.integers(2, 300),
    warmup=st.integers(0, 320),
    schedule=st.sampled_from(["wsd", "linear", "cosine", "constant"]),
    cooldown=st.sampled_from(["linear", "1-sqrt"]),
    decay=st.floats(0, 0.9),
    final=st.floats(0, 1),
)
@settings(max_examples=100, deadline=None)
def test_any_course_rises_holds_and_falls(
    steps: int, warmup: int, schedule: str, cooldown: str, decay: float, final: float
) -> None:
    rates = course(
        steps,
        warmup_steps=warmup,
        schedule=schedule,
        cooldown=cooldown,
        decay=decay,
        final_rate=final,
    )
    warm = min(warmup, steps)
    assert rates[:warm] == pytest.approx([(n + 1) / (warm + 1) for n in range(warm)])
    assert rates[warm:] == sorted(rates[warm:], reverse=True)
    assert all(0 <= rate <= 1 for rate in rates)


@pytest.mark.parametrize("final", [0.0, 0.1])
def test_each_fall_is_its_formula(final: float) -> None:
    shapes = {
        ("wsd", "linear"): lambda x: x,
        ("wsd", "1-sqrt"): math.sqrt,
        ("linear", "linear"): lambda x: x,
        ("cosine", "1-sqrt"): lambda x: (1 - math.cos(math.pi * x)) / 2,
    }
    for (schedule, cooldown), fallen in shapes.items():
        rates = course(
            101, warmup=0.2, schedule=schedule, cooldown=cooldown, decay=0.4, final_rate=final
        )
        start = 61 if schedule == "wsd" else 20
        expected = [
            1 - (1 - final) * fallen((n - start) / (100 - start)) for n in range(start, 101)
        ]
        assert rates[start:] == pytest.approx(expected)
        assert rates[20:start] == [1.0] * (start - 20)
        assert rates[-1] == pytest.approx(final)


def test_a_long_warm_up_shortens_the_fall() -> None:
    config = LoopConfig(warmup_steps=80, schedule="wsd", decay=0.5)
    assert phases(100, config) == (80, 20)
    assert phases(50, config) == (50, 0)
    assert phases(100, LoopConfig(schedule="constant")) == (2, 0)
    assert phases(100, LoopConfig(schedule="cosine", warmup=0.1)) == (10, 90)


def test_steps_of_warm_up_count_instead_of_the_share() -> None:
    assert course(50, warmup=0.5, decay=0.1, warmup_steps=0)[0] == 1.0
    assert course(50, warmup=0.5, decay=0.1, warmup_steps=4)[:5] == pytest.approx(
        [0.2, 0.4, 0.6, 0.8, 1.0]
    )
