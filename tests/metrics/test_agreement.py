"""Agreement of annotators: by hand, against published numbers, and what must always hold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fledge.metrics.agreement import cohen_kappa, interval, krippendorff_alpha

labels = st.sampled_from("abc")


def test_kappa_by_hand() -> None:
    """20 items: both say yes to 8 and no to 7; shares .55 and .55 of yes."""
    first = ["y"] * 11 + ["n"] * 9
    second = ["y"] * 8 + ["n"] * 3 + ["y"] * 2 + ["n"] * 7
    observed = 15 / 20
    expected = 11 / 20 * 10 / 20 + 9 / 20 * 10 / 20
    assert cohen_kappa(first, second) == pytest.approx((observed - expected) / (1 - expected))


def test_alpha_of_the_published_example() -> None:
    """Krippendorff (2011), C: four observers, twelve units, some missing; nominal .743, interval
    .849."""
    _ = None
    observers = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, _, _, _],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, _, 3],
        [_, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, _],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, _],
    ]
    items = list(zip(*observers, strict=True))
    assert krippendorff_alpha(items) == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha(items, interval) == pytest.approx(0.849, abs=5e-4)


@given(st.lists(st.lists(labels, min_size=2, max_size=4), min_size=1, max_size=12))
def test_alpha_is_at_most_one_and_knows_no_order(items: list[list[str]]) -> None:
    alpha = krippendorff_alpha(items)
    assert alpha <= 1 + 1e-12
    turned = [list(reversed(item)) for item in reversed(items)]
    assert krippendorff_alpha(turned) == pytest.approx(alpha)


@given(st.lists(st.tuples(labels, labels), min_size=1, max_size=20))
def test_kappa_is_symmetric(pairs: list[tuple[str, str]]) -> None:
    first, second = zip(*pairs, strict=True)
    assert cohen_kappa(first, second) == pytest.approx(cohen_kappa(second, first))
    assert cohen_kappa(first, first) == 1


def test_nothing_in_common_is_an_error() -> None:
    with pytest.raises(ValueError, match="both annotators"):
        cohen_kappa(["a", None], [None, "b"])
    with pytest.raises(ValueError, match="two labels"):
        krippendorff_alpha([["a"], [None, "b"]])
