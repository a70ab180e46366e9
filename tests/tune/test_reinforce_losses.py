"""Losses of reinforcement learning: values computed by hand, and what must hold for all."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, tensor

from fledge.tune.losses.advantages import (
    gae,
    group_advantages,
    has_signal,
    overlong_penalty,
    whiten,
)
from fledge.tune.losses.kl import adapted_weight
from fledge.tune.losses.policy import (
    is_clipped,
    kl_estimate,
    policy_loss,
    summed_by_answer,
    value_loss,
)


def close(found: Tensor, wanted: list[float]) -> None:
    torch.testing.assert_close(found, tensor(wanted), rtol=1e-6, atol=1e-6)


def test_clipped_loss_by_hand() -> None:
    ratio = tensor([1.5, 0.5, 1.5, 0.5, 1.1])
    advantage = tensor([2.0, 2.0, -2.0, -2.0, 1.0])
    close(policy_loss(ratio.log(), advantage, 0.2, 0.28), [-2.56, -1.0, 3.0, 1.6, -1.1])
    assert is_clipped(ratio.log(), advantage, 0.2, 0.28).tolist() == [
        True,
        False,
        False,
        True,
        False,
    ]
    close(policy_loss(ratio.log(), advantage, 0.2, 0.28, cap=1.4), [-2.56, -1.0, 2.8, 1.6, -1.1])


def test_a_clipped_token_has_no_gradient_and_a_bad_one_has() -> None:
    log_ratio = tensor([1.5, 1.5]).log().requires_grad_()
    policy_loss(log_ratio, tensor([1.0, -1.0]), 0.2, 0.2).sum().backward()
    assert log_ratio.grad is not None
    close(log_ratio.grad, [0.0, 1.5])


def test_the_first_gradient_is_that_of_reinforce() -> None:
    logp = tensor([-1.0, -2.0], requires_grad=True)
    policy_loss(logp - logp.detach(), tensor([0.5, -3.0]), 0.2, 0.2).sum().backward()
    assert logp.grad is not None
    close(logp.grad, [-0.5, 3.0])


def test_value_loss_takes_the_greater_error() -> None:
    values, old, returns = tensor([1.0, 0.3]), tensor([0.0, 0.0]), tensor([2.0, 2.0])
    close(value_loss(values, old, returns, None), [0.5, 1.445])
    close(value_loss(values, old, returns, 0.5), [1.125, 1.445])


def test_kl_estimators_by_hand_and_their_means() -> None:
    difference = tensor([math.log(2.0)])
    close(kl_estimate(difference, "k1"), [math.log(2)])
    close(kl_estimate(difference, "k2"), [0.5 * math.log(2) ** 2])
    close(kl_estimate(difference, "k3"), [0.5 - 1 + math.log(2)])
    p, q = tensor([0.7, 0.2, 0.1]), tensor([0.5, 0.3, 0.2])
    true = float((p * (p / q).log()).sum())
    for kind in ("k1", "k3"):  # without bias: the mean over p is the KL
        assert float((p * kl_estimate((p / q).log(), kind)).sum()) == pytest.approx(true, rel=1e-5)


@given(st.floats(-30, 30))
def test_k2_and_k3_are_never_negative(difference: float) -> None:
    for kind in ("k2", "k3"):
        found = kl_estimate(tensor([difference], dtype=torch.float64), kind)
        assert float(found) >= -1e-12
        assert found.isfinite().all()


def test_group_advantages_by_hand() -> None:
    rewards = tensor([[1.0, 0.0, 0.0, 1.0], [3.0, 1.0, 1.0, 1.0]])
    close(group_advantages(rewards, "mean")[1], [1.5, -0.5, -0.5, -0.5])
    close(group_advantages(rewards, "leave_one_out")[1], [2.0, -2 / 3, -2 / 3, -2 / 3])
    deviation = math.sqrt(1 / 3) + 1e-4
    close(group_advantages(rewards, "group")[0], [x / deviation for x in (0.5, -0.5, -0.5, 0.5)])
    close(group_advantages(rewards, "none")[0], [1.0, 0.0, 0.0, 1.0])


@given(st.lists(st.floats(-5, 5, width=32), min_size=2, max_size=8))
def test_baselines_shift_no_group(rewards: list[float]) -> None:
    for baseline in ("group", "mean", "leave_one_out"):
        found = group_advantages(tensor([rewards], dtype=torch.float64), baseline)
        assert float(found.sum()) == pytest.approx(0.0, abs=1e-6)


def test_a_constant_group_has_no_signal() -> None:
    rewards = tensor([[0.3, 0.3, 0.3], [0.0, 0.0, 0.1]])
    assert has_signal(rewards).tolist() == [False, True]
    assert not group_advantages(rewards, "group")[0].abs().gt(1e-3).any()


def test_gae_by_hand() -> None:
    rewards, values = tensor([[0.0, 0.0, 1.0, 9.0]]), tensor([[0.5, 0.4, 0.6, 9.0]])
    mask = tensor([[1.0, 1.0, 1.0, 0.0]])
    advantages, returns = gae(rewards, values, mask, 0.9, 0.8)
    third = 1.0 - 0.6
    second = 0.9 * 0.6 - 0.4 + 0.72 * third
    first = 0.9 * 0.4 - 0.5 + 0.72 * second
    close(advantages[0], [first, second, third, 0.0])
    close(returns[0], [first + 0.5, second + 0.4, 1.0, 0.0])


def test_gae_without_a_critic_is_the_reward_to_come() -> None:
    rewards = tensor([[1.0, 2.0, 3.0]])
    advantages, _ = gae(rewards, torch.zeros(1, 3), torch.ones(1, 3), 1.0, 1.0)
    close(advantages[0], [6.0, 5.0, 3.0])


def test_whitening_counts_only_what_the_mask_shows() -> None:
    values, mask = tensor([[1.0, 3.0, 99.0]]), tensor([[1.0, 1.0, 0.0]])
    close(whiten(values, mask)[0, :2], [-(0.5**0.5), 0.5**0.5])
    close(whiten(values, mask, shift=False)[0, :2], [2 - 0.5**0.5, 2 + 0.5**0.5])


def test_overlong_answers_lose_up_to_one() -> None:
    lengths = (50, 80, 90, 100, 120)
    assert [overlong_penalty(n, 100, 20) for n in lengths] == [0.0, 0.0, -0.5, -1.0, -1.0]
    assert overlong_penalty(100, 100, 0) == 0.0


def test_the_weight_of_kl_follows_its_target() -> None:
    assert adapted_weight(0.1, 6.0, 6.0, 64, 1000) == pytest.approx(0.1)
    assert adapted_weight(0.1, 600.0, 6.0, 100, 1000) == pytest.approx(0.1 * 1.02)
    assert adapted_weight(0.1, 0.0, 6.0, 100, 1000) == pytest.approx(0.1 * 0.98)


def test_sums_by_answer_keep_gradients_apart() -> None:
    values = tensor([1.0, 2.0, 4.0], requires_grad=True)
    sums = summed_by_answer(values, tensor([7, 7, 3]))
    close(sums.detach(), [3.0, 3.0, 4.0])
    sums[0].backward()
    assert values.grad is not None
    close(values.grad, [1.0, 1.0, 0.0])
