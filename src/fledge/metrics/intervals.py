"""Counts or values in, 95 % intervals out."""

from __future__ import annotations

import math
from collections.abc import Sequence

Z95 = 1.959963984540054
"""Standard deviations that hold 95 % of a normal distribution."""


def wilson(successes: float, trials: int) -> tuple[float, float]:
    """The 95 % score interval of a share (Wilson 1927); (0, 1) when nothing was tried.

    ``successes`` may be a fraction, where trials are the mean of several.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes in {trials} trials")
    if trials == 0:
        return 0.0, 1.0
    share = successes / trials
    spread = Z95 * Z95 / trials
    centre = (share + spread / 2) / (1 + spread)
    half = Z95 / (1 + spread) * math.sqrt(share * (1 - share) / trials + spread / (4 * trials))
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == trials else min(1.0, centre + half)
    return low, high


def clustered(
    successes: Sequence[float], trials: Sequence[int], *, draws: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """The 95 % interval of a share whose trials come in clusters that succeed or fail together.

    ``successes`` and ``trials`` of each cluster.  Whole clusters are redrawn (cluster bootstrap);
    where that shows no spread (all succeeded, say) it is Wilson's interval with as many trials as
    clusters, which is the widest the clusters allow.
    """
    clusters = len(trials)
    share = sum(successes) / sum(trials) if clusters else 0.0
    if clusters > 1:
        low, high = bootstrap(successes, trials, draws=draws, seed=seed)
        if low < high:
            return low, high
    return wilson(share * clusters, clusters)


def bootstrap(
    values: Sequence[float],
    weights: Sequence[float] | None = None,
    *,
    draws: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """The 95 % percentile interval (Efron 1979) of sum(values) / sum(weights), items redrawn.

    Without ``weights`` that is the mean.  One value alone gives an interval of no width.
    Raises ValueError when there are no values.
    """
    import numpy as np

    if not values:
        raise ValueError("an interval needs at least one value")
    over = [1.0] * len(values) if weights is None else weights
    pairs = np.array([values, over], dtype=np.float64)  # (2,N)
    generator = np.random.default_rng(seed)
    ratios = np.empty(draws)
    for i in range(draws):
        picked = pairs[:, generator.integers(0, len(values), len(values))].sum(axis=1)
        ratios[i] = picked[0] / picked[1]
    low, high = np.quantile(ratios, (0.025, 0.975))
    return float(low), float(high)
