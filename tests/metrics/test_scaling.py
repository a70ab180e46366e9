"""The scaling law: known parameters come back, with honest intervals, at the lowest cost."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fledge.metrics.scaling import DELTA, Law, _Solver, fit_law, optima

CHINCHILLA = Law(E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28)
SIZES = (0.3e6, 0.9e6, 2e6, 4e6, 8e6, 16e6)
LENGTHS = (0.5e6, 1e6, 2e6, 4e6, 8e6)

Array = NDArray[np.float64]


def ladder(
    law: Law, noise: float = 0.0, seed: int = 0, sizes: tuple[float, ...] = SIZES
) -> tuple[Array, Array, Array]:
    n, d = (grid.ravel() for grid in np.meshgrid(sizes, LENGTHS))
    losses = np.array([law.loss(a, b) for a, b in zip(n, d, strict=True)])
    return n, d, losses * np.exp(np.random.default_rng(seed).normal(0, noise, len(n)))


@settings(max_examples=4, deadline=None)
@given(
    e=st.floats(0.5, 3.0),
    alpha=st.floats(0.2, 0.7),
    beta=st.floats(0.2, 0.7),
    parts=st.tuples(st.floats(0.3, 2.0), st.floats(0.3, 2.0)),
)
def test_a_law_without_noise_comes_back(
    e: float, alpha: float, beta: float, parts: tuple[float, float]
) -> None:
    law = Law(E=e, A=parts[0] * 2e6**alpha, B=parts[1] * 2e6**beta, alpha=alpha, beta=beta)
    found = fit_law(*ladder(law), draws=50).law
    for name in ("E", "alpha", "beta"):
        assert getattr(found, name) == pytest.approx(getattr(law, name), rel=0.02)
    assert found.loss(64e6, 32e6) == pytest.approx(law.loss(64e6, 32e6), rel=2e-3)


@pytest.mark.slow
def test_intervals_hold_what_is_true_about_as_often_as_they_say() -> None:
    inside, predicted = [], []
    for seed in range(8):
        fit = fit_law(*ladder(CHINCHILLA, 0.003, seed), draws=200, seed=seed)
        for name, (_, (low, high)) in fit.parameters().items():
            inside.append(low <= getattr(CHINCHILLA, name) <= high)
        fresh = CHINCHILLA.loss(48e6, 16e6) * math.exp(
            np.random.default_rng(1000 + seed).normal(0, 0.003)
        )
        _, (low, high) = fit.prediction(48e6, 16e6)
        predicted.append(low <= fresh <= high)
        assert high - low < 0.3, "an interval that says nothing is easily right"
    assert np.mean(inside) >= 0.8
    assert np.mean(predicted) >= 0.75


@pytest.mark.parametrize("seed", [1, 2])
def test_the_minimum_is_that_of_scipy(seed: int) -> None:
    optimize = pytest.importorskip("scipy.optimize")
    special = pytest.importorskip("scipy.special")
    n, d, losses = ladder(CHINCHILLA, 0.005, seed)
    solver = _Solver(n, d, losses)

    def cost(p: Array) -> float:
        parts = [np.full_like(n, p[0]), p[1] - p[3] * solver.x, p[2] - p[4] * solver.y]
        return float(special_huber(special.logsumexp(parts, axis=0) - np.log(losses)).sum())

    def special_huber(residual: Array) -> Array:
        values: Array = special.huber(DELTA, residual)
        return values

    starts = ([0.5, 0.0, 0.0, 0.4, 0.3], [0.0, 0.5, 0.5, 0.5, 0.5], [-1.0, 0.5, 0.5, 0.2, 0.2])
    best = min(
        (optimize.minimize(cost, start, method="L-BFGS-B") for start in starts),
        key=lambda found: found.fun,
    )
    loose = {"maxiter": 20_000, "maxfev": 20_000, "xatol": 1e-9, "fatol": 1e-14}
    best = optimize.minimize(cost, best.x, method="Nelder-Mead", options=loose)
    ours = solver.solve(solver.starts(), np.ones((1, len(n))))[0]
    assert cost(ours) <= best.fun * (1 + 1e-6)


def test_the_gradient_is_that_of_the_cost() -> None:
    solver = _Solver(*ladder(CHINCHILLA, 0.01))
    weights = np.arange(1.0, 31.0)[None]
    row = np.array([[0.4, 0.3, -0.2, 0.5, 0.3]])
    _, gradient, _ = solver._cost(row, weights)
    for i in range(5):
        step = np.zeros((1, 5))
        step[0, i] = 1e-6
        up, down = (solver._cost(row + sign * step, weights)[0][0] for sign in (1, -1))
        assert gradient[0, i] == pytest.approx((up - down) / 2e-6, rel=1e-4)


def test_one_spoilt_run_hardly_moves_the_law() -> None:
    n, d, losses = ladder(CHINCHILLA, 0.001)
    losses[7] *= 1.3
    found = fit_law(n, d, losses, draws=50)
    assert found.law.loss(48e6, 16e6) == pytest.approx(CHINCHILLA.loss(48e6, 16e6), rel=0.01)
    assert int(np.abs(found.residuals).argmax()) == 7


@pytest.mark.parametrize("flops", [1e12, 1e15, 1e20])
def test_the_optimum_is_the_lowest_point_of_its_isoflop_curve(flops: float) -> None:
    size, tokens = CHINCHILLA.optimum(flops)
    assert 6 * size * tokens == pytest.approx(flops)
    grid = size * np.geomspace(0.2, 5, 2001)
    losses = [CHINCHILLA.loss(n, flops / 6 / n) for n in grid]
    assert grid[int(np.argmin(losses))] == pytest.approx(size, rel=2e-3)


def test_laws_without_an_optimum_say_so() -> None:
    rows = np.array([[1.0, 400.0, 400.0, -0.1, 0.3], [1.0, 400.0, 400.0, 0.3, 0.3]])
    found = optima(rows, 1e15)
    assert np.isnan(found[0]).all()
    assert np.isfinite(found[1]).all()
    assert math.isnan(Law(E=1, A=0.0, B=1, alpha=0.3, beta=0.3).optimum(1e15)[0])


def test_a_ladder_that_is_too_small_gives_wide_intervals() -> None:
    wide = fit_law(*ladder(CHINCHILLA, 0.01, 3, sizes=(1e6, 1.2e6)), draws=100)
    good = fit_law(*ladder(CHINCHILLA, 0.01, 3), draws=100)

    def width(fit: object) -> float:
        low, high = fit.parameters()["alpha"][1]  # type: ignore[attr-defined]
        return float(high - low)

    assert width(wide) > 4 * width(good)


def test_equal_input_gives_equal_output() -> None:
    runs = ladder(CHINCHILLA, 0.003)
    first, second = (fit_law(*runs, draws=60, seed=5) for _ in range(2))
    assert first.law == second.law
    assert np.array_equal(first.draws, second.draws)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda n, d, loss: (n[:5], d[:5], loss[:5]), "5 runs cannot fix five"),
        (lambda n, d, loss: (n, d, loss[:-1]), "differ in number"),
        (lambda n, d, loss: (n, d, np.where(loss > loss.min(), loss, np.nan)), "losses must be"),
        (lambda n, d, loss: (n, -d, loss), "tokens must be"),
        (lambda n, d, loss: (np.full_like(n, 1e6), d, loss), "one size"),
        (lambda n, d, loss: (n, np.full_like(d, 1e6), loss), "one length"),
    ],
)
def test_what_cannot_be_fitted_is_refused(change: object, message: str) -> None:
    runs = change(*ladder(CHINCHILLA))  # type: ignore[operator]
    with pytest.raises(ValueError, match=message):
        fit_law(*runs)
