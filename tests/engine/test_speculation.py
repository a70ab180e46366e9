"""Speculation is exact: whatever the draft, what comes out is distributed as without it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fledge.engine.answer import Answer, Asked
from fledge.engine.chain.candidates import Candidates
from fledge.engine.chain.distribution import Distribution
from fledge.engine.chain.lookup import NgramIndex
from fledge.engine.chain.settings import Settings

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


class Letters:
    """A tokenizer whose tokens are letters."""

    def token_bytes(self, token: int) -> bytes:
        return bytes([97 + token])


def asked(**how: Any) -> Asked:
    return Asked(
        prompt=(0, 0),
        settings=Settings(**how),
        stop_ids=frozenset(),
        room=how["max_new_tokens"],
        vocabulary=V,
        tokenizer=cast(Any, Letters()),
    )


def write(
    model: Callable[[Sequence[int]], np.ndarray],
    guess: Callable[[list[int]], Sequence[int]],
    **how: Any,
) -> tuple[Answer, int]:
    """An answer whose steps are given ``guess(tokens so far)``, and how many steps it took."""
    answer, steps = Answer(asked(**how), 0, None), 0
    while not answer.done:
        tokens = [0, 0, *answer.drawn]
        draft = list(guess(tokens))
        rows = [model([*tokens, *draft[:i]]) for i in range(len(draft) + 1)]
        answer.read(np.stack(rows), draft)
        steps += 1
    return answer, steps


@pytest.mark.parametrize("drafter", [None, 1, 3])
def test_a_draft_leaves_the_distribution_as_it_is(drafter: int | None) -> None:
    """Of the first two tokens together; the draft model is none, itself, or another one."""
    model, rng = random_model(1), np.random.default_rng(7)
    other = None if drafter is None else random_model(drafter)

    def guess(tokens: list[int]) -> list[int]:
        if other is None:
            return list(rng.integers(0, V, 2))
        first = int(other(tokens).argmax())
        return [first, int(other([*tokens, first]).argmax())]

    outcomes = []
    for seed in range(ROUNDS):
        answer, _ = write(model, guess, max_new_tokens=2, temperature=1.0, seed=seed)
        outcomes.append(answer.drawn[0] * V + answer.drawn[1])
    check_law(outcomes, law(model, 2))


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
@given(seed=st.integers(0, 10**6), heat=st.sampled_from([0.0, 0.7]), length=st.integers(0, 5))
def test_any_guess_writes_what_the_seed_writes_without(seed: int, heat: float, length: int) -> None:
    model, rng = random_model(seed), np.random.default_rng(seed)
    how: dict[str, Any] = {"max_new_tokens": 12, "temperature": heat, "seed": seed}
    plain, _ = write(model, lambda tokens: (), **how)
    guessed, _ = write(model, lambda tokens: rng.integers(0, V, length).tolist(), **how)
    assert guessed.drawn == plain.drawn


@pytest.mark.parametrize("heat", [0.0, 0.8])
@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_prompt_lookup_takes_fewer_steps_to_the_same_text(heat: float, penalty: float) -> None:
    model = random_model(9)
    how: dict[str, Any] = {
        "max_new_tokens": 200,
        "temperature": heat,
        "repetition_penalty": penalty,
        "top_p": 0.9,
        "seed": 21,
    }
    plain, _ = write(model, lambda tokens: (), **how)
    quick, steps = write(model, lambda tokens: NgramIndex(tokens).guess(4), **how)
    assert quick.drawn == plain.drawn
    assert steps < 190  # some guesses stood


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
