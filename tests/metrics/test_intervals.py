"""Intervals: known values, coverage, and bounds that hold for every input."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fledge.metrics.density import bits_per_byte
from fledge.metrics.intervals import bootstrap, clustered, wilson


def test_wilson_against_published_values() -> None:
    # Newcombe 1998, table I: 81 of 263 and 15 of 148, and the edge 0 of 20
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson(0, 0) == (0.0, 1.0)


@given(st.integers(0, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_share_and_mirrors(counts: tuple[int, int]) -> None:
    successes, trials = counts
    low, high = wilson(successes, trials)
    assert 0 <= low <= high <= 1
    if trials:
        assert low <= successes / trials <= high
        mirrored = wilson(trials - successes, trials)
        assert (1 - high, 1 - low) == pytest.approx(mirrored, abs=1e-12)


def test_wilson_refuses_the_impossible() -> None:
    with pytest.raises(ValueError, match="3 successes in 2"):
        wilson(3, 2)


def test_bootstrap_covers_the_mean_about_95_times_in_100() -> None:
    rng = random.Random(7)
    hits = 0
    for trial in range(100):
        values = [rng.gauss(3.0, 1.0) for _ in range(60)]
        low, high = bootstrap(values, draws=300, seed=trial)
        hits += low <= 3.0 <= high
    assert 88 <= hits <= 99


def test_bootstrap_is_a_function_of_its_seed() -> None:
    values = [i**0.5 for i in range(50)]
    assert bootstrap(values, seed=3) == bootstrap(values, seed=3)
    assert bootstrap(values, seed=3) != bootstrap(values, seed=4)


def test_bootstrap_of_a_ratio_weighs_by_size() -> None:
    low, high = bootstrap([2.0, 20.0, 200.0], [1.0, 10.0, 100.0])
    assert low == pytest.approx(2.0)
    assert high == pytest.approx(2.0)


def test_bootstrap_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one"):
        bootstrap([])


def test_clusters_cover_the_share_where_trials_are_alike() -> None:
    rng = random.Random(11)
    hits = naive = 0
    for trial in range(100):
        knows = [rng.random() < 0.4 for _ in range(60)]
        low, high = clustered([8 * known for known in knows], [8] * 60, draws=300, seed=trial)
        hits += low <= 0.4 <= high
        low, high = wilson(8 * sum(knows), 480)
        naive += low <= 0.4 <= high
    assert 88 <= hits <= 99
    assert naive < 70


@given(st.lists(st.integers(1, 4).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))))
def test_clusters_always_have_a_width(counts: list[tuple[int, int]]) -> None:
    successes, trials = [one for one, _ in counts], [one for _, one in counts]
    low, high = clustered(successes, trials, draws=50)
    assert 0 <= low < high <= 1


def test_bits_per_byte() -> None:
    assert bits_per_byte(8 * math.log(2), 4) == pytest.approx(2.0)
    with pytest.raises(ValueError, match="0 bytes"):
        bits_per_byte(1.0, 0)
