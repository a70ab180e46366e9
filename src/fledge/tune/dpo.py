"""The stage ``dpo``: a model and pairs of answers in, one that prefers as people do out.

All of the family: DPO, cDPO, RPO, IPO, SimPO, ORPO, KTO (``tune/losses``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from fledge.core.protocols import Progress, Silent
from fledge.core.run import Outcome
from fledge.model.decoder import Decoder
from fledge.model.locate import find_checkpoint
from fledge.train.device import arithmetic, choose_device
from fledge.train.loop import Training, train
from fledge.train.optimizers import build_optimizers
from fledge.train.parallel import gathered, prepare, whole_model
from fledge.train.prefetch import AHEAD
from fledge.train.world import World, join_world
from fledge.tune.adapters import adapt_model, blank_model, save_trained, stage_rates
from fledge.tune.gathering import Gathered
from fledge.tune.groups import Group, row_for
from fledge.tune.held_out import exactly, interval, log_probs_of_groups, preference_figures
from fledge.tune.kto import KtoLoader, mismatched
from fledge.tune.losses.preference import LOSSES
from fledge.tune.pair_loader import PairLoader
from fledge.tune.pairs import gather_pairs, read_judgements, read_pairs, side_length
from fledge.tune.preference_config import DpoConfig
from fledge.tune.preference_objective import Tally, kto_objective, preference_objective
from fledge.tune.reference import Reference
from fledge.tune.segments import count_segments
from fledge.tune.speaker import open_speaker, write_tokenizer
from fledge.tune.vocabulary import Speaker

RATES = {"muon": (0.0005, 0.0002), "adamw": (0.0001, 0.0001)}
"""Peak rates of the layers' matrices and of the rest, at width 256: a tenth of those of SFT."""

EPOCHS = 1.0
"""Passes over the pairs when neither epochs nor steps are given."""

LEAST_ROW = 512
"""Tokens of a row at least, where the model reads so many: short pairs share it."""

MEASURED = 256
"""Held-out pairs read for a point of the curve, at most."""


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What is learnt and measured, with the reference's word on each token."""

    loader: PairLoader | KtoLoader
    held_out: list[Group]
    row: int


def dpo(
    config: DpoConfig, base: Path, preferences: Sequence[Path], out: Path, progress: Progress
) -> Outcome:
    """Train the model at ``base`` on preferences; the checkpoint goes to ``out/model``.

    ``base`` is the reference, too.  Counts: pairs read, trained, held_out, dropped by reason,
    truncated; tokens, target_tokens, steps, parameters.  Figures: ``dpo.`` + what
    ``preference_figures`` says of the held-out pairs, the same with ``_before``, and the 95 %
    interval of both shares.  Raises InputError naming what is wrong.  Started by torchrun, all
    processes call it, and the main one writes.
    """
    with arithmetic(config, choose_device(config)), join_world(config) as world:
        heard = progress if world.is_main else Silent()
        return _dpo(config, base, preferences, out, heard, world)


def _dpo(
    config: DpoConfig,
    base: Path,
    preferences: Sequence[Path],
    out: Path,
    progress: Progress,
    world: World,
) -> Outcome:
    source = find_checkpoint(base)
    speaker = open_speaker(config, source, progress, world)
    model, tokenizer = speaker.model, speaker.tokenizer
    context = side_length(config, model.config.context, "dpo")
    read = read_judgements if config.loss == "kto" else read_pairs
    material = gather_pairs(config, preferences, tokenizer, context, progress, read)
    row = row_for([*material.trained, *material.held_out], 2 * context, min(context, LEAST_ROW))
    reference = Reference(model, out / "state" / "reference", row, world)
    lesson = _lesson(config, material, speaker, context, reference, progress)
    unmet = speaker.unmet((), every=False) if config.lora else []
    adapt_model(model, config, unmet)
    prepare(model, config, world)
    position = train(_job(config, model, lesson, out, world), progress)
    trained = whole_model(model, world, lambda: blank_model(model, config, unmet)).eval()
    figures = world.first(lambda: _figures(config, trained, lesson))
    beside = partial(write_tokenizer, speaker, source)
    world.first(lambda: save_trained(trained, out, config, base=source, beside=beside))
    counts = {"tokens": position.tokens, "target_tokens": position.targets, "steps": position.step}
    return Outcome(
        counts={
            **material.counts(),
            **counts,
            **position.trouble,
            "new_tokens": len(speaker.added),
            "parameters": model.config.parameters,
        },
        figures=figures,
    )


def _lesson(
    config: DpoConfig,
    material: Gathered[Group],
    speaker: Speaker,
    context: int,
    reference: Reference,
    progress: Progress,
) -> Lesson:
    """Ask the reference, and make batches."""
    trained: Sequence[Group] = material.trained
    if config.loss == "kto":
        trained = [one for group in trained for one in group.apart()]
    if config.loss == "kto" or LOSSES[config.loss].has_reference:
        trained = reference.read("trained", trained, progress)
    pairs = PairLoader(
        trained,
        row=reference.row,
        batch_rows=config.batch_rows,
        seed=config.seed,
        fill=speaker.tokenizer.padding_id,
        epochs=config.epochs or (None if config.steps else EPOCHS),
    )
    loader: PairLoader | KtoLoader = pairs
    if config.loss == "kto":
        others = reference.read("mismatched", mismatched(trained, context), progress)
        loader = KtoLoader(pairs, others, speaker.model)
    with exactly(speaker.model):
        held_out = reference.read("held_out", material.held_out, progress)
    progress.say(
        f"{len(trained):,} {'answers' if config.loss == 'kto' else 'pairs'} in "
        f"{pairs.rows_per_epoch:,} rows of {reference.row} tokens, {config.batch_rows} rows a step"
    )
    return Lesson(loader=loader, held_out=held_out, row=reference.row)


def _job(config: DpoConfig, model: Decoder, lesson: Lesson, out: Path, world: World) -> Training:
    """What the training loop is given."""
    matrix_rate, other_rate = stage_rates(config, RATES, model.config.width)
    tally, one_by_one = Tally(model.device, world), config.loss == "kto"
    make = kto_objective if one_by_one else preference_objective
    shown = lesson.held_out[:MEASURED]
    return Training(
        label="dpo",
        model=model,
        objective=make(config, lesson.loader.most, tally),
        batches=lesson.loader,
        steps=lesson.loader.steps or config.steps or 1,
        context=lesson.row,
        optimizers=build_optimizers(model, config, matrix_rate=matrix_rate, other_rate=other_rate),
        config=config,
        validate=lambda: preference_figures(
            config, shown, gathered(model, log_probs_of_groups, model, shown, lesson.row)
        ),
        out=out,
        count=lambda batch: count_segments(batch) / (1 if one_by_one else 2),
        figures=tally.figures,
        ahead=0 if one_by_one else AHEAD,
        world=world,
    )


def _figures(config: DpoConfig, model: Decoder, lesson: Lesson) -> dict[str, float]:
    """Held-out figures before training, where the model is its own reference, and after."""
    held_out = lesson.held_out
    before = preference_figures(config, held_out, [group.signals for group in held_out])
    found = log_probs_of_groups(model, held_out, lesson.row)
    after = preference_figures(config, held_out, found)
    for figures in (before, after):
        for name in ("accuracy", "prefers"):
            figures |= interval(figures, name, len(held_out))
    return {
        **{f"dpo.{name}_before": value for name, value in before.items()},
        **{f"dpo.{name}": value for name, value in after.items()},
    }
