"""Pairs share rows, are never torn, and what is known of their tokens stands beside them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fledge.core.errors import InputError
from fledge.data.conversations import Rendered
from fledge.train.batch import PADDING
from fledge.tune.groups import Group, row_for
from fledge.tune.kto import mismatched
from fledge.tune.pair_loader import PairLoader, read_values
from fledge.tune.pairs import fit_answers

ROW = 40


def rendered(prompt: int, answer: int, seed: int) -> Rendered:
    generator = np.random.default_rng(seed)
    ids = generator.integers(1, 90, prompt + answer).tolist()
    return Rendered(ids=ids, mask=[False] * prompt + [True] * answer, turns=[])


def group(prompt: int, chosen: int, rejected: int, seed: int = 0) -> Group:
    answers = (rendered(prompt, chosen, seed), rendered(prompt, rejected, seed + 1000))
    signals = tuple(np.arange(n, dtype=np.float32) - seed for n in (chosen, rejected))
    return Group(answers=answers, signals=signals)


GROUPS = [group(1 + n % 5, 1 + n % 7, 1 + (3 * n) % 8, n) for n in range(30)]


def loader(groups: list[Group] = GROUPS, **options: object) -> PairLoader:
    settings = {"row": ROW, "batch_rows": 4, "seed": 3, "fill": 0, "epochs": 2, **options}
    return PairLoader(groups, **settings)  # type: ignore[arg-type]


@given(
    st.lists(
        st.tuples(st.integers(1, 6), st.integers(1, 8), st.integers(1, 8)), min_size=1, max_size=20
    ),
    st.booleans(),
)
@settings(max_examples=50, deadline=None)
def test_every_pair_lies_whole_in_one_row_once_an_epoch(
    lengths: list[tuple[int, int, int]], scored: bool
) -> None:
    groups = [group(*three, seed=n) for n, three in enumerate(lengths)]
    batches = loader(groups, scored=scored)
    seen: Counter[int] = Counter()
    for step in range(batches.steps or 0):
        batch = batches[step]
        for row in range(4):
            present = batch.segments[row]
            numbers = [n for n in present.unique_consecutive().tolist() if n != PADDING]
            assert [n % 2 for n in numbers] == [0, 1] * (len(numbers) // 2)
            assert all(a + 1 == b for a, b in zip(numbers[::2], numbers[1::2], strict=True))
            assert len(numbers) <= batches.most
            seen.update(n // 2 for n in numbers[::2])
            for number in numbers:
                item, mark = divmod(number % (2 * len(groups)), 2)
                answer, mine = groups[item].answers[mark], present == number
                ids = answer.ids if scored else answer.ids[:-1]
                assert batch.ids[row][mine].tolist() == ids
                counts = mine & (batch.weights[row] > 0)
                assert batch.signals is not None
                told = batch.signals[row, :, 0][counts]
                assert told.tolist() == groups[item].signals[mark].tolist()
                if not scored:
                    assert batch.targets[row][counts].tolist() == answer.ids[lengths[item][0] :]
    assert seen == dict.fromkeys(range(2 * len(groups)), 1)


def test_a_batch_is_a_pure_function_of_its_number() -> None:
    one, other = loader(), loader()
    assert one.fingerprint() == other.fingerprint() != loader(seed=4).fingerprint()
    for step in (3, 0, 3):
        for a, b in zip(one[step][:5], other[step][:5], strict=True):
            assert torch.equal(a, b)
    assert loader(GROUPS[:-1]).fingerprint() != one.fingerprint()


def test_no_pairs_are_refused() -> None:
    with pytest.raises(InputError, match="no pair to learn from"):
        loader([])


def test_what_is_read_of_tokens_comes_back_in_order() -> None:
    found = read_values(
        GROUPS, lambda batch: batch.targets.float() + batch.segments, row=ROW, batch_rows=3
    )
    for number, (one, values) in enumerate(zip(GROUPS, found, strict=True)):
        for mark, (answer, mine) in enumerate(zip(one.answers, values, strict=True)):
            counted = [i for i, counts in zip(answer.ids, answer.mask, strict=True) if counts]
            assert mine.tolist() == [i + 2 * number + mark for i in counted]


def test_a_row_holds_the_longest_pair() -> None:
    assert row_for(GROUPS, 1000, 40) == 64
    assert row_for([group(30, 50, 20)], 1000, 40) == 192
    assert row_for([group(30, 50, 20)], 150, 40) == 150


def test_prompts_are_cut_from_the_left_both_by_as_much() -> None:
    whole = [rendered(10, 5, 1), rendered(10, 8, 1)]
    cut = fit_answers(whole, 12)
    assert [len(one.ids) for one in cut] == [9, 12]
    assert [sum(one.mask) for one in cut] == [5, 8]
    assert cut[1].ids == whole[1].ids[6:]
    assert fit_answers(whole, 8) == whole  # nothing of the prompt would remain
    assert fit_answers(whole, 18) == whole


def test_mismatched_answers_belong_to_other_prompts() -> None:
    singles = [one for each in GROUPS for one in each.apart()]
    for own, other in zip(singles, mismatched(singles, 14), strict=True):
        (mine,), (theirs,) = own.answers, other.answers
        assert len(theirs.ids) <= 14
        begin = theirs.mask.index(True)
        assert begin >= 1
        assert theirs.ids[:begin] == mine.ids[: mine.mask.index(True)][-begin:]
        assert theirs.ids[begin:] != mine.ids[mine.mask.index(True) :]
