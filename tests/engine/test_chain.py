"""The numpy chain: each step against its definition, transformers and the torch samplers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch_sampling as old
from hypothesis import given, settings
from hypothesis import strategies as st

from fledge.core.errors import FledgeError
from fledge.core.protocols import Sampling
from fledge.engine.chain import adjust, filters
from fledge.engine.chain.candidates import Candidates
from fledge.engine.chain.distribution import Distribution
from fledge.engine.chain.history import History
from fledge.engine.chain.sampler import Sampler
from fledge.engine.chain.select import descending, largest, reaching
from fledge.engine.chain.settings import Settings

quick = settings(max_examples=60, deadline=None)
seeds = st.integers(0, 10**6)
sizes = st.sampled_from([1, 2, 7, 60, 500, 5000, 9001])


def some_logits(seed: int, size: int = 200, spread: float = 3.0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(size) * spread).astype(np.float32)


def softmax(logits: np.ndarray) -> np.ndarray:
    exact = np.exp(logits.astype(np.float64) - float(logits.max()))
    return exact / exact.sum()


def kept(candidates: Candidates) -> list[int]:
    ids = np.arange(len(candidates.logits)) if candidates.ids is None else candidates.ids
    return ids[candidates.logits > -np.inf].tolist()


def dense(candidates: Candidates, size: int) -> np.ndarray:
    full = np.full(size, -np.inf, np.float32)
    full[slice(None) if candidates.ids is None else candidates.ids] = candidates.logits
    return full


# --- each filter against a slow reference written from its definition


def by_mass(order: list[float], odds: np.ndarray, p: float) -> list[int]:
    """The first tokens in falling ``order`` until their mass is p; ties in order of ids."""
    chosen: list[int] = []
    mass = 0.0
    for token in sorted(range(len(odds)), key=lambda i: (-order[i], i)):
        chosen.append(token)
        mass += odds[token]
        if mass >= p:
            break
    return sorted(chosen)


def near(mass: float, p: float) -> bool:
    return abs(mass - p) < 1e-5


def same_or_at_the_edge(ours: list[int], theirs: list[int], odds: np.ndarray, p: float) -> None:
    """Equal sets; or they differ by tokens on which float32 cannot decide."""
    if ours != theirs:
        small, large = sorted((set(ours), set(theirs)), key=len)
        assert small <= large
        assert near(odds[sorted(small)].sum(), p) or odds[sorted(large - small)].max() < 1e-6


@quick
@given(seed=seeds, size=sizes, k=st.integers(1, 700), ties=st.booleans())
def test_top_k(seed: int, size: int, k: int, ties: bool) -> None:
    logits = some_logits(seed, size)
    if ties:
        logits = np.round(logits)
    ranked = sorted(logits.tolist(), reverse=True)
    wanted = [i for i, value in enumerate(logits) if value >= ranked[min(k, size) - 1]]
    assert kept(filters.top_k(Candidates(logits), k)) == wanted


@quick
@given(seed=seeds, size=sizes, p=st.floats(0.001, 0.999), spread=st.sampled_from([0.1, 1.0, 6.0]))
def test_top_p(seed: int, size: int, p: float, spread: float) -> None:
    logits = some_logits(seed, size, spread)
    odds = softmax(logits)
    ours = kept(filters.top_p(Candidates(logits), p))
    same_or_at_the_edge(ours, by_mass(logits.tolist(), odds, p), odds, p)


@quick
@given(seed=seeds, size=sizes, p=st.floats(0.001, 1.0))
def test_min_p(seed: int, size: int, p: float) -> None:
    logits = some_logits(seed, size)
    odds = softmax(logits)
    ours = set(kept(filters.min_p(Candidates(logits), p)))
    for token, one in enumerate(odds):
        if not math.isclose(one, p * odds.max(), rel_tol=1e-5):
            assert (token in ours) == (one >= p * odds.max())
    assert int(logits.argmax()) in ours


@quick
@given(seed=seeds, size=sizes, p=st.floats(0.01, 0.99))
def test_typical(seed: int, size: int, p: float) -> None:
    logits = some_logits(seed, size)
    odds = softmax(logits)
    surprise = -np.log(odds)
    distance = np.abs(surprise - (odds * surprise).sum())
    ours = kept(filters.typical(Candidates(logits), p))
    wanted = by_mass((-distance).tolist(), odds, p)
    if ours != wanted:  # the last one taken: float32 may see another order of near equals
        assert abs(distance[ours].max() - distance[wanted].max()) < 1e-3


@quick
@given(seed=seeds, size=sizes, n=st.floats(0.1, 4.0), heat=st.floats(0.2, 3.0))
def test_top_n_sigma_and_that_temperature_changes_nothing(
    seed: int, size: int, n: float, heat: float
) -> None:
    logits = some_logits(seed, size)
    bar = float(logits.max()) - n * float(logits.astype(np.float64).std())
    ours = set(kept(filters.top_n_sigma(Candidates(logits), n)))
    heated = set(kept(filters.top_n_sigma(filters.temperature(Candidates(logits), heat), n)))
    for token, value in enumerate(logits.tolist()):
        if abs(value - bar) > 1e-4:
            assert (token in ours) == (value >= bar)
            assert (token in heated) == (value >= bar)


def test_steps_leave_out_what_cannot_be_drawn() -> None:
    logits = np.array([-np.inf, 2.0, 1.9, -np.inf, -4.0], np.float32)
    for narrowed in (
        filters.top_k(Candidates(logits), 4),
        filters.top_p(Candidates(logits), 0.9999999),
        filters.typical(Candidates(logits), 0.9999999),
        filters.min_p(Candidates(logits), 1e-9),
        filters.top_n_sigma(Candidates(logits), 9.0),
        filters.temperature(Candidates(logits), 0.5),
    ):
        assert kept(narrowed) == [1, 2, 4]


def test_steps_never_write_into_what_they_were_given() -> None:
    logits = some_logits(1)
    logits.flags.writeable = False
    everything = Settings(
        temperature=0.7,
        top_k=50,
        top_p=0.9,
        min_p=0.01,
        typical_p=0.9,
        top_n_sigma=2.0,
        repetition_penalty=1.2,
        presence_penalty=0.5,
        frequency_penalty=0.5,
        logit_bias={3: 1.0},
        min_tokens=3,
        seed=1,
    )
    sampler = Sampler(everything, 200, [1, 2], [0])
    for _ in range(5):
        sampler.push(sampler.choose(logits, np.arange(200) % 3 > 0).token)


@quick
@given(seed=seeds, size=sizes, count=st.one_of(st.integers(1, 900), st.integers(4000, 9999)))
def test_partial_sorts_agree_with_whole_ones(seed: int, size: int, count: int) -> None:
    values = np.round(some_logits(seed, size), 1)
    order = np.argsort(-values, kind="stable")
    assert descending(values, count).tolist() == order[:count].tolist()
    assert set(order[:count]) <= set(largest(values, count))


def test_reaching_takes_at_least_one_and_at_most_all() -> None:
    values = some_logits(3, 3000, 0.01)
    weights = np.ones(3000, np.float32)
    assert reaching(values, weights, 0.0).tolist() == [int(values.argmax())]
    assert len(reaching(values, weights, 2999.5)) == 3000
    assert len(reaching(values, weights, 9999.0)) == 3000
    assert len(reaching(values, weights, 1000.0)) == 1000


# --- against transformers, and the samplers the torch engine uses


@pytest.mark.parametrize("seed", range(4))
def test_filters_agree_with_transformers(seed: int) -> None:
    theirs = pytest.importorskip("transformers.generation.logits_process")
    logits = some_logits(seed)
    row = torch.from_numpy(logits)[None]
    prompt = np.random.default_rng(seed).integers(0, 200, 20).tolist()
    history = History(prompt[:12])
    for token in prompt[12:]:
        history.push(token)
    start = Candidates(logits)
    for ours, processor in (
        (filters.top_k(start, 7), theirs.TopKLogitsWarper(7)),
        (filters.top_p(start, 0.8), theirs.TopPLogitsWarper(0.8)),
        (filters.top_p(start, 0.001), theirs.TopPLogitsWarper(0.001)),
        (filters.min_p(start, 0.05), theirs.MinPLogitsWarper(0.05)),
        (filters.typical(start, 0.7), theirs.TypicalLogitsWarper(0.7)),
        (filters.typical(start, 0.2), theirs.TypicalLogitsWarper(0.2)),
        (
            adjust.repetition(start, history, 1.3),
            theirs.RepetitionPenaltyLogitsProcessor(1.3),
        ),
    ):
        wanted = processor(torch.tensor([prompt]), row.clone())[0].numpy()
        np.testing.assert_array_equal(dense(ours, 200), wanted)
    hot = theirs.TemperatureLogitsWarper(0.7)(torch.tensor([prompt]), row.clone())[0].numpy()
    shifted = hot - hot.max()  # ours has the largest at 0
    np.testing.assert_allclose(filters.temperature(start, 0.7).logits, shifted, atol=2e-5)


@pytest.mark.parametrize("seed", range(4))
def test_the_whole_chain_agrees_with_transformers(seed: int) -> None:
    theirs = pytest.importorskip("transformers.generation.logits_process")
    logits = some_logits(seed)
    prompt = [5, 9, 9, 120]
    chain: Any = theirs.LogitsProcessorList(
        [
            theirs.RepetitionPenaltyLogitsProcessor(1.2),
            theirs.TemperatureLogitsWarper(1.4),
            theirs.TopKLogitsWarper(60),
            theirs.TopPLogitsWarper(0.9),
            theirs.MinPLogitsWarper(0.02),
            theirs.TypicalLogitsWarper(0.8),
        ]
    )
    scores = chain(torch.tensor([prompt]), torch.from_numpy(logits)[None].clone())
    sampler = Sampler(
        Settings(
            repetition_penalty=1.2, temperature=1.4, top_k=60, top_p=0.9, min_p=0.02, typical_p=0.8
        ),
        200,
        prompt,
    )
    ours = sampler.distribution(logits).dense(200)
    np.testing.assert_allclose(ours, scores.double().softmax(-1)[0].numpy(), atol=1e-6)


@quick
@given(
    seed=seeds,
    size=st.sampled_from([10, 600, 5000]),
    heat=st.sampled_from([0.0, 0.3, 1.0, 2.0]),
    k=st.sampled_from([0, 1, 20]),
    p=st.sampled_from([0.3, 0.95, 1.0]),
    least=st.sampled_from([0.0, 0.05]),
    penalty=st.sampled_from([1.0, 1.3]),
)
def test_the_torch_engine_draws_the_same_tokens_from_the_same_seed(
    seed: int, size: int, heat: float, k: int, p: float, least: float, penalty: float
) -> None:
    how = Sampling(
        temperature=heat, top_k=k, top_p=p, min_p=least, repetition_penalty=penalty, seed=seed
    )
    logits = some_logits(seed, size)
    prompt = [1, 2, 3]
    sampler = Sampler(Settings.of(how), size, prompt)
    numbers = Sampler(Settings.of(how), size)
    seen = torch.zeros(1, size, dtype=torch.bool)
    seen[0, prompt] = True
    row = torch.from_numpy(logits)[None]
    same = 0
    for _ in range(8):
        token = sampler.choose(logits).token
        same += [token] == old.next_tokens(row, [how], seen, [numbers.uniform()])
        sampler.push(token)
        seen[0, token] = True
    assert same >= 7  # one may fall on an edge that float32 draws elsewhere


# --- penalties, bias, stop tokens


def test_penalties_count_as_openai_writes() -> None:
    logits = np.array([1.0, -1.0, 2.0, 0.5], np.float32)
    history = History([0, 1])
    for token in (2, 2, 1):
        history.push(token)
    start = Candidates(logits)
    assert adjust.presence(start, history, 0.5).logits.tolist() == [1.0, -1.5, 1.5, 0.5]
    assert adjust.frequency(start, history, 0.5).logits.tolist() == [1.0, -1.5, 1.0, 0.5]
    assert adjust.repetition(start, history, 2.0).logits.tolist() == [0.5, -2.0, 1.0, 0.5]
    assert adjust.bias(start, {3: 9.0, 0: -math.inf}).logits.tolist() == [-np.inf, -1, 2, 9.5]


@quick
@given(tokens=st.lists(st.integers(0, 50), max_size=200), split=st.integers(0, 200))
def test_history_counts_any_sequence(tokens: list[int], split: int) -> None:
    history = History(tokens[:split])
    for token in tokens[split:]:
        history.push(token)
    counts = dict(zip(history.seen.tolist(), history.counts.tolist(), strict=True))
    assert counts == {token: tokens[split:].count(token) for token in tokens}
    assert history.drawn == len(tokens[split:])


def test_stop_tokens_wait_for_min_tokens_unless_nothing_else_is_left() -> None:
    logits = np.array([9.0, 1.0, 8.0, 0.0], np.float32)
    sampler = Sampler(Settings(min_tokens=2, stop_ids=(2,)), 4, (), [0])
    drawn = []
    for _ in range(3):
        drawn.append(sampler.choose(logits).token)
        sampler.push(drawn[-1])
    assert drawn == [1, 1, 0]
    only_end = np.array([True, False, False, False])
    assert Sampler(Settings(min_tokens=2), 4, (), [0]).choose(logits, only_end).token == 0


@quick
@given(seed=seeds, heat=st.sampled_from([0.0, 1.0, 5.0]), size=st.sampled_from([30, 3000]))
def test_a_masked_token_is_never_drawn(seed: int, heat: float, size: int) -> None:
    rng = np.random.default_rng(seed)
    allowed = rng.random(size) < 0.1
    allowed[rng.integers(size)] = True
    sampler = Sampler(Settings(temperature=heat, top_p=0.9, logit_bias={3: 1000.0}), size)
    for step in range(10):
        token = sampler.choose(some_logits(seed + step, size), allowed).token
        assert allowed[token]
        sampler.push(token)


# --- drawing


@pytest.mark.parametrize("size", [1, 3, 300, 5000])
def test_draw_inverts_the_distribution(size: int) -> None:
    logits = some_logits(5, size)
    exact = np.cumsum(softmax(logits))
    distribution = Distribution.of(Candidates(logits))
    for uniform in np.random.default_rng(0).random(300):
        if np.abs(exact - uniform).min() > 1e-6:
            assert distribution.draw(float(uniform)) == int(np.searchsorted(exact, uniform))


def test_draw_never_takes_what_has_no_mass() -> None:
    mass = np.zeros(2000, np.float32)
    mass[[700, 1200]] = 1
    everything = Distribution(mass, 2.0)
    assert everything.draw(0.0) == 700
    assert everything.draw(math.nextafter(0.5, 0)) == 700
    assert everything.draw(0.5) == 1200
    assert everything.draw(math.nextafter(1.0, 0)) == 1200
    few = Distribution(np.array([0, 1, 0], np.float32), 1.0, np.array([4, 9, 11]))
    assert few.draw(0.0) == few.draw(math.nextafter(1.0, 0)) == 9
    assert [few.probability(token) for token in (4, 9, 10, 99)] == [0, 1, 0, 0]
    assert few.dense(12)[9] == 1


def test_frequencies_follow_the_chain() -> None:
    stats = pytest.importorskip("scipy.stats")
    logits = some_logits(2, 40, 1.5)
    sampler = Sampler(Settings(temperature=1.0, top_k=8, seed=11), 40)
    odds = sampler.distribution(logits).dense(40)
    tokens = [sampler.choose(logits).token for _ in range(4000)]
    counts = np.bincount(tokens, minlength=40)
    some = odds > 0
    assert not counts[~some].any()
    assert stats.chisquare(counts[some], odds[some] * 4000).pvalue > 0.01


# --- broken input


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("heat", [0.0, 1.0])
def test_broken_logits_are_an_error_that_names_the_token(value: float, heat: float) -> None:
    row = some_logits(1)
    row[77] = value
    with pytest.raises(FledgeError, match=f"{value} at token 77"):
        Sampler(Settings(temperature=heat, seed=1), 200).choose(row)


def test_nothing_left_to_draw_is_an_error() -> None:
    logits = some_logits(1, 4)
    none = np.zeros(4, np.bool_)
    for heat in (0.0, 1.0):
        with pytest.raises(FledgeError, match="grammar allows no token"):
            Sampler(Settings(temperature=heat), 4).choose(logits, none)
        banned = Settings(temperature=heat, logit_bias=dict.fromkeys(range(4), -math.inf))
        with pytest.raises(FledgeError, match="no token is left"):
            Sampler(banned, 4).choose(logits)
        with pytest.raises(FledgeError, match="-inf"):
            Sampler(Settings(temperature=heat), 4).choose(np.full(4, -np.inf, np.float32))
        tiny = Settings(temperature=heat, repetition_penalty=1e-45)
        with pytest.raises(FledgeError, match="no token is left"):
            Sampler(tiny, 4, range(4)).choose(np.abs(logits) + 1)


def test_extreme_values_are_no_error() -> None:
    logits = np.array([3e38, -3e38, 1.0, 0.0], np.float32)
    for heat in (1e-5, 1e-3, 1e30):
        assert 0 <= Sampler(Settings(temperature=heat), 4).choose(logits / 4).token < 4
