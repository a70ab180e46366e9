"""Measured runs and their fit in, the figures of ``scaling.json`` out.  Pure, no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fledge.metrics.scaling import OPERATIONS, Fit, Law, optima
from fledge.train.scale_config import ScaleConfig
from fledge.train.scale_plan import Rung, nearest_depth

COUNTED = "all weights, the embedding once (arXiv:2406.12907: leaving it out bends small ladders)"

CURVE_POINTS = 40
HIGHEST = 1.5
"""Curves are drawn up to this multiple of the highest loss measured."""
FAR = 100.0
"""Operations beyond so many times the largest run fitted are said to be far from it."""
LOOSE = 3.0
"""A parameter whose interval spans more than this factor is said to be undetermined."""
SPAN = 4.0
"""Sizes or lengths that differ by less say little about their exponent."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A finished run.  ``loss`` in nats a token of held-out text."""

    name: str
    depth: int
    width: int
    parameters: int
    tokens: int
    loss: float
    bits_per_byte: float
    seconds: float

    @property
    def flops(self) -> float:
        """6 N D."""
        return OPERATIONS * self.parameters * self.tokens


@dataclass(frozen=True, kw_only=True)
class Study:
    """A fitted ladder and what is asked of it."""

    config: ScaleConfig
    vocab_size: int
    tokens_per_byte: float
    runs: list[Measured]
    held_out: Rung
    fit: Fit
    notes: list[str]
    budgets: list[tuple[str, float]]


def findings(study: Study, held_out: Measured | None) -> dict[str, Any]:
    """Everything ``scaling.json`` says; ``held_out`` is None before that run is done."""
    fit, runs = study.fit, study.runs
    law = fit.law
    return {
        "parameters_counted": COUNTED,
        "law": {
            name: {"value": value, "ci95": list(interval)}
            for name, (value, interval) in fit.parameters().items()
        },
        "exponents": _exponents(study),
        "tokens_per_byte": study.tokens_per_byte,
        "runs": [{**_row(run), "fitted": law.loss(run.parameters, run.tokens)} for run in runs],
        "held_out": _prediction(study, held_out),
        "budgets": [_budget(study, asked, flops) for asked, flops in _wanted(study)],
        "curves": _curves(study),
        "isoflop": _isoflop(study),
        "warnings": [*study.notes, *_warnings(study)],
    }


def _row(run: Measured) -> dict[str, Any]:
    row = {name: value for name, value in vars(run).items() if name != "seconds"}
    return {**row, "flops": run.flops}


def _exponents(study: Study) -> dict[str, Any]:
    """N grows as C^size, D as C^data (eq. 4)."""
    law, fit = study.fit.law, study.fit
    total = law.alpha + law.beta
    size, data = law.beta / total, law.alpha / total
    return {
        "size": {"value": size, "ci95": list(fit.interval(lambda r: _share(r[:, 4], r[:, 3])))},
        "data": {"value": data, "ci95": list(fit.interval(lambda r: _share(r[:, 3], r[:, 4])))},
    }


def _share(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """one / (one + other), NaN where they cancel."""
    total = one + other
    return np.divide(one, total, out=np.full_like(one, np.nan), where=total != 0)


def _prediction(study: Study, run: Measured | None) -> dict[str, Any]:
    """The held-out run as predicted and, once it is done, as it came out.

    The law is that of before; the tokens are those that were read in the end (rows hold a little
    padding).
    """
    rung = study.held_out
    tokens = rung.tokens if run is None else run.tokens
    loss, interval = study.fit.prediction(rung.parameters, tokens, seed=study.config.seed)
    found: dict[str, Any] = {
        "name": rung.name,
        "parameters": rung.parameters,
        "tokens": tokens,
        "flops": OPERATIONS * rung.parameters * tokens,
        "beyond": OPERATIONS * rung.parameters * tokens / max(run.flops for run in study.runs),
        "predicted": loss,
        "ci95": list(interval),
        "predicted_bits_per_byte": _bits(loss, study),
        "measured": None,
    }
    if run is None:
        return found
    return {
        **found,
        "measured": run.loss,
        "measured_bits_per_byte": run.bits_per_byte,
        "error": loss / run.loss - 1,
        "inside": interval[0] <= run.loss <= interval[1],
    }


def _bits(loss: float, study: Study) -> float:
    return loss * study.tokens_per_byte / math.log(2)


def _wanted(study: Study) -> list[tuple[str, float]]:
    """The budgets asked for, or ten and a hundred times the ladder's largest run."""
    largest = max(run.flops for run in study.runs)
    return study.budgets or [
        (f"{times} x the largest run fitted", times * largest) for times in (1, 10, 100)
    ]


def _budget(study: Study, asked: str, flops: float) -> dict[str, Any]:
    """The size and the length that a budget wants, with intervals (eq. 4)."""
    fit = study.fit
    parameters, tokens = fit.law.optimum(flops)
    found = {"asked": asked, "flops": flops, "parameters": None}
    if not math.isfinite(parameters):
        return found
    loss = fit.law.loss(parameters, tokens)
    model = nearest_depth(parameters, study.config, study.vocab_size)

    def losses(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        best = optima(rows, flops)
        return np.array(
            [
                Law(E=e, A=a, B=b, alpha=x, beta=y).loss(n, d)
                for (e, a, b, x, y), (n, d) in zip(rows.tolist(), best.tolist(), strict=True)
            ]
        )

    return {
        **found,
        "parameters": {
            "value": parameters,
            "ci95": list(fit.interval(lambda rows: optima(rows, flops)[:, 0])),
        },
        "tokens": {
            "value": tokens,
            "ci95": list(fit.interval(lambda rows: optima(rows, flops)[:, 1])),
        },
        "loss": {"value": loss, "ci95": list(fit.interval(losses))},
        "bits_per_byte": _bits(loss, study),
        "shape": {"depth": model.depth, "width": model.width, "parameters": model.parameters},
        "beyond": flops / max(run.flops for run in study.runs),
    }


def _curves(study: Study) -> list[dict[str, Any]]:
    """L over D for each size of the ladder: the fitted curve, and what was measured on it."""
    lengths = [run.tokens for run in study.runs] + [study.held_out.tokens]
    grid = np.geomspace(min(lengths) / 1.2, max(lengths) * 1.2, CURVE_POINTS).tolist()
    law = study.fit.law
    return [
        {
            "parameters": size,
            "curve": [[d, law.loss(size, d)] for d in grid],
            "measured": [[r.tokens, r.loss] for r in study.runs if r.parameters == size],
        }
        for size in sorted({run.parameters for run in study.runs} | {study.held_out.parameters})
    ]


def _isoflop(study: Study) -> list[dict[str, Any]]:
    """L over N at equal operations, for a few budgets, with the lowest point of each."""
    runs, law = study.runs, study.fit.law
    flops = [run.flops for run in runs] + [study.held_out.flops]
    sizes = [run.parameters for run in runs] + [study.held_out.parameters]
    found = []
    for budget in np.geomspace(min(flops) * 2, max(flops), 5).tolist():
        best = law.optimum(budget)[0]
        ends = [*sizes, best] if math.isfinite(best) else sizes
        grid = np.geomspace(min(ends) / 2, max(ends) * 2, CURVE_POINTS).tolist()
        curve = [[n, law.loss(n, budget / OPERATIONS / n)] for n in grid]
        curve = [point for point in curve if point[1] <= HIGHEST * max(r.loss for r in runs)]
        lowest = [best, law.loss(best, budget / OPERATIONS / best)] if math.isfinite(best) else None
        found.append({"flops": budget, "curve": curve, "lowest": lowest})
    return found


def _warnings(study: Study) -> list[str]:
    """Where the ladder is too small for what is read from it."""
    fit, runs = study.fit, study.runs
    said = []
    for name, values in (
        ("sizes", [run.parameters for run in runs]),
        ("lengths", [run.tokens for run in runs]),
    ):
        if max(values) < 0.99 * SPAN * min(values):
            said.append(
                f"the {name} of the ladder differ by a factor of {max(values) / min(values):.1f} "
                f"only: its exponent rests on little; span {SPAN:g} at least"
            )
    for name, (value, (low, high)) in fit.parameters().items():
        if name in ("A", "B"):
            continue  # factors of a power: tied to their exponents, wide even when those are not
        if not 0 < high <= LOOSE * low:
            said.append(
                f"{name} = {value:.3g} is not determined by these runs (95 % interval {low:.3g} "
                f"to {high:.3g}): more sizes, longer runs or several seeds would tell"
            )
    lost = fit.without_optimum()
    if lost > 0.025:
        said.append(f"{lost:.0%} of the redrawn laws have no compute-optimal size at all")
    worst = float(np.abs(fit.residuals).max())
    if worst > 0.02:
        said.append(f"the law misses a run it was fitted to by {worst:.1%}")
    largest = max(run.flops for run in runs)
    far = [asked for asked, flops in study.budgets if flops > FAR * largest]
    if far:
        said.append(f"{', '.join(far)}: over {FAR:g} times the largest run fitted, a far reach")
    return said
