"""Each loss at numbers worked out by hand from its paper's formula."""

from __future__ import annotations

from math import exp, log

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from fledge.tune.losses.kto import drift_of, kto
from fledge.tune.losses.preference import LOSSES, Pairs, nll
from fledge.tune.losses.reward import bradley_terry, step_cross_entropy
from fledge.tune.preference_config import DpoConfig, PreferenceLoss


def pair(*numbers: float) -> Pairs:
    """One pair: chosen, rejected, their references, their lengths."""
    return Pairs(*(torch.tensor([number], dtype=torch.float64) for number in numbers))


ONE = pair(-4.0, -9.0, -6.0, -8.0, 2, 3)
"""Log-ratios 2 and -1; a token: 1 and -1/3."""


def value(loss: str, numbers: Pairs = ONE, **options: float) -> float:
    config = PreferenceLoss.model_validate({"loss": loss, **options})
    return float(LOSSES[loss].value(numbers, config))


def minus_log_logistic(x: float) -> float:
    return log(1 + exp(-x))


def test_dpo() -> None:
    """d = 2 - (-1) = 3; b d = 1.5: -log s(1.5) = log(1 + e^-1.5) = 0.2014."""
    assert value("dpo", beta=0.5) == pytest.approx(0.20141328)


def test_dpo_with_smoothed_labels() -> None:
    """0.9 x 0.20141 + 0.1 x log(1 + e^1.5) = 0.18127 + 0.17014"""
    assert value("dpo", beta=0.5, label_smoothing=0.1) == pytest.approx(0.35141328)


def test_dpo_a_token() -> None:
    """d = 1 + 1/3; b d = 4: log(1 + e^-4)"""
    assert value("dpo_norm", beta=3.0) == pytest.approx(0.01814993)


def test_robust() -> None:
    """(0.9 x 0.20141 - 0.1 x 1.70141) / 0.8"""
    expected = (0.9 * 0.20141328 - 0.1 * 1.70141328) / 0.8
    assert value("robust", beta=0.5, label_smoothing=0.1) == pytest.approx(expected)


def test_robust_is_unbiased_under_flipped_labels() -> None:
    """(1 - e) robust + e robust(flipped) = dpo, which is what it is for."""
    flipped = pair(-9.0, -4.0, -8.0, -6.0, 3, 2)
    options = {"beta": 0.5, "label_smoothing": 0.2}
    mixed = 0.8 * value("robust", **options) + 0.2 * value("robust", flipped, **options)
    assert mixed == pytest.approx(value("dpo", beta=0.5))


def test_ipo() -> None:
    """(4/3 - 1 / (2 x 0.5))^2 = (1/3)^2"""
    assert value("ipo", beta=0.5) == pytest.approx(1 / 9)


def test_simpo() -> None:
    """Means -2 and -3: 2 x 1 - 0.5 = 1.5, whatever the reference says."""
    assert value("simpo", beta=2.0, gamma=0.5) == pytest.approx(0.20141328)
    other = ONE._replace(reference_chosen=torch.tensor([-99.0]))
    assert value("simpo", other, beta=2.0, gamma=0.5) == pytest.approx(0.20141328)


def test_orpo() -> None:
    """p = e^-2 and e^-3: odds 0.156518 and 0.052396; NLL a token 2; ratio 2.987213."""
    odds = [exp(x) / (1 - exp(x)) for x in (-2, -3)]
    expected = 2 + 0.1 * minus_log_logistic(log(odds[0] / odds[1]))
    assert odds[0] / odds[1] == pytest.approx(2.987, abs=1e-3)
    assert value("orpo", beta=0.1) == pytest.approx(expected)


@pytest.mark.parametrize("mean", [-1e-30, -1e-6, -0.3, -0.6931471805599453, -20.0, -200.0])
def test_odds_are_finite_at_any_likelihood(mean: float) -> None:
    numbers = [torch.tensor([mean], requires_grad=True), torch.tensor([-1.0])]
    ones = torch.ones(1)
    loss = LOSSES["orpo"].value(
        Pairs(numbers[0], numbers[1], ones, ones, ones, ones), PreferenceLoss(loss="orpo")
    )
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert torch.isfinite(numbers[0].grad).all()  # type: ignore[arg-type]


def test_nll_is_a_token() -> None:
    assert float(nll(ONE)) == 2.0


def test_kto() -> None:
    """Good: 1.5 (1 - s(0.5 (3 - 1))) = 1.5 x 0.268941; bad: 0.5 (1 - s(0.5 (1 - 3)))."""
    config = PreferenceLoss(loss="kto", beta=0.5, desirable_weight=1.5, undesirable_weight=0.5)
    losses = kto(torch.tensor([3.0, 3.0]), torch.tensor([True, False]), torch.tensor(1.0), config)
    assert losses.tolist() == pytest.approx([1.5 * 0.26894142, 0.5 * 0.73105858])


def test_drift_is_a_mean_that_is_never_negative_nor_learnt() -> None:
    ratios = torch.tensor([3.0, -1.0], requires_grad=True)
    assert float(drift_of(ratios)) == 1.0
    assert not drift_of(ratios).requires_grad
    assert float(drift_of(torch.tensor([-3.0, 1.0]))) == 0.0


def test_bradley_terry_with_margin_and_centre() -> None:
    """2 - 0.5 - 1 = 0.5: log(1 + e^-0.5) = 0.474077; centre 0.1 x (2.5)^2 = 0.625."""
    loss = bradley_terry(torch.tensor([2.0]), torch.tensor([0.5]), 1.0, 0.1)
    assert float(loss) == pytest.approx(0.47407698 + 0.625)


def test_steps() -> None:
    """Right at 1: log(1 + e^-1); wrong at 1: log(1 + e)."""
    loss = step_cross_entropy(torch.tensor([1.0, 1.0]), torch.tensor([1.0, 0.0]))
    assert loss.tolist() == pytest.approx([0.31326169, 1.31326169])


@pytest.mark.parametrize("name", LOSSES)
def test_implicit_rewards(name: str) -> None:
    options = {"label_smoothing": 0.1} if name == "robust" else {}
    config = PreferenceLoss.model_validate({"loss": name, "beta": 0.5, **options})
    better, worse = (float(x) for x in LOSSES[name].rewards(ONE, config))
    expected = {
        "dpo": (1.0, -0.5),
        "robust": (1.0, -0.5),
        "dpo_norm": (0.5, -1 / 6),
        "ipo": (0.5, -1 / 6),
        "simpo": (-1.0, -1.5),
        "orpo": (-1.0, -1.5),
    }
    assert (better, worse) == pytest.approx(expected[name])


@given(
    st.lists(st.floats(-60, -0.1), min_size=4, max_size=4),
    st.sampled_from([name for name in LOSSES if name != "ipo"]),
)
@settings(max_examples=100, deadline=None)
def test_a_likelier_chosen_answer_never_costs_more(numbers: list[float], name: str) -> None:
    """All but IPO, whose margin has a goal, fall when the chosen answer becomes likelier."""
    options = {"label_smoothing": 0.0} if name != "robust" else {"label_smoothing": 0.01}
    config = PreferenceLoss.model_validate({"loss": name, "beta": 0.1, **options})
    lengths = [torch.tensor([5.0], dtype=torch.float64)] * 2
    chosen = torch.tensor([numbers[0]], dtype=torch.float64, requires_grad=True)
    others = [torch.tensor([number], dtype=torch.float64) for number in numbers[1:]]
    LOSSES[name].value(Pairs(chosen, *others, *lengths), config).sum().backward()
    gradient = float(chosen.grad)  # type: ignore[arg-type]
    assert gradient <= 0.001  # robust may rise a little: it takes labels for wrong at times


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "ipo", "label_smoothing": 0.1}, "has no label_smoothing"),
        ({"loss": "kto", "sft_weight": 0.1}, "sft_weight does not go with"),
        ({"loss": "robust"}, "needs label_smoothing"),
        ({"z_loss": 1e-4}, "z_loss is of next-token prediction"),
        ({"loss": "dpo2"}, "dpo2|Input should be"),
        ({"label_smoothing": 0.5}, "less than 0.5"),
    ],
)
def test_dials_that_a_loss_would_not_read_are_refused(
    options: dict[str, object], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        DpoConfig.model_validate(options)
