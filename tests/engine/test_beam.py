"""Beam search against all answers there are, and best-of."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fledge.core.errors import InputError
from fledge.engine.chain.beam import Beam, BeamSearch, best_of

V, END = 4, 0


def model(seed: int) -> np.ndarray:
    """log p(next | last): (V,V)"""
    odds = np.random.default_rng(seed).dirichlet(np.ones(V), size=V)
    return np.log(odds).astype(np.float32)


def total(table: np.ndarray, answer: Sequence[int]) -> float:
    return float(sum(table[a, b] for a, b in itertools.pairwise((1, *answer))))


def search(
    table: np.ndarray, width: int, limit: int, penalty: float, patient: bool = False
) -> BeamSearch:
    beams = BeamSearch(width, limit, {END}, penalty)
    while beams.live and (patient or not beams.done):
        rows = np.stack([table[beam.tokens[-1] if beam.tokens else 1] for beam in beams.live])
        before = beams.live
        for beam in beams.step(rows):
            assert beam.tokens[:-1] == before[beam.parent].tokens
    return beams


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), penalty=st.sampled_from([-0.5, 0.0, 0.7, 1.0, 2.0]))
def test_a_wide_beam_finds_the_best_of_all_answers(seed: int, penalty: float) -> None:
    table, limit = model(seed), 3
    answers = [
        (*body, END) for n in range(limit) for body in itertools.product(range(1, V), repeat=n)
    ]
    answers += list(itertools.product(range(1, V), repeat=limit))
    ranked = sorted(answers, key=lambda a: total(table, a) / len(a) ** penalty, reverse=True)
    best = search(table, 64, limit, penalty).best(3)
    for beam, answer in zip(best, ranked, strict=False):  # equal ones in any order
        assert beam.logprob == pytest.approx(total(table, beam.tokens), abs=1e-4)
        wanted = total(table, answer) / len(answer) ** penalty
        assert beam.score(penalty) == pytest.approx(wanted, abs=1e-4)
    assert len({beam.tokens for beam in best}) == 3


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    width=st.integers(1, 5),
    penalty=st.sampled_from([-0.5, 0.0, 1.0, 2.0]),
)
def test_stopping_early_loses_nothing(seed: int, width: int, penalty: float) -> None:
    table = model(seed)
    early = search(table, width, 8, penalty).best(width)
    assert early == search(table, width, 8, penalty, patient=True).best(width)
    scores = [beam.score(penalty) for beam in early]
    assert scores == sorted(scores, reverse=True)


def test_forbidden_tokens_are_never_taken() -> None:
    table = model(3)
    table[:, 2] = -np.inf
    for beam in search(table, 5, 6, 1.0).best(5):
        assert 2 not in beam.tokens


def test_a_width_of_one_is_greedy() -> None:
    table = model(12)
    table[:, END] = -np.inf
    tokens, last = [], 1
    for _ in range(6):
        last = int(table[last].argmax())
        tokens.append(last)
    assert search(table, 1, 6, 1.0).best(1)[0].tokens == tuple(tokens)


def test_unfinished_beams_fill_up() -> None:
    beams = BeamSearch(2, 9, {END})
    beams.step(np.log(np.array([[0.6, 0.3, 0.1, 1e-9]], np.float32)))
    assert [beam.tokens for beam in beams.best(3)] == [(0,), (1,), (2,)]
    assert beams.best(1) == [Beam((0,), pytest.approx(np.log(0.6)), 0)]


def test_no_width_is_refused() -> None:
    with pytest.raises(InputError, match="beams = 0"):
        BeamSearch(0, 5, {END})


def test_best_of_ranks_by_mean_logprob() -> None:
    answers = [[-1.0, -1.0], [-0.5] * 9, [], [-0.5]]
    assert best_of(answers, 3) == [1, 3, 0]
    assert best_of(answers, 9) == [1, 3, 0, 2]
