"""Contrastive losses: against values worked out by hand, and finite differences."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fledge.tune.losses.contrastive import cosine_distance, info_nce, matryoshka

AXES = torch.eye(2)


def unit(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1)


def test_two_pairs_by_hand() -> None:
    """Cosines 1 and 0 at temperature 0.5: each is told apart with odds of e^2 to 1, both ways."""
    expected = math.log(1 + math.exp(-2))
    losses = info_nce(AXES, AXES, temperature=0.5)
    assert losses.tolist() == pytest.approx([expected] * 2)


def test_a_hard_negative_by_hand() -> None:
    """It stands in the query's sum alone, not in the positive's."""
    negatives = torch.tensor([[[0.6, 0.8]], [[1.0, 0.0]]])
    losses = info_nce(AXES, AXES, negatives, temperature=0.5)
    back = math.log(1 + math.exp(-2))
    forward = [
        math.log(1 + math.exp(-2) + math.exp(1.2 - 2)),
        math.log(1 + math.exp(-2) + math.exp(-2)),
    ]
    assert losses.tolist() == pytest.approx([(one + back) / 2 for one in forward])


def test_absent_negatives_do_not_count() -> None:
    negatives = torch.tensor([[[0.6, 0.8], [1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]])
    absent = torch.tensor([[False, True], [False, True]])
    kept = info_nce(AXES, AXES, negatives[:, :1], temperature=0.5)
    assert torch.equal(info_nce(AXES, AXES, negatives, temperature=0.5, absent=absent), kept)


def test_the_same_text_is_no_wrong_answer() -> None:
    """Both pairs have one positive: with the mask nothing is left to be told apart."""
    positives = AXES[:1].expand(2, 2)
    same = torch.ones(2, 2, dtype=torch.bool)
    assert info_nce(AXES, positives, temperature=0.5, same=same).tolist() == [0.0, 0.0]
    assert info_nce(AXES, positives, temperature=0.5).min() > 0


def test_gradients_are_those_of_finite_differences() -> None:
    inputs = (unit(4, 6, seed=0), unit(4, 6, seed=1), unit(4, 2, 6, seed=2))
    same = torch.zeros(4, 4, dtype=torch.bool)
    same[0, 2] = same[2, 0] = True
    absent = torch.tensor([[False, False], [True, False], [False, True], [True, True]])

    def loss(queries: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
        def inner(q: Tensor, p: Tensor, n: Tensor | None) -> Tensor:
            return info_nce(q, p, n, temperature=0.3, same=same, absent=absent)

        return matryoshka(inner, queries, positives, negatives, [2, 6])

    assert torch.autograd.gradcheck(loss, tuple(one.requires_grad_() for one in inputs))


def test_matryoshka_is_the_mean_over_lengths() -> None:
    queries, positives = unit(5, 8, seed=3), unit(5, 8, seed=4)

    def loss(q: Tensor, p: Tensor, _: Tensor | None) -> Tensor:
        return info_nce(q, p, temperature=0.2)

    expected = [
        loss(F.normalize(queries[:, :n], dim=-1), F.normalize(positives[:, :n], dim=-1), None)
        for n in (2, 4, 8)
    ]
    found = matryoshka(loss, queries, positives, None, [2, 4, 8])
    torch.testing.assert_close(found, torch.stack(expected).mean(0))


def test_distance_to_the_teacher() -> None:
    student = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    teacher = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    assert cosine_distance(student, teacher).tolist() == pytest.approx([0.0, 0.2, 0.0])
    half_square = ((student - teacher).square().sum(-1) / 2)[:2]
    torch.testing.assert_close(cosine_distance(student, teacher)[:2], half_square)
