"""Runs (parameters N, tokens D, loss L) in, the law L(N, D) = E + A/N^alpha + B/D^beta out.

Approach 3 of Chinchilla (arXiv:2203.15556): eq. 10, fitted as in its appendix D.3, with every
parameter's interval by redrawing the runs.  Pure numpy: many fits at once, as one stack of
Levenberg-Marquardt steps on the Huber loss.  Letters: R runs, M fits, S starts.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

DELTA = 1e-3
"""Residuals of log L beyond this count by their size, not their square (D.3)."""

OPERATIONS = 6.0
"""FLOPs of training a parameter on a token: 2 forward, 4 backward (arXiv:2001.08361, 2.1)."""

GRID = (
    (-1.0, -0.5, 0.0, 0.5, 1.0),
    (0.0, 5.0, 10.0, 15.0, 20.0, 25.0),
    (0.0, 5.0, 10.0, 15.0, 20.0, 25.0),
    (0.0, 0.5, 1.0, 1.5, 2.0),
    (0.0, 0.5, 1.0, 1.5, 2.0),
)
"""First values of log E, log A, log B, alpha, beta (D.3): 4,500 starts."""

NAMES = ("E", "A", "B", "alpha", "beta")
FEWEST_RUNS = 6
"""Five parameters want at least one run more."""


@dataclass(frozen=True, kw_only=True)
class Law:
    """L(N, D) = E + A / N^alpha + B / D^beta, in nats a token."""

    E: float
    A: float
    B: float
    alpha: float
    beta: float

    def loss(self, parameters: float, tokens: float) -> float:
        """Predicted loss of a model of N parameters trained on D tokens."""
        return float(_losses(self.row(), np.array([parameters]), np.array([tokens]))[0, 0])

    def row(self) -> Array:
        """(1,5) in the order of ``NAMES``."""
        return np.array([[getattr(self, name) for name in NAMES]])

    def optimum(self, flops: float, operations: float = OPERATIONS) -> tuple[float, float]:
        """N and D of the lowest loss at ``flops`` = operations * N * D (eq. 4).

        NaN where an exponent or a factor is not positive: then there is no optimum.
        """
        found = optima(self.row(), flops, operations)[0]
        return float(found[0]), float(found[1])


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A law, how well it fits, and what else the runs would have allowed.

    ``residuals`` (R,) log of measured over fitted loss; ``draws`` (M,5) laws of redrawn runs.
    """

    law: Law
    residuals: Array
    draws: Array

    def interval(self, of: Callable[[Array], Array]) -> tuple[float, float]:
        """The 95 % interval of a figure; ``of`` takes laws (M,5) and returns their figures (M,).

        Laws for which it does not exist (NaN) are left out; NaN when it exists for none.
        """
        values = of(self.draws)
        values = values[np.isfinite(values)]
        if not len(values):
            return float("nan"), float("nan")
        low, high = np.quantile(values, (0.025, 0.975))
        return float(low), float(high)

    def parameters(self) -> dict[str, tuple[float, tuple[float, float]]]:
        """Every parameter with its interval."""
        return {
            name: (getattr(self.law, name), self.interval(lambda rows, i=i: rows[:, i]))  # type: ignore[misc]
            for i, name in enumerate(NAMES)
        }

    def prediction(
        self, parameters: float, tokens: float, *, seed: int = 0
    ) -> tuple[float, tuple[float, float]]:
        """The loss of a run not fitted, with the interval in which *that run* should fall.

        The spread is that of the redrawn laws, times a redrawn residual: a run scatters about
        its law.  Residuals are widened by sqrt(R / (R - 5)), since the law was bent towards them.
        """
        runs = len(self.residuals)
        wider = (runs / max(runs - len(NAMES), 1)) ** 0.5
        generator = np.random.default_rng(seed)

        def scattered(rows: Array) -> Array:
            noise = generator.choice(self.residuals, len(rows)) * wider
            means = _losses(rows, np.array([parameters]), np.array([tokens]))[:, 0]
            values: Array = means * np.exp(noise)
            return values

        return self.law.loss(parameters, tokens), self.interval(scattered)

    def without_optimum(self) -> float:
        """Share of the redrawn laws that have no compute-optimal size."""
        return float(np.isnan(optima(self.draws, 1.0)[:, 0]).mean())


def fit_law(
    parameters: Sequence[float],
    tokens: Sequence[float],
    losses: Sequence[float],
    *,
    draws: int = 500,
    seed: int = 0,
) -> Fit:
    """The law of these runs, with ``draws`` redrawn sets of runs for intervals.

    Raises ValueError for fewer than ``FEWEST_RUNS`` runs, for values that are not positive and
    finite, and when all runs are of one size or of one length: then nothing tells them apart.
    """
    n, d, loss = (np.asarray(values, dtype=np.float64) for values in (parameters, tokens, losses))
    _check(n, d, loss)
    solver = _Solver(n, d, loss)
    best = solver.solve(solver.starts(), np.ones((1, len(n))), keep=4)
    law = solver.laws(best[:1])
    fitted = _losses(law, n, d)[0]
    return Fit(
        law=Law(**dict(zip(NAMES, law[0].tolist(), strict=True))),
        residuals=np.log(loss / fitted),
        draws=solver.laws(solver.redrawn(best, draws, seed)),
    )


def optima(laws: Array, flops: float, operations: float = OPERATIONS) -> Array:
    """N and D that laws (M,5) want for ``flops`` (eq. 4): (M,2), NaN where there is no optimum.

    N = G (C/6)^(beta/(alpha+beta)), D = (C/6)/N, G = (alpha A / beta B)^(1/(alpha+beta)).
    """
    _, a, b, alpha, beta = laws.T
    sound = (a > 0) & (b > 0) & (alpha > 0) & (beta > 0)
    with np.errstate(all="ignore"):
        logs = np.log(alpha * a) - np.log(beta * b) + beta * np.log(flops / operations)
        size = np.exp(np.where(sound, logs / (alpha + beta), np.nan))
        return np.stack([size, flops / operations / size], axis=1)


def _losses(laws: Array, n: Array, d: Array) -> Array:
    """laws (M,5), n and d (R,) -> losses (M,R)"""
    e, a, b, alpha, beta = (column[:, None] for column in laws.T)
    found: Array = e + a * n**-alpha + b * d**-beta
    return found


def _check(n: Array, d: Array, loss: Array) -> None:
    if not len(n) == len(d) == len(loss):
        raise ValueError("parameters, tokens and losses differ in number")
    if len(n) < FEWEST_RUNS:
        raise ValueError(f"{len(n)} runs cannot fix five parameters: {FEWEST_RUNS} at least")
    for name, values in (("parameters", n), ("tokens", d), ("losses", loss)):
        if not (np.isfinite(values) & (values > 0)).all():
            raise ValueError(f"{name} must be positive and finite")
    for name, values in (("size", n), ("length", d)):
        if len(np.unique(values)) < 2:
            raise ValueError(f"all runs have one {name}, so its influence cannot be seen")


class _Solver:
    """Fits for one set of runs; rows of parameters are (log E, log a, log b, alpha, beta).

    Inside, log N and log D are counted from their means, so that a factor and its exponent are
    nearly independent of each other: a = A / N0^alpha, b = B / D0^beta.
    """

    def __init__(self, n: Array, d: Array, loss: Array) -> None:
        self.target = np.log(loss)
        self.centre = np.array([np.log(n).mean(), np.log(d).mean()])
        self.x, self.y = np.log(n) - self.centre[0], np.log(d) - self.centre[1]

    def starts(self) -> Array:
        """The grid of appendix D.3, (S,5)."""
        rows = np.array(list(itertools.product(*GRID)))
        rows[:, 1:3] -= rows[:, 3:] * self.centre
        return rows

    def laws(self, rows: Array) -> Array:
        """Rows as laws (M,5) in the order of ``NAMES``."""
        logs = rows.copy()
        logs[:, 1:3] += rows[:, 3:] * self.centre
        logs[:, :3] = np.exp(logs[:, :3])
        return logs

    def redrawn(self, best: Array, draws: int, seed: int) -> Array:
        """A fit for each of ``draws`` sets of R runs drawn with repetition, from ``best`` on.

        Sets with runs of fewer than two sizes or lengths are drawn again.
        """
        generator = np.random.default_rng(seed)
        runs = len(self.target)
        weights = np.zeros((draws, runs))
        for row in weights:
            while not row.any() or np.ptp(self.x[row > 0]) == 0 or np.ptp(self.y[row > 0]) == 0:
                row[:] = np.bincount(generator.integers(0, runs, runs), minlength=runs)
        solved = self.solve(
            np.tile(best, (draws, 1)), np.repeat(weights, len(best), axis=0), screen=False
        ).reshape(draws, len(best), -1)
        costs = np.stack(
            [self._cost(solved[:, i], weights)[0] for i in range(len(best))], axis=1
        )  # (draws, starts)
        chosen: Array = solved[np.arange(draws), costs.argmin(axis=1)]
        return chosen

    def solve(self, starts: Array, weights: Array, *, screen: bool = True, keep: int = 4) -> Array:
        """Minima from ``starts`` (S,5) under weights (S or 1,R); the best first when screened.

        Screening walks a few steps from every start and goes on from the best 32 only.
        """
        if not screen:
            return self._descend(starts, weights, 120)
        rows = self._descend(starts, weights, 25)
        rows = rows[np.argsort(self._cost(rows, weights)[0], kind="stable")[:32]]
        rows = self._descend(rows, weights, 600)
        return rows[np.argsort(self._cost(rows, weights)[0], kind="stable")[:keep]]

    def _descend(self, rows: Array, weights: Array, steps: int) -> Array:
        """Levenberg-Marquardt with Huber weights, each row with its own damping; never uphill."""
        rows, damping = rows.copy(), np.full(len(rows), 1e-2)
        cost, gradient, curvature = self._cost(rows, weights)
        for _ in range(steps):
            scale = np.einsum("mii->mi", curvature)
            damped = curvature + (damping[:, None] * scale + 1e-15)[:, :, None] * np.eye(5)
            step = np.linalg.solve(damped, gradient[:, :, None])[:, :, 0]
            tried = rows - np.clip(step, -3.0, 3.0)
            new_cost, new_gradient, new_curvature = self._cost(tried, weights)
            better = new_cost < cost
            rows[better], cost[better] = tried[better], new_cost[better]
            gradient[better], curvature[better] = new_gradient[better], new_curvature[better]
            damping = np.clip(np.where(better, damping / 4, damping * 3), 1e-12, 1e6)
        return rows

    def _cost(self, rows: Array, weights: Array) -> tuple[Array, Array, Array]:
        """Summed Huber loss (M,), its gradient (M,5), and J'WJ (M,5,5)."""
        e, a, b, alpha, beta = (column[:, None] for column in rows.T)
        terms = np.stack(
            [np.broadcast_to(e, (len(rows), len(self.x))), a - alpha * self.x, b - beta * self.y]
        )  # (3,M,R)
        top = terms.max(axis=0)
        shares = np.exp(terms - top)
        total = shares.sum(axis=0)
        shares /= total
        residual = top + np.log(total) - self.target  # (M,R)
        size = np.abs(residual)
        huber = np.where(size <= DELTA, 0.5 * residual**2, DELTA * (size - 0.5 * DELTA))
        slopes = np.stack(
            [shares[0], shares[1], shares[2], -self.x * shares[1], -self.y * shares[2]], axis=-1
        )  # (M,R,5)
        weight = weights * np.minimum(1.0, DELTA / np.maximum(size, 1e-300))
        weighted = slopes * weight[:, :, None]
        gradient = np.einsum("mri,mr->mi", weighted, residual)
        return (weights * huber).sum(axis=1), gradient, np.matmul(weighted.mT, slopes)
