"""The stage ``reward``: a model and preferences in, a model that scores answers out.

With ``kind = "steps"`` it scores the steps of an answer: a process reward model (arXiv:2305.20050).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fledge.core.files import write_json
from fledge.core.protocols import Progress
from fledge.core.run import Outcome
from fledge.model.decoder import Decoder
from fledge.model.locate import find_checkpoint
from fledge.model.scorer import Scorer, save_scorer
from fledge.tokenizer.tokenizer import Tokenizer
from fledge.train.batch import Batch
from fledge.train.device import arithmetic, choose_device
from fledge.train.job import target_weight
from fledge.train.loop import Training, train
from fledge.train.objective import Objective
from fledge.train.optimizers import build_optimizers
from fledge.train.parallel import prepare
from fledge.train.pretrain import copy_tokenizer
from fledge.train.rates import peak_rates
from fledge.train.world import ALONE
from fledge.tune.gathering import Gathered
from fledge.tune.groups import Group, row_for
from fledge.tune.losses.reward import bradley_terry, step_cross_entropy
from fledge.tune.pair_loader import PairLoader
from fledge.tune.pairs import gather_pairs, side_length
from fledge.tune.preference_config import RewardConfig
from fledge.tune.segments import count_segments, paired, segment_sums
from fledge.tune.speaker import open_speaker
from fledge.tune.steps import gather_steps
from fledge.tune.verdicts import Verdicts, pair_verdicts, step_verdicts

RATES = {"muon": (0.002, 0.001), "adamw": (0.0004, 0.0004)}
"""Peak rates of the layers' matrices and of the rest, at width 256."""

EPOCHS = 1.0
"""Passes over the pairs when neither epochs nor steps are given: more only fits them by heart
(arXiv:2203.02155, C.2)."""

LEAST_ROW = 512
"""Tokens of a row at least, where the model reads so many: short pairs share it."""

MEASURED = 256
"""Held-out pairs read for a point of the curve, at most."""

CALIBRATION = "calibration.json"


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What is learnt and measured."""

    loader: PairLoader
    held_out: list[Group]
    objective: Objective
    verdicts: Verdicts


def reward(
    config: RewardConfig, base: Path, preferences: Sequence[Path], out: Path, progress: Progress
) -> Outcome:
    """Train a scorer on the model at ``base``; it goes to ``out/model``.

    Counts as of ``dpo`` (of steps: answers, not pairs).  Figures, of held-out pairs (or steps):
    ``reward.accuracy`` with its 95 % interval, ``reward.loss``, ``reward.brier``,
    ``reward.calibration_error``, ``reward.margin``; the calibration curve goes to
    ``out/calibration.json``.  Raises InputError naming what is wrong.
    """
    with arithmetic(config, choose_device(config)):
        source = find_checkpoint(base)
        speaker = open_speaker(config, source, progress, ALONE)
        scorer = Scorer.on(speaker.model)
        context = side_length(config, scorer.config.context, "reward")
        gather = gather_steps if config.kind == "steps" else gather_pairs
        material = gather(config, preferences, speaker.tokenizer, context, progress)
        lesson = _lesson(config, material, speaker.tokenizer, context)
        prepare(scorer, config, ALONE)
        position = train(_job(config, scorer, lesson, out), progress)
        _save(scorer, source, speaker.tokenizer, bool(speaker.added), out / "model")
        figures, curve = lesson.verdicts(scorer, lesson.held_out, lesson.loader.row)
        if curve:
            write_json(out / CALIBRATION, {"bins": [one._asdict() for one in curve]})
    counts = {"tokens": position.tokens, "target_tokens": position.targets, "steps": position.step}
    return Outcome(
        counts={
            **material.counts(),
            **counts,
            **position.trouble,
            "parameters": sum(weight.numel() for weight in scorer.parameters()),
        },
        figures={f"reward.{name}": value for name, value in figures.items()},
    )


def _lesson(
    config: RewardConfig, material: Gathered[Group], tokenizer: Tokenizer, context: int
) -> Lesson:
    trained, held_out, by_steps = material.trained, material.held_out, config.kind == "steps"
    if not by_steps:
        trained = [at_the_end(group, config.margins) for group in trained]
        held_out = [at_the_end(group, config.margins) for group in held_out]
    longest = context if by_steps else 2 * context
    loader = PairLoader(
        trained,
        row=row_for([*trained, *held_out], longest, min(context, LEAST_ROW)),
        batch_rows=config.batch_rows,
        seed=config.seed,
        fill=tokenizer.padding_id,
        epochs=config.epochs or (None if config.steps else EPOCHS),
        scored=True,
    )
    return Lesson(
        loader=loader,
        held_out=held_out,
        objective=step_objective if by_steps else answer_objective(loader.most, config.centre),
        verdicts=step_verdicts if by_steps else pair_verdicts,
    )


def at_the_end(group: Group, margins: bool) -> Group:
    """The pair as it is scored: at the last token of each answer; signals: the chosen's margin."""
    answers = tuple(
        replace(one, mask=[False] * (len(one.ids) - 1) + [True]) for one in group.answers
    )
    margin = group.margin if margins and group.margin is not None else 0.0
    signals = tuple(np.array([margin * (n == 0)], dtype=np.float32) for n in range(len(answers)))
    return replace(group, answers=answers, signals=signals)


def answer_objective(most: int, centre: float) -> Objective:
    """The summed Bradley-Terry loss of the pairs; ``batch.signals`` holds their margins."""

    def objective(model: Decoder, batch: Batch) -> Tensor:
        assert isinstance(model, Scorer)
        assert batch.signals is not None
        sums = segment_sums(model.scores(batch.ids, batch.segments), batch, most)
        margin, _ = paired(segment_sums(batch.signals[..., 0], batch, most).values)
        losses = bradley_terry(*paired(sums.values), margin, centre)
        return torch.where(paired(sums.lengths)[1] > 0, losses, 0.0).sum()

    return objective


def step_objective(model: Decoder, batch: Batch) -> Tensor:
    """The summed loss of the steps; ``batch.signals`` holds their labels."""
    assert isinstance(model, Scorer)
    assert batch.signals is not None
    scores = model.scores(batch.ids, batch.segments)
    return (step_cross_entropy(scores, batch.signals[..., 0]) * batch.weights).sum()


def _job(config: RewardConfig, scorer: Scorer, lesson: Lesson, out: Path) -> Training:
    """What the training loop is given."""
    matrix_rate, other_rate = peak_rates(config, RATES, scorer.config.width)
    loader, shown = lesson.loader, lesson.held_out[:MEASURED]
    return Training(
        label="reward",
        model=scorer,
        objective=lesson.objective,
        batches=loader,
        steps=loader.steps or config.steps or 1,
        context=loader.row,
        optimizers=build_optimizers(scorer, config, matrix_rate=matrix_rate, other_rate=other_rate),
        config=config,
        validate=lambda: lesson.verdicts(scorer, shown, loader.row)[0],
        out=out,
        count=target_weight if config.kind == "steps" else lambda b: count_segments(b) / 2,
    )


def _save(scorer: Scorer, source: Path, tokenizer: Tokenizer, taught: bool, folder: Path) -> None:
    """Write the model folder, with the tokenizer as it was or as it was taught."""
    if scorer.config.pad_id is None:  # transformers finds a text's end by it
        scorer.config = scorer.config.model_copy(update={"pad_id": tokenizer.padding_id})
    save_scorer(scorer, folder)
    copy_tokenizer(source, folder)
    if taught or not tokenizer.has_template:
        tokenizer.save(folder)
