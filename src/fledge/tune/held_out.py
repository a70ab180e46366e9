"""Held-out pairs and what models say of them in, figures of preference out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fledge.metrics.intervals import wilson
from fledge.model.decoder import Decoder
from fledge.train.batch import Batch
from fledge.tune.groups import BETTER, Group, Values
from fledge.tune.log_probs import target_log_probs
from fledge.tune.losses.kto import kto
from fledge.tune.losses.preference import LOSSES, Pairs, nll
from fledge.tune.pair_loader import read_values
from fledge.tune.preference_config import DpoConfig

TOKENS = 4096
"""Tokens of a batch, about."""


@contextmanager
def exactly(model: Decoder) -> Iterator[None]:
    """Inside, the model computes in float32 and as for use: no dropout."""
    dtype, training = model.compute_dtype, model.training
    model.compute_dtype = torch.float32
    model.eval()
    try:
        yield
    finally:
        model.compute_dtype = dtype
        model.train(training)


def log_probs_of_groups(
    model: Decoder, groups: Sequence[Group], row: int
) -> list[tuple[Values, ...]]:
    """log p of every token that counts, in float32, group by group."""

    @torch.no_grad()
    def score(batch: Batch) -> Tensor:
        return target_log_probs(model, batch.to(model.device))

    with exactly(model):
        return read_values(groups, score, row=row, batch_rows=max(1, TOKENS // row))


def preference_figures(
    config: DpoConfig, groups: Sequence[Group], values: Sequence[tuple[Values, ...]]
) -> dict[str, float]:
    """What a model that gives ``values`` makes of ``groups``, whose signals are the reference's.

    ``loss``; means of ``reward_chosen``, ``reward_rejected``, ``margin``, ``logp_chosen``,
    ``logp_rejected`` (nats an answer), ``length_chosen``, ``length_rejected``; ``accuracy``: the
    share whose chosen answer has the higher implicit reward, a draw being half; ``prefers``: whose
    chosen answer is the likelier one a token.  Of judged answers, every good one is compared with
    every bad one.  KTO's loss is that of a drift of 0.
    """
    if not groups:
        return {}
    if any(len(group.answers) != 2 for group in groups):
        return _judged_figures(config, groups, values)
    rows = [(*value, *group.signals) for group, value in zip(groups, values, strict=True)]
    sums = np.array([[one.sum(dtype=np.float64) for one in row] for row in rows])
    lengths = np.array([[len(row[0]), len(row[1])] for row in rows])
    pairs = Pairs(*torch.from_numpy(np.concatenate([sums, lengths], axis=1)).float().unbind(1))
    return {"loss": _pair_loss(config, pairs), **_means(config, pairs)}


def interval(figures: dict[str, float], name: str, trials: int) -> dict[str, float]:
    """The 95 % interval of a share among ``figures``, under ``<name>_low`` and ``<name>_high``."""
    if name not in figures or not trials:
        return {}
    low, high = wilson(figures[name] * trials, trials)
    return {f"{name}_low": low, f"{name}_high": high}


def _pair_loss(config: DpoConfig, pairs: Pairs) -> float:
    if config.loss == "kto":
        better, worse = pairs.log_ratios
        likes = torch.arange(2 * len(better)) < len(better)
        return float(kto(torch.cat([better, worse]), likes, torch.zeros(()), config).mean())
    losses = LOSSES[config.loss].value(pairs, config) + config.sft_weight * nll(pairs)
    return float(losses.mean())


def _judged_figures(
    config: DpoConfig, groups: Sequence[Group], values: Sequence[tuple[Values, ...]]
) -> dict[str, float]:
    """The figures of answers that were judged one by one."""
    parts = [
        (mark, p.sum(dtype=np.float64), q.sum(dtype=np.float64), len(p))
        for group, value in zip(groups, values, strict=True)
        for mark, p, q in zip(group.marks, value, group.signals, strict=True)
    ]
    marks, policy, reference, lengths = np.array(parts).T
    good, rewards = marks == BETTER, config.strength * (policy - reference)
    ratios = torch.from_numpy(policy - reference).float()
    loss = kto(ratios, torch.from_numpy(good), torch.zeros(()), config)
    figures = {"loss": float(loss.mean())}
    for which, name in ((good, "chosen"), (~good, "rejected")):
        if which.any():
            figures[f"reward_{name}"] = float(rewards[which].mean())
            figures[f"logp_{name}"] = float(policy[which].mean())
            figures[f"length_{name}"] = float(lengths[which].mean())
    if good.any() and not good.all():
        figures["margin"] = figures["reward_chosen"] - figures["reward_rejected"]
        figures["accuracy"] = _wins(rewards[good], rewards[~good])
        a_token = policy / lengths
        figures["prefers"] = _wins(a_token[good], a_token[~good])
    return figures


def _wins(better: NDArray[np.float64], worse: NDArray[np.float64]) -> float:
    """Share of all comparisons that ``better`` wins, a draw being half."""
    return float(np.mean(0.5 * (np.sign(better[:, None] - worse[None]) + 1)))


def _means(config: DpoConfig, pairs: Pairs) -> dict[str, float]:
    loss = LOSSES["dpo" if config.loss == "kto" else config.loss]
    better, worse = loss.rewards(pairs, config)
    mean = pairs.divided()
    figures = {
        "reward_chosen": better,
        "reward_rejected": worse,
        "margin": better - worse,
        "accuracy": 0.5 * (torch.sign(better - worse) + 1),
        "prefers": 0.5 * (torch.sign(mean.chosen - mean.rejected) + 1),
        "logp_chosen": pairs.chosen,
        "logp_rejected": pairs.rejected,
        "length_chosen": pairs.chosen_length,
        "length_rejected": pairs.rejected_length,
    }
    return {name: float(value.double().mean()) for name, value in figures.items()}
