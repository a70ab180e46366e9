"""Speculation is exact: whatever the draft, what comes out is distributed as without it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fledge.engine.chain.candidates import Candidates
from fledge.engine.chain.distribution import Distribution
from fledge.engine.chain.lookup import NgramIndex
from fledge.engine.chain.sampler import Sampler
from fledge.engine.chain.settings import Settings
from fledge.engine.chain.verify import Verdict, residual, verify_draws, verify_guess

V = 6
ROUNDS = 6000


def random_model(seed: int) -> Callable[[Sequence[int]], np.ndarray]:
    """Logits (V,) of the next token, which depend on the last two."""
    table = np.random.default_rng(seed).standard_normal((V, V, V)).astype(np.float32) * 1.5
    return lambda tokens: table[tokens[-2], tokens[-1]]


def as_distribution(logits: np.ndarray) -> Distribution:
    return Distribution.of(Candidates(logits))


def law(model: Callable[[Sequence[int]], np.ndarray], length: int) -> np.ndarray:
    """p(first ``length`` tokens) of the model after [0, 0]: (V ** length,)"""
    odds = np.ones(V**length)
    for at in range(V**length):
        digits = [at // V**place % V for place in reversed(range(length))]
        tokens = [0, 0]
        for digit in digits:
            odds[at] *= as_distribution(model(tokens)).dense(V)[digit]
            tokens.append(digit)
    return odds


def check_law(outcomes: list[int], odds: np.ndarray) -> None:
    stats = pytest.importorskip("scipy.stats")
    counts = np.bincount(outcomes, minlength=len(odds)).astype(float)
    rare = odds * len(outcomes) < 8  # pooled: the statistic wants expected counts of some size
    if rare.any():
        counts = np.append(counts[~rare], counts[rare].sum())
        odds = np.append(odds[~rare], odds[rare].sum())
    expected = odds / odds.sum() * len(outcomes)
    assert stats.chisquare(counts, expected).pvalue > 0.01


def first_two(start: Verdict, draft: Sequence[int], more: Callable[[list[int]], int]) -> int:
    """The first two tokens that come out, as one number; ``more`` draws a missing one."""
    tokens = [*draft[: start.accepted], start.token]
    if len(tokens) < 2:
        tokens.append(more(tokens))
    return tokens[0] * V + tokens[1]


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("draft_seed", [3, None])
def test_a_drawn_draft_leaves_the_distribution_as_it_is(seed: int, draft_seed: int | None) -> None:
    """Of the first two tokens together; the draft model is another one, or the model itself."""
    model = random_model(seed)
    drafter = random_model(seed if draft_seed is None else draft_seed)
    rng = np.random.default_rng(seed)
    outcomes, accepted = [], 0
    for _ in range(ROUNDS):
        draft: list[int] = []
        proposals = []
        for _ in range(2):
            proposals.append(as_distribution(drafter([0, 0, *draft])))
            draft.append(proposals[-1].draw(rng.random()))
        verdict = verify_draws(
            draft,
            proposals,
            lambda i, draft=draft: as_distribution(model([0, 0, *draft[:i]])),
            rng.random,
        )
        accepted += verdict.accepted
        outcomes.append(
            first_two(
                verdict,
                draft,
                lambda done: as_distribution(model([0, 0, *done])).draw(rng.random()),
            )
        )
    check_law(outcomes, law(model, 2))
    if draft_seed is None:
        assert accepted == 2 * ROUNDS  # equal models accept everything


@pytest.mark.parametrize("guess", [[0, 0], [3, 5], [5]])
def test_a_guess_leaves_the_distribution_as_it_is(guess: list[int]) -> None:
    model = random_model(4)
    rng = np.random.default_rng(7)
    outcomes, accepted = [], 0
    for _ in range(ROUNDS):
        verdict = verify_guess(
            guess, lambda i: as_distribution(model([0, 0, *guess[:i]])), rng.random
        )
        accepted += verdict.accepted > 0
        outcomes.append(
            first_two(
                verdict,
                guess,
                lambda done: as_distribution(model([0, 0, *done])).draw(rng.random()),
            )
        )
    check_law(outcomes, law(model, 2))
    first = as_distribution(model([0, 0])).probability(guess[0])
    assert accepted / ROUNDS == pytest.approx(first, abs=0.03)  # as algorithm 1 accepts


def test_the_check_can_fail() -> None:
    """Accepting every drafted token is not exact, and is seen."""
    model, drafter = random_model(1), random_model(3)
    rng = np.random.default_rng(1)
    wrong = []
    for _ in range(ROUNDS):
        first = as_distribution(drafter([0, 0])).draw(rng.random())
        wrong.append(first * V + as_distribution(model([0, 0, first])).draw(rng.random()))
    with pytest.raises(AssertionError):
        check_law(wrong, law(model, 2))


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    draft=st.lists(st.integers(0, V - 1), max_size=5),
    drawn=st.booleans(),
)
def test_greedy_accepts_exactly_what_greedy_decoding_writes(
    seed: int, draft: list[int], drawn: bool
) -> None:
    model = random_model(seed)
    tokens = [0, 0]
    for _ in range(len(draft) + 1):
        tokens.append(int(model(tokens).argmax()))
    wanted = tokens[2:]
    same = next((i for i, (a, b) in enumerate(zip(draft, wanted, strict=False)) if a != b), None)
    count = len(draft) if same is None else same

    sampler = Sampler(Settings(), V)

    def target(i: int) -> Distribution:
        return sampler.distribution(model([0, 0, *draft[:i]]))

    rng = np.random.default_rng(seed)
    if drawn:
        proposals = [as_distribution(random_model(seed + 1)([0, token])) for token in draft]
        verdict = verify_draws(draft, proposals, target, rng.random)
    else:
        verdict = verify_guess(draft, target, rng.random)
    assert verdict == Verdict(count, wanted[count])


@pytest.mark.parametrize("heat", [0.0, 0.8])
@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_prompt_lookup_writes_what_its_seed_writes_without(heat: float, penalty: float) -> None:
    model = random_model(9)
    how = Settings(temperature=heat, repetition_penalty=penalty, top_p=0.9, seed=21)
    prompt = [0, 1, 2, 3, 1, 2]

    plain = Sampler(how, V, prompt)
    wanted = list(prompt)
    while len(wanted) < 200:
        token = plain.choose(model(wanted)).token
        plain.push(token)
        wanted.append(token)

    sampler, index = Sampler(how, V, prompt), NgramIndex(prompt)
    tokens, passes = list(prompt), 0
    while len(tokens) < 200:
        draft = index.guess(4)
        start = tuple(tokens)
        pushed = 0

        def target(i: int, draft=draft, start=start) -> Distribution:  # type: ignore[no-untyped-def]
            nonlocal pushed
            while pushed < i:  # the history has what was accepted, no more
                sampler.push(draft[pushed])
                pushed += 1
            return sampler.distribution(model([*start, *draft[:i]]))

        verdict = verify_guess(draft, target, sampler.uniform)
        sampler.push(verdict.token)
        for token in (*draft[: verdict.accepted], verdict.token):
            index.push(token)
            tokens.append(token)
        passes += 1
    assert tokens[:200] == wanted
    assert passes < 194  # some guesses stood


def test_residual_is_the_positive_part() -> None:
    p = Distribution(np.array([0.5, 0.3, 0.2]), 1.0)
    q = Distribution(np.array([6.0, 2.0]), 8.0, np.array([0, 4]))
    rest = residual(p, q)
    np.testing.assert_allclose(rest.dense(3), [0, 0.6, 0.4])
    assert residual(p, p) is p


# --- prompt lookup


def slow_guess(tokens: list[int], limit: int, shortest: int, longest: int) -> tuple[int, ...]:
    """The definition: search backwards for the longest end that occurred before."""
    for n in range(min(longest, len(tokens)), shortest - 1, -1):
        end = tokens[-n:]
        for start in range(len(tokens) - n - 1, -1, -1):
            if tokens[start : start + n] == end:
                long = list(tokens)
                while len(long) < start + n + limit:
                    long.append(long[start + n + len(long) - len(tokens)])
                return tuple(long[start + n : start + n + limit])
    return ()


@settings(max_examples=300, deadline=None)
@given(
    tokens=st.lists(st.integers(0, 3), max_size=40),
    limit=st.integers(0, 9),
    shortest=st.integers(1, 3),
    more=st.integers(0, 3),
)
def test_lookup_finds_what_a_search_finds(
    tokens: list[int], limit: int, shortest: int, more: int
) -> None:
    index = NgramIndex(shortest=shortest, longest=shortest + more)
    for end, token in enumerate(tokens, 1):
        index.push(token)
        if end % 5 == 0 or end == len(tokens):
            wanted = slow_guess(tokens[:end], limit, shortest, shortest + more)
            assert index.guess(limit) == wanted


def test_lookup_goes_on_with_a_repeated_phrase() -> None:
    assert NgramIndex([7, 8, 9, 7, 8, 9, 7, 8]).guess(7) == (9, 7, 8, 9, 7, 8, 9)
    assert NgramIndex([1, 2, 3]).guess(5) == ()
    assert NgramIndex([]).guess(5) == ()
