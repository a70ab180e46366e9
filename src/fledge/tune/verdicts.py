"""A scorer and held-out answers in; how often and how rightly it says which is better out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fledge.metrics.calibration import Bin, brier, calibration_error, reliability
from fledge.metrics.intervals import wilson
from fledge.model.decoder import Decoder
from fledge.model.scorer import Scorer
from fledge.train.batch import Batch
from fledge.tune.groups import Group, Values
from fledge.tune.held_out import exactly
from fledge.tune.pair_loader import read_values

TOKENS = 4096
"""Tokens of a batch, about."""

Verdicts = Callable[[Decoder, Sequence[Group], int], tuple[dict[str, float], list[Bin]]]
"""(scorer, groups, tokens of a row) -> figures and the calibration curve."""


def scores_of_groups(
    scorer: Decoder, groups: Sequence[Group], row: int
) -> list[tuple[Values, ...]]:
    """The score at every token that counts, in float32, group by group."""
    assert isinstance(scorer, Scorer)

    @torch.no_grad()
    def score(batch: Batch) -> Tensor:
        there = batch.to(scorer.device)
        return scorer.scores(there.ids, there.segments)

    with exactly(scorer):
        return read_values(groups, score, row=row, batch_rows=max(1, TOKENS // row), scored=True)


def pair_verdicts(
    scorer: Decoder, groups: Sequence[Group], row: int
) -> tuple[dict[str, float], list[Bin]]:
    """Of pairs: p(chosen is better) = s(chosen - rejected), with s the logistic function.

    Whether the answer named better is right is asked of every pair once, from the scorer's side:
    it states max(p, 1 - p), and is right when p > 1/2; equal scores are half right.
    """
    if not groups:
        return {}, []
    found = scores_of_groups(scorer, groups, row)
    margins = [float(chosen[0] - rejected[0]) for chosen, rejected in found]
    hits = sum((margin > 0) + 0.5 * (margin == 0) for margin in margins)
    level = sum(float(chosen[0] + rejected[0]) for chosen, rejected in found) / (2 * len(found))
    spread = math.sqrt(
        sum((float(s[0]) - level) ** 2 for pair in found for s in pair) / (2 * len(found))
    )
    stated = [_logistic(abs(margin)) for margin in margins]
    curve = reliability(stated, [margin > 0 for margin in margins])
    figures = {
        "loss": sum(_softplus(-margin) for margin in margins) / len(margins),
        **_share(hits, len(margins)),
        "margin": sum(margins) / len(margins),
        "score_mean": level,
        "score_deviation": spread,
        "brier": brier([_logistic(margin) for margin in margins], [True] * len(margins)),
        "calibration_error": calibration_error(curve),
    }
    return figures, curve


def step_verdicts(
    scorer: Decoder, groups: Sequence[Group], row: int
) -> tuple[dict[str, float], list[Bin]]:
    """Of steps: p(right) = s(score); it is taken for right when p > 1/2."""
    if not groups:
        return {}, []
    found = scores_of_groups(scorer, groups, row)
    scores = [float(score) for (values,) in found for score in values]
    right = [bool(label) for group in groups for label in group.signals[0]]
    stated = [_logistic(score) for score in scores]
    curve = reliability(stated, right)
    hits = sum((score > 0) == label for score, label in zip(scores, right, strict=True))
    signed = [score if label else -score for score, label in zip(scores, right, strict=True)]
    figures = {
        "loss": sum(_softplus(-score) for score in signed) / len(signed),
        **_share(hits, len(signed)),
        "right_share": sum(right) / len(right),
        "brier": brier(stated, right),
        "calibration_error": calibration_error(curve),
    }
    return figures, curve


def _share(hits: float, trials: int) -> dict[str, float]:
    low, high = wilson(hits, trials)
    return {"accuracy": hits / trials, "accuracy_low": low, "accuracy_high": high}


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def _softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))
