"""A batch of drawn tokens in, the clipped loss out; what it saw on the way is tallied."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fledge.model.decoder import Decoder
from fledge.train.batch import Batch
from fledge.train.objective import Objective
from fledge.tune.branching import CHANNELS
from fledge.tune.critic import values_of
from fledge.tune.losses.policy import (
    is_clipped,
    kl_estimate,
    policy_loss,
    summed_by_answer,
    value_loss,
)
from fledge.tune.policy_log_probs import target_logprobs
from fledge.tune.reinforce_config import GrpoConfig, PpoConfig, ReinforceConfig


class Tally:
    """Sums over tokens since it was last read."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._tokens: dict[str, int] = {}

    def add(self, **values: Tensor) -> None:
        """Numbers of tokens, (N) each."""
        for name, value in values.items():
            total = value.detach().double().sum()
            self._sums[name] = self._sums[name] + total if name in self._sums else total
            self._tokens[name] = self._tokens.get(name, 0) + len(value)

    def read(self) -> dict[str, float]:
        """Their means, and none from now on."""
        found = {name: float(total) / self._tokens[name] for name, total in self._sums.items()}
        self._sums, self._tokens = {}, {}
        return found


def reinforce_objective(config: ReinforceConfig, tally: Tally) -> Objective:
    """The summed loss of a micro-batch whose signals are ``CHANNELS``.

    Each drawn token: policy loss + weight x KL - bonus x entropy, and for PPO the critic's loss.
    A target whose "old" is no number was drawn from the weights as they are: its ratio is 1.
    """
    by_answer = isinstance(config, GrpoConfig) and config.ratio == "answer"
    ppo = config if isinstance(config, PpoConfig) else None

    def objective(model: Decoder, batch: Batch) -> Tensor:
        batch = batch.trimmed()
        assert batch.signals is not None
        counts = batch.weights > 0
        states = model.hidden(batch.ids, batch.segments, continues=batch.continues)[counts]  # (N,D)
        logp, entropy = target_logprobs(model, states, batch.targets[counts], config.temperature)
        signal = dict(zip(CHANNELS, batch.signals[counts].unbind(-1), strict=True))
        old = torch.where(signal["old"].isnan(), logp.detach(), signal["old"])
        log_ratio = logp - old
        if by_answer:
            log_ratio = summed_by_answer(log_ratio, batch.segments[counts])
        advantage = signal["advantage"]
        loss = policy_loss(log_ratio, advantage, config.clip_low, config.clip_high, config.clip_cap)
        difference = logp - signal["reference"]
        if config.kl_in == "loss" and config.kl_weight:
            kl = kl_estimate(difference, config.kl_estimator)
            share = (logp - old).exp() if config.kl_corrected else 1.0
            loss = loss + signal["kl_weight"] * kl * share
        if config.entropy_weight:
            loss = loss - config.entropy_weight * entropy
        if ppo is not None:
            values = values_of(model, batch, counts, states)
            missed = value_loss(values, signal["value"], signal["return"], ppo.value_clip)
            loss = loss + ppo.value_weight * missed
            tally.add(value_loss=missed)
        seen = {
            "entropy": entropy,
            "clipped": is_clipped(log_ratio, advantage, config.clip_low, config.clip_high),
            "engine_gap": (old - signal["drawn"]).abs(),
        }
        if config.kl_weight or config.watch_kl:
            seen["kl"] = kl_estimate(difference.detach(), "k3")
        tally.add(**seen)
        return (loss * batch.weights[counts]).sum()

    return objective


def counted(config: ReinforceConfig) -> Callable[[Batch], float]:
    """What the summed loss of a batch is divided by: its tokens, or its answers."""

    def count(batch: Batch) -> float:
        if config.normalise == "token":
            return float(batch.weights.sum())
        return float(batch.segments[batch.weights > 0].unique().numel())

    return count
