"""The stages ``grpo`` and ``ppo``: a model and prompts in, a model that earns more reward out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from math import ceil
from pathlib import Path

from torch.optim import Optimizer

from fledge.core.errors import InputError
from fledge.core.protocols import Progress, Tool
from fledge.core.run import Outcome
from fledge.engine.handover import LiveEngine
from fledge.model.checkpoint import load_model
from fledge.model.decoder import Decoder
from fledge.model.locate import find_checkpoint
from fledge.tokenizer.tokenizer import Tokenizer
from fledge.train.baseline import baseline
from fledge.train.device import arithmetic, choose_device, set_arithmetic
from fledge.train.loop import Position, Training, train
from fledge.train.optimizers import build_optimizers
from fledge.train.parallel import prepare
from fledge.train.pretrain import copy_tokenizer
from fledge.train.world import ALONE
from fledge.tune.adapters import adapt_model, save_trained, stage_rates
from fledge.tune.critic import attach_critic, critic_optimizers, detach_critic
from fledge.tune.held_out_rewards import HeldOut, Overfitted, held_out_figures
from fledge.tune.judging import Judge
from fledge.tune.prompts import PromptSet, gather_prompts
from fledge.tune.reinforce_batches import Players, RolloutBatches
from fledge.tune.reinforce_config import GrpoConfig, PpoConfig, ReinforceConfig
from fledge.tune.reinforce_objective import Tally, counted, reinforce_objective
from fledge.tune.rollouts import Roller
from fledge.tune.tool_turns import find_tools
from fledge.tune.verifiers import Verifier

RATES = {"muon": (0.0005, 0.0002), "adamw": (0.0001, 0.0001)}
"""Peak rates of the layers' matrices and of the rest, at width 256."""

ROLLOUTS = "rollouts"


@dataclass(frozen=True, kw_only=True)
class Helpers:
    """What doors may bring along, by name."""

    verifiers: Mapping[str, Verifier] | None = None
    """Besides the built-in ones: a reward model, tests in a sandbox."""
    tools: Mapping[str, Tool] | None = None
    """In the place of those that the config names."""


def grpo(
    config: GrpoConfig,
    base: Path,
    prompts: Sequence[Path],
    out: Path,
    progress: Progress,
    helpers: Helpers | None = None,
) -> Outcome:
    """Train the model at ``base`` by comparing answers; the checkpoint goes to ``out/model``.

    Counts: prompts read, trained, held_out, dropped_overlong; tokens, target_tokens, steps,
    rollouts, parameters.  Figures: ``grpo.reward_before`` and ``grpo.reward`` on held-out
    prompts, and so with length, truncated, distinct_3grams, failed_verifiers and kl.  Raises
    InputError naming what is wrong, FledgeError where no answer is better than another.
    """
    return _reinforce("grpo", config, base, prompts, out, progress, helpers or Helpers())


def ppo(
    config: PpoConfig,
    base: Path,
    prompts: Sequence[Path],
    out: Path,
    progress: Progress,
    helpers: Helpers | None = None,
) -> Outcome:
    """Train the model at ``base`` with a critic.  As ``grpo``, its figures named ``ppo.``"""
    return _reinforce("ppo", config, base, prompts, out, progress, helpers or Helpers())


@dataclass(frozen=True, kw_only=True)
class Cast:
    """A model loaded, its prompts read, and whoever has a part in rollouts."""

    source: Path
    tokenizer: Tokenizer
    prompts: PromptSet
    players: Players


def gather_cast(
    config: ReinforceConfig,
    base: Path,
    files: Sequence[Path],
    progress: Progress,
    helpers: Helpers,
) -> Cast:
    """All that a rollout needs; raises InputError naming what is wrong."""
    source = find_checkpoint(base)
    tokenizer = Tokenizer.load(source)
    if not tokenizer.has_template:
        raise InputError(
            f"{source}: the tokenizer has no chat template", remedy="fine-tune the model first"
        )
    tools = find_tools(config.tools) if helpers.tools is None else helpers.tools
    roller = Roller(config, tools)
    model = load_model(source).train()
    kept = config.room or config.max_new_tokens
    room = model.config.context - kept
    if room < 1:
        name = "max_new_tokens" if config.room is None else "room"
        raise InputError(
            f"{name} = {kept} leaves no room for a prompt in the model's context of "
            f"{model.config.context}",
            remedy=f"lower {name}",
        )
    prompts = gather_prompts(
        files, tokenizer, room, config.held_out, config.seed, roller.described, progress
    )
    judge = Judge(config.rewards, config.verifier, config.verifier_seconds, helpers.verifiers)
    judge.check([*prompts.trained, *prompts.held_out])
    device = choose_device(config)
    set_arithmetic(model, config, device, ALONE)
    model.to(device)
    live = LiveEngine(
        model, tokenizer, runner=config.runner, threads=config.threads, progress=progress
    )
    watched = config.kl_weight > 0 or config.watch_kl
    reference = deepcopy(model).eval().requires_grad_(False) if watched else None
    players = Players(model=model, reference=reference, live=live, roller=roller, judge=judge)
    return Cast(source=source, tokenizer=tokenizer, prompts=prompts, players=players)


def _reinforce(
    stage: str,
    config: ReinforceConfig,
    base: Path,
    files: Sequence[Path],
    out: Path,
    progress: Progress,
    helpers: Helpers,
) -> Outcome:
    with arithmetic(config, choose_device(config)):
        cast = gather_cast(config, base, files, progress, helpers)
        players, model = cast.players, cast.players.model
        held_out = cast.prompts.held_out[: config.measured]
        measure = partial(held_out_figures, config, players, held_out)
        before = baseline(model, out, measure)
        adapt_model(model, config)
        prepare(model, config, ALONE)
        batches = RolloutBatches(config, players, cast.prompts, out / ROLLOUTS, progress)
        validate = HeldOut(config, players, batches, held_out, out / "state")
        job = _job(stage, config, cast, batches, validate, out)
        position = _train(job, validate, batches, progress)
        detach_critic(model)
        after = measure()
        copied = partial(copy_tokenizer, cast.source)
        save_trained(model, out, config, base=cast.source, beside=copied)
    return Outcome(
        counts={
            **cast.prompts.counts(),
            "tokens": position.tokens,
            "target_tokens": position.targets,
            "steps": position.step,
            "rollouts": ceil(position.step / config.updates),
            **position.trouble,
            "parameters": model.config.parameters,
        },
        figures={
            **{f"{stage}.{name}_before": value for name, value in before.items()},
            **{f"{stage}.{name}": value for name, value in after.items()},
        },
    )


def _train(
    job: Training, validate: HeldOut, batches: RolloutBatches, progress: Progress
) -> Position:
    """Train to the end, or until held-out reward falls: then the best weights come back."""
    try:
        return train(job, progress)
    except Overfitted as found:
        progress.say(
            f"{job.label}: held-out reward falls while training reward rises: stopping at step "
            f"{found.step}, with the weights of step {found.best}"
        )
        validate.restore_best()
        return Position(step=found.step)


def _job(
    stage: str,
    config: ReinforceConfig,
    cast: Cast,
    batches: RolloutBatches,
    validate: HeldOut,
    out: Path,
) -> Training:
    """What the training loop is given."""
    model, tally = cast.players.model, Tally()
    longest = max(len(prompt.ids) for prompt in cast.prompts.trained) + config.max_new_tokens
    return Training(
        label=stage,
        model=model,
        objective=reinforce_objective(config, tally),
        batches=batches,
        steps=steps_of(config, len(cast.prompts.trained)),
        context=min(model.config.context, longest),
        optimizers=_optimizers(config, model),
        config=config.model_copy(update={"micro_rows": 1}),  # a row is as large as fits
        validate=validate,
        out=out,
        count=counted(config),
        figures=lambda: {**tally.read(), **batches.figures()},
        ahead=0,
    )


def _optimizers(config: ReinforceConfig, model: Decoder) -> list[Optimizer]:
    """Those of the model, and of a critic that is made here."""
    rates = stage_rates(config, RATES, model.config.width)
    optimizers = build_optimizers(model, config, matrix_rate=rates[0], other_rate=rates[1])
    if isinstance(config, PpoConfig):
        trunk = deepcopy(model) if config.critic == "own" else None
        attach_critic(model, config.critic, trunk)
        made = critic_optimizers(model, config, *rates)
        # The average of the weights, where there is one, stands last: it is of all steps.
        place = len(optimizers) - (config.ema is not None)
        optimizers[place:place] = made
    return optimizers


def steps_of(config: ReinforceConfig, prompts: int) -> int:
    """Optimizer steps: as configured, or so many passes over the prompts (one)."""
    if config.steps is not None:
        return config.steps
    rollouts = ceil((config.epochs or 1.0) * prompts * config.group / config.batch_rows)
    return max(1, rollouts) * config.updates
