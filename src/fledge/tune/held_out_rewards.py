"""Held-out prompts in, figures of the model as it stands out; says when training must stop."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from fledge.core.files import read_json, replacing, write_json
from fledge.model.decoder import Decoder
from fledge.train.device import choose_micro_tokens
from fledge.tune.branching import lay_out
from fledge.tune.critic import APART
from fledge.tune.experience import Experience
from fledge.tune.losses.policy import kl_estimate
from fledge.tune.policy_log_probs import score_batch
from fledge.tune.prompts import Prompt
from fledge.tune.reinforce_batches import Players, RolloutBatches, distinct_tokens
from fledge.tune.reinforce_config import ReinforceConfig

MARGIN = 0.01
"""A held-out reward so far below the best counts as fallen."""


class Overfitted(Exception):
    """Held-out reward falls while training reward rises: training is over."""

    def __init__(self, step: int, best: int) -> None:
        super().__init__(f"the best was at step {best} of {step}")
        self.step, self.best = step, best


def held_out_figures(
    config: ReinforceConfig, players: Players, prompts: Sequence[Prompt]
) -> dict[str, float]:
    """One answer to each prompt, drawn with the same seeds each time; nothing without prompts."""
    if not prompts:
        return {}
    engine = players.live.engine()
    answers = players.roller.roll(engine, prompts, 1, (config.seed, -1, 0))
    judged = [players.judge.judge(one.prompt, one.said, one.text) for one in answers]
    experience = Experience.of(answers, [one.reward for one in judged])
    figures = {
        "reward": float(experience.rewards.mean()),
        "length": float(experience.drawn_tokens().mean()),
        "truncated": float(experience.truncated.mean()),
        "distinct_3grams": distinct_tokens(answers),
        "failed_verifiers": float(sum(one.failures for one in judged)),
    }
    if players.reference is not None:
        figures["kl"] = _kl(config, players, experience)
    return figures


def _kl(config: ReinforceConfig, players: Players, experience: Experience) -> float:
    """KL to the reference, nats a token, as the drawn tokens tell (k3)."""
    assert players.reference is not None
    learnt = experience.learnt.astype(np.float32)
    fill = players.model.config.pad_id or 0
    device, dtype = players.model.device, players.model.compute_dtype
    players.reference.compute_dtype = dtype  # else rounding would pass for a difference
    room = choose_micro_tokens(config, int(experience.lengths.max()), device, dtype)
    batch = lay_out(experience, range(len(experience.lengths)), learnt, fill, room).batch
    own, other = (
        score_batch(model, batch, config.temperature)
        for model in (players.model, players.reference)
    )
    found = kl_estimate(own - other, "k3") * batch.weights
    return float(found.sum() / batch.weights.sum())


def overfits(rewards: Sequence[tuple[float, float]], patience: int) -> bool:
    """Whether to stop after validations of (training reward, held-out reward), in order.

    The last ``patience`` held-out rewards all lie below the best one before them, by ``MARGIN``
    of its size, while training reward has risen since that one.  Pure.
    """
    if not patience or len(rewards) <= patience:
        return False
    held = [reward for _, reward in rewards]
    best = max(range(len(held)), key=held.__getitem__)
    fallen = held[best] - MARGIN * max(abs(held[best]), MARGIN)
    late = len(held) - 1 - best >= patience and all(one < fallen for one in held[-patience:])
    return late and rewards[-1][0] > rewards[best][0]


class HeldOut:
    """Validates during training, keeps the best weights, and stops it when it overfits."""

    def __init__(
        self,
        config: ReinforceConfig,
        players: Players,
        batches: RolloutBatches,
        prompts: Sequence[Prompt],
        state: Path,
    ) -> None:
        self._config, self._players, self._batches = config, players, batches
        self._prompts = prompts
        self._history, self._best = state / "held_out.json", state / "best.pt"

    def __call__(self) -> dict[str, float]:
        """Figures of the model as it stands; raises Overfitted."""
        figures = held_out_figures(self._config, self._players, self._prompts)
        if not figures or not self._config.patience:
            return figures
        step = self._batches.step + 1
        training = self._batches.experience(self._batches.step // self._config.updates)
        # A run that was killed comes to steps again that are noted already.
        earlier = [row for row in self._rows() if row["step"] < step]
        rows = [
            *earlier,
            {"step": step, "training": training.facts["reward"], "held_out": figures["reward"]},
        ]
        if all(row["held_out"] < figures["reward"] for row in earlier):
            self._keep()
        write_json(self._history, rows)
        pairs = [(row["training"], row["held_out"]) for row in rows]
        if overfits(pairs, self._config.patience):
            best = max(rows, key=lambda row: row["held_out"])
            raise Overfitted(step, int(best["step"]))
        return figures

    def restore_best(self) -> None:
        """Put the best weights into the model."""
        weights = torch.load(self._best, map_location="cpu", weights_only=True)
        self._players.model.load_state_dict(weights, strict=False)

    def _rows(self) -> list[dict[str, float]]:
        return list(read_json(self._history)) if self._history.is_file() else []

    def _keep(self) -> None:
        weights = own_weights(self._players.model)
        with replacing(self._best) as temporary:
            torch.save(weights, temporary)


def own_weights(model: Decoder) -> dict[str, torch.Tensor]:
    """The weights of the model itself, its critic left out."""
    return {k: v for k, v in model.state_dict().items() if not k.startswith(APART)}
