"""A step's number in, its batch out: drawn by the weights as they are, judged, and kept on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fledge.core.errors import FledgeError
from fledge.core.files import value_digest
from fledge.core.protocols import Progress
from fledge.engine.handover import LiveEngine
from fledge.model.decoder import Decoder
from fledge.train.batch import Batch
from fledge.train.device import choose_micro_tokens
from fledge.tune.branching import LaidOut, lay_out
from fledge.tune.credit import credit_groups, credit_tokens, token_weights
from fledge.tune.critic import score_values
from fledge.tune.experience import Experience, Floats
from fledge.tune.judging import Judge, Judged
from fledge.tune.losses.advantages import has_signal, overlong_penalty
from fledge.tune.losses.kl import adapted_weight
from fledge.tune.losses.policy import kl_estimate
from fledge.tune.policy_log_probs import score_batch
from fledge.tune.prompts import PromptSet, PromptStream
from fledge.tune.reinforce_config import GrpoConfig, PpoConfig, ReinforceConfig
from fledge.tune.rollouts import Answered, Roller
from fledge.tune.verifiers import distinct_share


@dataclass(frozen=True, kw_only=True)
class Players:
    """Who has a part in a rollout."""

    model: Decoder
    reference: Decoder | None
    """The model as it was, where KL to it is measured."""
    live: LiveEngine
    roller: Roller
    judge: Judge


class RolloutBatches:
    """``Batches`` that depend on the weights: rollout r serves the steps r·U to (r+1)·U - 1.

    It is drawn when the first of them is asked for, and written whole before it is learnt; a run
    that was killed reads it again.
    """

    def __init__(
        self,
        config: ReinforceConfig,
        players: Players,
        prompts: PromptSet,
        folder: Path,
        progress: Progress,
    ) -> None:
        self._config, self._players, self._prompts = config, players, prompts
        self._stream = PromptStream(prompts.trained, config.seed)
        self._folder, self._progress = folder, progress
        self._latest: tuple[int, Experience] | None = None
        self._seen: list[dict[str, float]] = []
        self._warned = False
        self.step = -1
        """The latest step asked for."""

    def fingerprint(self) -> str:
        """Names the prompts and their order."""
        return value_digest([self._prompts.digest, self._config.seed, self._config.batch_rows])

    def __getitem__(self, step: int) -> Batch:
        """The batch of ``step``."""
        config, self.step = self._config, step
        number, update = divmod(step, config.updates)
        experience = self.experience(number)
        part = self._part(number, update, len(experience.lengths))
        weights = token_weights(experience, config)
        if not any(weights[self._tokens(experience, answer)].any() for answer in part):
            raise FledgeError(
                f"rollout {number + 1}: all {len(part)} answers were cut off, none is learnt",
                remedy="raise max_new_tokens, or set mask_truncated = false",
            )
        return self._laid(experience, part, weights).batch

    def experience(self, number: int) -> Experience:
        """Rollout ``number``: from disk, or drawn now."""
        if self._latest is None or self._latest[0] != number:
            found = Experience.load(self._path(number)) or self._draw(number)
            self._latest = number, found
            self._seen.append(found.facts)
            self._check_signal(number, found)
        return self._latest[1]

    def figures(self) -> dict[str, float]:
        """Means over the rollouts since it was last asked."""
        rows, self._seen = self._seen, []
        names = rows[0] if rows else {}
        return {name: sum(row[name] for row in rows) / len(rows) for name in names}

    def facts(self, number: int) -> Mapping[str, float] | None:
        """What is known of a rollout that is on disk."""
        found = Experience.load(self._path(number))
        return None if found is None else found.facts

    @property
    def _size(self) -> int:
        """Prompts of a rollout."""
        return self._config.batch_rows // self._config.group

    def _path(self, number: int) -> Path:
        return self._folder / f"step-{number * self._config.updates + 1:06d}"

    def _laid(self, experience: Experience, answers: Sequence[int], weights: Floats) -> LaidOut:
        """Answers in rows, each a micro-batch."""
        model, longest = self._players.model, int(experience.lengths.max())
        room = choose_micro_tokens(self._config, longest, model.device, model.compute_dtype)
        return lay_out(experience, answers, weights, model.config.pad_id or 0, room)

    def _tokens(self, experience: Experience, answer: int) -> slice:
        start = int(experience.starts[answer])
        return slice(start, start + int(experience.lengths[answer]))

    def _part(self, number: int, update: int, answers: int) -> list[int]:
        """The answers that an update learns: shuffled anew in each pass, cut into parts."""
        turn, part = divmod(update, self._config.parts)
        if self._config.parts == 1:
            return list(range(answers))
        generator = np.random.Generator(np.random.PCG64([self._config.seed, 3, number, turn]))
        order = generator.permutation(answers)
        return [int(one) for one in np.array_split(order, self._config.parts)[part]]

    def _draw(self, number: int) -> Experience:
        """Draw, judge, score and credit a rollout, and write it."""
        config = self._config
        answers, judged = self._answers(number)
        experience = Experience.of(answers, [one.reward for one in judged])
        weight = self._kl_weight(number)
        experience.signals["kl_weight"] = np.full(len(experience.ids), weight, np.float32)
        self._score(experience)
        if isinstance(config, PpoConfig):
            credit_tokens(experience, config, weight)
        else:
            assert isinstance(config, GrpoConfig)
            credit_groups(experience, config, config.advantage, weight)
        experience.facts = self._summary(experience, answers, judged, weight)
        experience.save(self._path(number), self._rows(experience, answers, judged))
        return experience

    def _answers(self, number: int) -> tuple[list[Answered], list[Judged]]:
        """The answers and what they earned; with ``redraws`` groups that teach come first."""
        config, players = self._config, self._players
        redraws = config.redraws if isinstance(config, GrpoConfig) else 0
        engine = players.live.engine()
        kept: list[tuple[Answered, Judged]] = []
        dull: list[tuple[Answered, Judged]] = []
        for attempt in range(redraws + 1):
            start = (number * (redraws + 1) + attempt) * self._size
            prompts = self._stream.take(start, self._size)
            key = (config.seed, number, attempt)
            answers = players.roller.roll(engine, prompts, config.group, key)
            judged = [self._judge(answer) for answer in answers]
            pairs = list(zip(answers, judged, strict=True))
            rewards = torch.tensor([one.reward for one in judged]).view(-1, config.group)
            for place, teaches in enumerate(has_signal(rewards).tolist()):
                group = pairs[place * config.group : (place + 1) * config.group]
                (kept if teaches else dull).extend(group)
            if len(kept) >= config.batch_rows:
                break
        chosen = (kept + dull)[: config.batch_rows] if redraws else pairs
        return [answer for answer, _ in chosen], [one for _, one in chosen]

    def _judge(self, answer: Answered) -> Judged:
        """What an answer earns, its length considered."""
        config = self._config
        judged = self._players.judge.judge(answer.prompt, answer.said, answer.text)
        penalty = overlong_penalty(answer.tokens, config.max_new_tokens, config.overlong_margin)
        if not penalty:
            return judged
        return Judged(
            reward=judged.reward + penalty,
            parts={**judged.parts, "overlong": penalty},
            reasons={**judged.reasons, "overlong": f"{answer.tokens} tokens"},
            failures=judged.failures,
        )

    def _kl_weight(self, number: int) -> float:
        """The weight of KL in a rollout: fixed, or led by what the one before measured."""
        config = self._config
        before = self.facts(number - 1) if config.kl_target and number else None
        if before is None or config.kl_target is None:
            return config.kl_weight
        return adapted_weight(
            before["kl_weight"],
            before["kl_an_answer"],
            config.kl_target,
            config.batch_rows,
            config.kl_horizon,
        )

    def _score(self, experience: Experience) -> None:
        """What the trainer's own forward passes say of each drawn token."""
        config, players = self._config, self._players
        ppo = isinstance(config, PpoConfig)
        everything = range(len(experience.lengths))
        laid = self._laid(experience, everything, experience.learnt.astype(np.float32))
        model = players.model
        charged = bool(config.kl_weight and config.kl_in == "reward") or config.kl_target
        if config.updates > 1 or charged or ppo:
            scores = score_batch(model, laid.batch, config.temperature)
            experience.signals["old"] = laid.flat(scores, experience)
        else:  # learnt once, at once: the update's own forward pass says it
            experience.signals["old"] = np.full(len(experience.ids), np.nan, np.float32)
        if players.reference is not None:
            scores = score_batch(players.reference, laid.batch, config.temperature)
            experience.signals["reference"] = laid.flat(scores, experience)
        if ppo:
            values = score_values(model, laid.batch)
            experience.signals["value"] = laid.flat(values, experience)

    def _summary(
        self,
        experience: Experience,
        answers: Sequence[Answered],
        judged: Sequence[Judged],
        weight: float,
    ) -> dict[str, float]:
        """Figures of a rollout: also what betrays that the reward is gamed."""
        rewards = torch.from_numpy(experience.rewards)
        group = self._config.group if self._config.group > 1 else len(rewards)
        facts = {
            "reward": float(rewards.mean()),
            "reward_spread": float(rewards.std()) if len(rewards) > 1 else 0.0,
            "without_signal": 1.0 - float(has_signal(rewards.view(-1, group)).float().mean()),
            "length": float(experience.drawn_tokens().mean()),
            "truncated": float(experience.truncated.mean()),
            "distinct_3grams": distinct_tokens(answers),
            "failed_verifiers": float(sum(one.failures for one in judged)),
            "tool_rounds": sum(one.rounds for one in answers) / len(answers),
            "broken_calls": float(sum(one.broken for one in answers)),
            "kl_weight": weight,
        }
        for name in judged[0].parts:
            facts[f"score_{name}"] = sum(one.parts.get(name, 0.0) for one in judged) / len(judged)
        if self._config.kl_target:
            signals = experience.signals
            difference = torch.from_numpy(signals["old"] - signals["reference"])
            found = kl_estimate(difference, "k3").numpy() * experience.learnt
            facts["kl_an_answer"] = float(found.sum() / len(answers))
        return facts

    def _rows(
        self, experience: Experience, answers: Sequence[Answered], judged: Sequence[Judged]
    ) -> list[dict[str, Any]]:
        """A rollout for people."""
        starts, advantages = experience.starts, experience.signals["advantage"]
        rows = []
        for place, (answer, one) in enumerate(zip(answers, judged, strict=True)):
            begin = int(starts[place])
            learnt = experience.learnt[begin : begin + int(experience.lengths[place])]
            credited = advantages[begin : begin + len(learnt)][learnt]
            rows.append(
                {
                    **shown(answer, one),
                    "advantage": round(float(credited.mean()), 6) if len(credited) else 0.0,
                }
            )
        return rows

    def _check_signal(self, number: int, experience: Experience) -> None:
        """Say it once when little is to be learnt; raise FledgeError when it is nothing at all."""
        facts = experience.facts
        if facts["without_signal"] >= 0.5 and not self._warned:
            self._warned = True
            self._progress.say(
                f"note: in rollout {number + 1}, {facts['without_signal']:.0%} of the prompts give "
                f"no signal: all their answers get the same reward (mean {facts['reward']:.3g})"
            )
        if facts["without_signal"] < 1.0:
            return
        if number + 1 < self._config.give_up_after:
            return
        earlier = (self.facts(one) for one in range(number))
        if all(one is None or one["without_signal"] >= 1.0 for one in earlier):
            raise FledgeError(
                f"no signal in any of {number + 1} rollouts: to each prompt all answers get the "
                f"same reward (mean {facts['reward']:.3g}, {facts['failed_verifiers']:.0f} "
                f"verifiers failed); {self._path(number).with_suffix('.jsonl')} says why",
                remedy="take easier prompts, a better model, another verifier or a greater group",
            )


def shown(answer: Answered, judged: Judged) -> dict[str, Any]:
    """An answer and what it earned, for people."""
    return {
        "prompt": answer.prompt.number,
        "sample": answer.sample,
        "messages": [message.to_openai() for message in answer.prompt.messages],
        "said": [message.to_openai() for message in answer.said],
        "answer": answer.text,
        "tokens": answer.tokens,
        "finish": answer.finish,
        "reward": judged.reward,
        "scores": dict(judged.parts),
        "reasons": dict(judged.reasons),
    }


def distinct_tokens(answers: Sequence[Answered]) -> float:
    """Share of each answer's groups of three drawn tokens that are different, on average."""
    shares = [
        distinct_share([t for t, own in zip(one.ids, one.learnt, strict=True) if own], 3)
        for one in answers
    ]
    return sum(shares) / len(shares)
