"""The stage ``pretrain``: token shards and a tokenizer in, a model out."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import torch

from fledge.core.files import write_json
from fledge.core.protocols import Progress, Silent
from fledge.core.run import Outcome
from fledge.model.checkpoint import save_model
from fledge.model.config import ModelConfig
from fledge.model.decoder import Decoder
from fledge.train.baseline import baseline
from fledge.train.config import PretrainConfig
from fledge.train.device import arithmetic, choose_device, set_arithmetic
from fledge.train.loader import PackedLoader
from fledge.train.loop import Training, train
from fledge.train.objective import cross_entropy
from fledge.train.optimizers import build_optimizers
from fledge.train.parallel import gathered, prepare, whole_model
from fledge.train.plan import Plan, plan
from fledge.train.samples import Write, writing
from fledge.train.shards import TokenShards
from fledge.train.start import starting_model, starting_shape
from fledge.train.validate import bits_per_byte
from fledge.train.world import World, join_world

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)
FINAL_TOKENS = 300_000
"""Held-out tokens, from the first document on, that the final figure reads at most."""


def pretrain(
    config: PretrainConfig,
    tokens: Path,
    tokenizer: Path,
    out: Path,
    progress: Progress,
    *,
    write: Write | None = None,
) -> Outcome:
    """Train on the ``train`` split of ``tokens``; the checkpoint goes to ``out/model``.

    Counts: tokens, steps, parameters.  Figures: ``pretrain.bits_per_byte`` on the validation split
    (its first ``FINAL_TOKENS``), in float32, in windows that overlap by half; with ``init`` also
    ``pretrain.bits_per_byte_before``, of the checkpoint as it came.  ``evals`` measures a sample
    of it as ``base.bits_per_byte``, alike for all rungs.  What the config leaves open is derived,
    shown and written to ``out/plan.json``.  ``write`` makes the texts of ``config.samples``.
    Raises InputError naming what is missing.  Started by torchrun, all processes call it, and the
    main one writes.
    """
    with arithmetic(config, choose_device(config)), join_world(config) as world:
        return _pretrain(
            config, tokens, tokenizer, out, progress if world.is_main else Silent(), world, write
        )


def _pretrain(
    config: PretrainConfig,
    tokens: Path,
    tokenizer: Path,
    out: Path,
    progress: Progress,
    world: World,
    write: Write | None,
) -> Outcome:
    data = TokenShards(tokens, "train")
    held_out = TokenShards(tokens, "validation")
    shape = starting_shape(config, data, tokenizer)
    planned = plan(config, shape, data.tokens)
    loader = PackedLoader(
        data,
        context=config.context,
        batch_rows=planned.batch_rows,
        seed=config.seed,
        epochs=planned.epochs,
        packing=config.packing,
        others=[(TokenShards(Path(f), "train"), share) for f, share in config.mixture.items()],
    )
    planned = plan(config, shape, data.tokens, steps=loader.steps)
    _announce(planned, out, progress, world)
    for line in loader.lines(planned.steps):
        progress.say(f"  {line}")
    config = config.model_copy(update={"batch_rows": planned.batch_rows})
    model = _model(config, shape, progress, world)
    before = _before(model, held_out, config, out, progress, world)
    prepare(model, config, world)
    sample = config.validation_tokens or planned.tokens // 200
    job = Training(
        label="pretrain",
        model=model,
        objective=cross_entropy(config.z_loss),
        batches=loader,
        steps=planned.steps,
        context=config.context,
        optimizers=build_optimizers(
            model, config, matrix_rate=planned.matrix_rate, other_rate=planned.other_rate
        ),
        config=config,
        validate=lambda: _curve_point(model, held_out, config.context, sample, world),
        write=writing(config, model, write, world, progress),
        out=out,
        world=world,
    )
    position = train(job, progress)
    trained = whole_model(model, world)
    trained.compute_dtype = torch.float32
    after = world.first(lambda: _held_out(trained, held_out, config.context, progress))
    world.first(lambda: save_with_tokenizer(trained, tokenizer, out / "model"))
    counts = {"tokens": position.tokens, "steps": job.steps, **loader.counts(job.steps)}
    counts |= position.trouble
    return Outcome(
        counts={**counts, "parameters": model.config.parameters},
        figures={
            **{f"pretrain.{name}_before": value for name, value in before.items()},
            **{f"pretrain.{name}": value for name, value in after.items()},
        },
    )


def dry_run(config: PretrainConfig, tokens: Path, tokenizer: Path) -> Plan:
    """What ``pretrain`` would do; steps of whole epochs are estimated, nothing is written."""
    data = TokenShards(tokens, "train")
    return plan(config, starting_shape(config, data, tokenizer), data.tokens)


def _announce(planned: Plan, out: Path, progress: Progress, world: World) -> None:
    """Show the plan, and keep it as ``plan.json``."""
    for line in planned.lines():
        progress.say(f"  {line}")
    if world.is_main:
        write_json(out / "plan.json", planned.record())


def _model(config: PretrainConfig, shape: ModelConfig, progress: Progress, world: World) -> Decoder:
    """The model to start from, on the device and in the precision that suit."""
    device = choose_device(config)
    model = starting_model(config, shape, progress)
    set_arithmetic(model, config, device, world)
    numbers = str(model.compute_dtype).removeprefix("torch.")
    if config.precision == "fp8":
        numbers += " and 8-bit floats"
    progress.say(f"model: {shape.parameters:,} parameters; {numbers} on {device}")
    return model.to(device)


def _curve_point(
    model: Decoder, held_out: TokenShards, context: int, tokens: int, world: World
) -> dict[str, float]:
    """Bits per byte for the curve: quicker than the final figure, and a little higher."""
    if not held_out.bytes:
        return {}
    measure = partial(bits_per_byte, context=context, stride=context, tokens=tokens, world=world)
    figure = gathered(model, measure, model, held_out)
    return {"bits_per_byte": figure}


def _before(
    model: Decoder,
    held_out: TokenShards,
    config: PretrainConfig,
    out: Path,
    progress: Progress,
    world: World,
) -> dict[str, float]:
    """What a checkpoint makes of the held-out text before it is trained on; {} without one."""
    if not config.init:
        return {}

    def measure() -> dict[str, float]:
        return _held_out(model, held_out, config.context, progress)

    return world.first(lambda: baseline(model, out, measure))


def _held_out(
    model: Decoder, held_out: TokenShards, context: int, progress: Progress
) -> dict[str, float]:
    """Bits per byte of held-out text, in windows that overlap by half; {} when there is none."""
    if not held_out.bytes:
        progress.say("no held-out text: bits per byte are not measured")
        return {}
    with progress.bar("held-out text", min(FINAL_TOKENS, held_out.tokens), "tokens") as bar:
        figure = bits_per_byte(
            model,
            held_out,
            context=context,
            stride=max(1, context // 2),
            tokens=FINAL_TOKENS,
            advance=bar.advance,
        )
    progress.say(f"held-out text: {figure:.4f} bits per byte")
    return {"bits_per_byte": figure}


def save_with_tokenizer(model: Decoder, tokenizer: Path, folder: Path) -> None:
    """Write a model folder that is ready for use."""
    save_model(model, folder)
    copy_tokenizer(tokenizer, folder)


def copy_tokenizer(source: Path, folder: Path) -> None:
    """Put the tokenizer's files beside the weights."""
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
