"""Samplers against the definitions and against transformers."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fledge.core.errors import InputError
from fledge.core.protocols import Sampling
from fledge.engine import sampling as S

LOGITS = torch.tensor([[2.0, 1.0, 0.5, -1.0, -3.0], [0.0, 4.0, 3.9, 1.0, 3.8]])


def random_logits(seed: int, rows: int = 3, size: int = 50) -> Tensor:
    return torch.randn(rows, size, generator=torch.Generator().manual_seed(seed)) * 3


def kept(logits: Tensor) -> list[list[int]]:
    return [row.isfinite().nonzero().flatten().tolist() for row in logits]


@pytest.mark.parametrize("seed", range(4))
def test_filters_agree_with_transformers(seed: int) -> None:
    warpers = pytest.importorskip("transformers.generation.logits_process")
    logits = random_logits(seed)
    ids = torch.randint(0, 50, (3, 10), generator=torch.Generator().manual_seed(seed))
    seen = torch.zeros(3, 50, dtype=torch.bool).scatter_(1, ids, True)
    for ours, theirs in (
        (S.top_k(logits, 7), warpers.TopKLogitsWarper(7)),
        (S.top_p(logits, 0.8), warpers.TopPLogitsWarper(0.8)),
        (S.top_p(logits, 0.001), warpers.TopPLogitsWarper(0.001)),
        (S.min_p(logits, 0.05), warpers.MinPLogitsWarper(0.05)),
        (S.temperature(logits, 0.7), warpers.TemperatureLogitsWarper(0.7)),
        (
            S.penalize_repetition(logits, seen, 1.3),
            warpers.RepetitionPenaltyLogitsProcessor(1.3),
        ),
    ):
        torch.testing.assert_close(ours, theirs(ids, logits.clone()))


def test_off_means_off() -> None:
    for same in (
        S.top_k(LOGITS, 0),
        S.top_k(LOGITS, 99),
        S.top_p(LOGITS, 1.0),
        S.min_p(LOGITS, 0.0),
        S.penalize_repetition(LOGITS, torch.ones_like(LOGITS, dtype=torch.bool), 1.0),
    ):
        assert torch.equal(same, LOGITS)


def test_one_row_is_a_batch_of_one() -> None:
    row = LOGITS[1]
    for once, batch in (
        (S.top_k(row, 2), S.top_k(LOGITS, 2)),
        (S.top_p(row, 0.5), S.top_p(LOGITS, 0.5)),
        (S.min_p(row, 0.5), S.min_p(LOGITS, 0.5)),
        (S.greedy(row), S.greedy(LOGITS)),
        (S.draw(row, 0.4), S.draw(LOGITS, 0.4)),
    ):
        assert torch.equal(once, batch[1])


def test_rows_may_have_values_of_their_own() -> None:
    assert kept(S.top_k(LOGITS, torch.tensor([[0], [2]]))) == [[0, 1, 2, 3, 4], [1, 2]]
    assert kept(S.top_p(LOGITS, torch.tensor([[1e-6], [1.0]]))) == [[0], [0, 1, 2, 3, 4]]
    assert kept(S.min_p(LOGITS, torch.tensor([[1.0], [0.9]]))) == [[0], [1, 2]]


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), p=st.floats(0.01, 0.99))
def test_top_p_keeps_the_smallest_set_that_reaches_p(seed: int, p: float) -> None:
    logits = random_logits(seed, rows=1)
    probabilities = logits.softmax(-1)[0]
    chosen = S.top_p(logits, p)[0].isfinite()
    mass = probabilities[chosen]
    assert float(mass.sum()) >= p - 1e-5
    assert float(mass.sum() - mass.min()) < p + 1e-5
    assert float(mass.min()) >= max(probabilities[~chosen].tolist(), default=0.0)


def test_draws_follow_the_distribution() -> None:
    logits = torch.tensor([math.log(0.5), -math.inf, math.log(0.2), math.log(0.3)])
    quantiles = torch.arange(1000) / 1000
    drawn = S.draw(logits.expand(1000, 4), quantiles[:, None])
    counts = torch.bincount(drawn, minlength=4).tolist()
    assert counts[1] == 0
    assert counts == pytest.approx([500, 0, 200, 300], abs=1)
    edge = math.nextafter(1.0, 0.0)
    assert int(S.draw(torch.tensor([0.0, -math.inf]), edge)) == 0
    assert int(S.draw(torch.tensor([-math.inf, 0.0]), 0.0)) == 1


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    uniform=st.floats(0, 1, exclude_max=True),
    k=st.integers(0, 6),
    p=st.floats(0.01, 1),
    floor=st.floats(0, 1),
    heat=st.floats(0.05, 5),
)
def test_whatever_the_settings_the_draw_is_among_what_they_allow(
    seed: int, uniform: float, k: int, p: float, floor: float, heat: float
) -> None:
    logits = random_logits(seed, rows=2)
    sampling = Sampling(temperature=heat, top_k=k, top_p=p, min_p=floor)
    tokens = S.next_tokens(logits, [sampling, Sampling()], None, [uniform, 0.0])
    hot = logits[:1] / heat
    allowed = S.min_p(S.top_p(S.top_k(hot, k), p), floor)[0]
    assert allowed.isfinite()[tokens[0]]
    assert tokens[1] == int(logits[1].argmax())


def test_greedy_rows_feel_the_penalty() -> None:
    seen = torch.zeros_like(LOGITS, dtype=torch.bool)
    seen[0, 0] = seen[1, 1] = True
    samplings = [Sampling(repetition_penalty=3.0), Sampling()]
    assert S.next_tokens(LOGITS, samplings, seen, [0.0, 0.0]) == [1, 1]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_new_tokens", 0),
        ("temperature", -0.1),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("top_k", -1),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("min_p", 1.5),
        ("repetition_penalty", 0.0),
        ("stop", ("",)),
    ],
)
def test_values_out_of_range_are_named(field: str, value: object) -> None:
    with pytest.raises(InputError, match=field):
        S.check_sampling(Sampling(**{field: value}))  # type: ignore[arg-type]


@pytest.mark.parametrize("heat", [1e-300, 1e-45, 1e-38, 1e-9, 1e-5, 1e-4])
@pytest.mark.parametrize("scale", [1.0, 1e4, 1e30])
def test_the_coldest_draw_is_the_likeliest(heat: float, scale: float) -> None:
    sampling = Sampling(temperature=heat, top_p=0.9, min_p=0.1, top_k=3)
    for uniform in (0.0, 0.5, math.nextafter(1.0, 0.0)):
        drawn = S.next_tokens(LOGITS * scale, [sampling, sampling], None, [uniform, uniform])
        assert drawn == [0, 1]


def test_a_cold_row_leaves_a_warm_one_alone() -> None:
    warm = Sampling(temperature=1.0)
    alone = S.next_tokens(LOGITS[1:], [warm], None, [0.9])
    assert S.next_tokens(LOGITS, [Sampling(temperature=1e-40), warm], None, [0.9, 0.9]) == [
        0,
        *alone,
    ]


@pytest.mark.parametrize("k", [5, 6, 2**31, 2**63, 10**400])
def test_top_k_beyond_the_vocabulary_is_off(k: int) -> None:
    assert torch.equal(S.top_k(LOGITS, k), LOGITS)
    samplings = [Sampling(temperature=1.0, top_k=k), Sampling(temperature=1.0)]
    same = LOGITS[:1].expand(2, -1)
    drawn = S.next_tokens(same, samplings, None, [0.97, 0.97])
    assert drawn[0] == drawn[1]
