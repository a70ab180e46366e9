"""Measures of evidence in, the probability that the passages answer the question out.

A logistic model of a dozen weights, fitted on questions whose answering passage was there or was
taken away.  The shipped weights (support.json) are those of ``benchmarks/answerability.py``, which
says on what they were fitted, and how often they are wrong on other documents.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from fledge.core.errors import InputError
from fledge.rag.evidence import AGAINST, DENSE_FEATURES, FEATURES

WRONG_REFUSALS = 0.15
"""Share of answerable questions that a calibrated threshold may refuse."""
ROUNDS = 50
"""Newton steps; the loss is convex, and ten suffice."""


@dataclass(frozen=True, kw_only=True)
class SupportModel:
    """P(answered) = 1 / (1 + exp(-(bias + sum of weight x measure)))."""

    weights: Mapping[str, float]
    bias: float
    threshold: float
    """Below it the answer is "not in your documents"."""

    def probability(self, measures: Mapping[str, float]) -> float:
        """Of passages with these measures answering; a measure that is missing counts 0."""
        total = self.bias + sum(w * measures.get(name, 0.0) for name, w in self.weights.items())
        return 1.0 / (1.0 + math.exp(-max(-60.0, min(60.0, total))))

    def to_json(self) -> dict[str, object]:
        """As support.json holds it."""
        weights = {name: round(weight, 4) for name, weight in self.weights.items()}
        rounded = {"bias": round(self.bias, 4), "threshold": round(self.threshold, 6)}
        return {**rounded, "weights": weights}


def fit(
    rows: Sequence[tuple[Mapping[str, float], bool]],
    *,
    ridge: float = 1.0,
    most_wrong: float = WRONG_REFUSALS,
) -> SupportModel:
    """The likeliest model, less ``ridge`` x |weights|² / 2 on standardised measures.

    ``rows``: measures, and whether the answer was there.  The threshold refuses at most
    ``most_wrong`` of the answered rows.  A measure whose weight would say the opposite of what it
    means (more evidence, less support) is left out, the worst first, and the others are fitted
    again.  Raises InputError unless both kinds of row are there.
    """
    if len({answered for _, answered in rows}) < 2:
        raise InputError(
            "a calibration needs questions that are answered and questions that are not",
            remedy="label both kinds",
        )
    names = [n for n in (*FEATURES, *DENSE_FEATURES) if any(n in row for row, _ in rows)]
    while True:
        weights, bias, effects = _solved(rows, names, ridge)
        wrong = {n: e for n, e in effects.items() if e < 0}
        if not wrong or len(names) == 1:
            break
        names.remove(min(wrong, key=lambda name: wrong[name]))
    model = SupportModel(weights=dict(zip(names, weights, strict=True)), bias=bias, threshold=0.5)
    present = [model.probability(row) for row, answered in rows if answered]
    absent = [model.probability(row) for row, answered in rows if not answered]
    threshold = between(present, absent, most_wrong)
    return SupportModel(weights=model.weights, bias=model.bias, threshold=threshold)


def _solved(
    rows: Sequence[tuple[Mapping[str, float], bool]], names: Sequence[str], ridge: float
) -> tuple[list[float], float, dict[str, float]]:
    """Weights of ``names`` (F) and the bias, by Newton's method; and what each measure's usual
    spread does to the log-odds, below 0 where it does the opposite of what it means."""
    table = np.array([[row.get(name, 0.0) for name in names] for row, _ in rows])  # (N,F)
    target = np.array([float(answered) for _, answered in rows])
    mean, spread = table.mean(0), np.maximum(table.std(0), 1e-6)
    inputs = np.column_stack([(table - mean) / spread, np.ones(len(rows))])
    penalty = np.diag([ridge] * len(names) + [0.0])
    solved = np.zeros(len(names) + 1)
    for _ in range(ROUNDS):
        p = 1 / (1 + np.exp(-np.clip(inputs @ solved, -60, 60)))
        slope = inputs.T @ (p - target) + penalty @ solved
        curve = (inputs * (p * (1 - p))[:, None]).T @ inputs + penalty
        step = np.linalg.solve(curve + 1e-9 * np.eye(len(solved)), slope)
        solved -= step
        if float(np.abs(step).max()) < 1e-8:
            break
    weights = solved[:-1] / spread
    effects = {
        name: float(-effect if name in AGAINST else effect)
        for name, effect in zip(names, solved[:-1], strict=True)
    }
    return [float(w) for w in weights], float(solved[-1] - (weights * mean).sum()), effects


def threshold_for(present: Sequence[float], most_wrong: float = WRONG_REFUSALS) -> float:
    """The largest threshold that refuses at most ``most_wrong`` of these answered questions."""
    ordered = sorted(present)
    return ordered[min(int(most_wrong * len(ordered)), len(ordered) - 1)]


def between(present: Sequence[float], absent: Sequence[float], most_wrong: float) -> float:
    """A threshold that refuses as many unanswered questions as the largest allowed one, and as few
    answered ones as that takes: halfway between the two kinds where they part."""
    top = threshold_for(present, most_wrong)
    low = max((p for p in absent if p < top), default=0.0)
    return (low + min(p for p in present if p > low)) / 2


@dataclass(frozen=True, kw_only=True)
class Operating:
    """What one threshold does to questions whose answer is there, and is not."""

    threshold: float
    wrong_refusals: float
    right_refusals: float


def operating_curve(
    present: Sequence[float], absent: Sequence[float], shares: Sequence[float] = (
        0.02, 0.05, 0.1, 0.15, 0.2, 0.3,
    )
) -> list[Operating]:  # fmt: skip
    """Right refusals at several shares of wrong ones."""
    found = []
    for share in shares:
        threshold = threshold_for(present, share)
        wrong = sum(p < threshold for p in present) / len(present)
        right = sum(p < threshold for p in absent) / len(absent)
        found.append(Operating(threshold=threshold, wrong_refusals=wrong, right_refusals=right))
    return found


@cache
def shipped() -> dict[str, SupportModel]:
    """The models that come with fledge, by "language" or "language:embedder"."""
    text = files("fledge.rag").joinpath("support.json").read_text("utf-8")
    return models_from(json.loads(text))


def models_from(told: Mapping[str, Any]) -> dict[str, SupportModel]:
    """Models from their JSON; raises InputError for another shape."""
    try:
        return {
            name: SupportModel(
                weights={key: float(w) for key, w in one["weights"].items()},
                bias=float(one["bias"]),
                threshold=float(one["threshold"]),
            )
            for name, one in dict(told).items()
        }
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"these are no weights of a support model: {error!r}") from None


def support_model(
    language: str, embedder: str = "", own: Mapping[str, SupportModel] | None = None
) -> SupportModel:
    """The model for a question's language and the embedder that was used, own ones first."""
    known = {**shipped(), **(own or {})}
    for name in (f"{language}:{embedder}", language):
        if name in known:
            return known[name]
    return known["en"]
