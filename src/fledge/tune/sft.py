"""The stage ``sft``: a base model and conversations in, a model that answers out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from fledge.core.errors import InputError
from fledge.core.files import file_digest
from fledge.core.protocols import Progress, Silent
from fledge.core.run import Outcome
from fledge.data.conversations import Rendered
from fledge.engine.handover import Writer
from fledge.model.decoder import Decoder
from fledge.model.locate import find_checkpoint
from fledge.tokenizer.tokenizer import Tokenizer
from fledge.train.baseline import baseline
from fledge.train.device import arithmetic, choose_device
from fledge.train.loader import PackedLoader
from fledge.train.loop import Training, train
from fledge.train.objective import cross_entropy, token_losses
from fledge.train.optimizers import build_optimizers
from fledge.train.parallel import gathered, prepare, whole_model
from fledge.train.samples import writing
from fledge.train.shards import TokenShards
from fledge.train.start import TOKENIZER
from fledge.train.validate import TOKENS
from fledge.train.world import ALONE, World, join_world
from fledge.tune.adapters import adapt_model, blank_model, save_trained, stage_rates, trained_count
from fledge.tune.config import SftConfig
from fledge.tune.gathering import Gathered
from fledge.tune.loader import ConversationLoader
from fledge.tune.material import gather, row_length
from fledge.tune.neftune import noisy
from fledge.tune.practice import PractisedLoader
from fledge.tune.speaker import open_speaker, write_tokenizer
from fledge.tune.vocabulary import never_chatted

RATES = {"muon": (0.005, 0.002), "adamw": (0.001, 0.001)}
"""Peak rates of the layers' matrices and of the rest, at width 256."""

EPOCHS = 2.0
"""Passes over the conversations when neither epochs nor steps are given."""

MEASURED = 256
"""Held-out conversations read for a point of the curve, at most."""


def sft(
    config: SftConfig,
    base: Path,
    conversations: Sequence[Path],
    out: Path,
    progress: Progress,
    *,
    tokens: Path | None = None,
) -> Outcome:
    """Fine-tune the model at ``base`` on assistants' words; the checkpoint goes to ``out/model``.

    With ``config.lora`` the small matrices go to ``out/adapter``, too.
    ``tokens``: token shards for ``replay_share``.  Counts: conversations read, trained, held_out,
    dropped by reason, truncated; tokens, target_tokens, steps, new_tokens, parameters, with LoRA
    trainable.  Figures:
    ``sft.loss_before`` and ``sft.loss``, nats a target token on the held-out conversations before
    and after.  Raises InputError naming what is wrong.  Started by torchrun, all processes call
    it, and the main one writes.
    """
    with arithmetic(config, choose_device(config)), join_world(config) as world:
        heard = progress if world.is_main else Silent()
        return _sft(config, base, conversations, out, heard, tokens, world)


def _sft(
    config: SftConfig,
    base: Path,
    conversations: Sequence[Path],
    out: Path,
    progress: Progress,
    tokens: Path | None,
    world: World,
) -> Outcome:
    source = find_checkpoint(base)
    # A frozen base needs no more bits than it is stored in; spread weights must be of one type.
    dtype = "auto" if config.lora and world.size == 1 else "float32"
    speaker = open_speaker(config, source, progress, world, dtype)
    model, tokenizer = speaker.model, speaker.tokenizer
    context = row_length(config, model.config.context)
    material = gather(config, conversations, tokenizer, context, progress)
    model.config = model.config.model_copy(update=_ends(model, tokenizer, material))
    if config.replay_share and tokens is not None:
        _check_replay(TokenShards(tokens, "train"), tokenizer, source)
    practice = _practice(config, tokenizer, context, progress)
    own = _loader(config, material, tokenizer, context, tokens)
    fill, rows = tokenizer.padding_id, config.batch_rows
    loader = PractisedLoader(practice, own, rows, fill) if practice else own
    before = world.first(
        lambda: baseline(model, out, lambda: held_out_loss(model, material.held_out, context))
    )
    turns = never_chatted(source) if config.learn_turns is None else config.learn_turns
    unmet = speaker.unmet(material.trained, turns) if config.lora else []
    adapt_model(model, config, unmet)
    trainable = trained_count(model)
    prepare(model, config, world)
    job = _job(config, model, material, loader, context, out, world)
    write = writing(config, model, Writer(tokenizer, chat=True), world, progress)
    job = replace(job, write=write)
    position = train(job, progress)
    trained = whole_model(model, world, lambda: blank_model(model, config, unmet)).eval()
    trained.compute_dtype = torch.float32
    after = world.first(lambda: held_out_loss(trained, material.held_out, context))
    world.first(
        lambda: save_trained(
            trained, out, config, base=source, beside=partial(write_tokenizer, speaker, source)
        )
    )
    counts = {"tokens": position.tokens, "target_tokens": position.targets, "steps": job.steps}
    return Outcome(
        counts={
            **material.counts(),
            **({"practised": len(practice)} if practice else {}),
            **counts,
            **position.trouble,
            "new_tokens": len(speaker.added),
            "parameters": model.config.parameters,
            **({"trainable": trainable} if config.lora else {}),
        },
        figures={
            **{f"sft.{name}_before": value for name, value in before.items()},
            **{f"sft.{name}": value for name, value in after.items()},
        },
    )


def _job(
    config: SftConfig,
    model: Decoder,
    material: Gathered[Rendered],
    loader: ConversationLoader | PractisedLoader,
    context: int,
    out: Path,
    world: World,
) -> Training:
    """What the training loop is given."""
    matrix_rate, other_rate = stage_rates(config, RATES, model.config.width)
    return Training(
        label="sft",
        model=model,
        objective=noisy(cross_entropy(config.z_loss), config.neftune_alpha, config.seed),
        batches=loader,
        turns=(loader.practised,) if isinstance(loader, PractisedLoader) else (),
        steps=loader.steps or config.steps or 1,
        context=context,
        optimizers=build_optimizers(model, config, matrix_rate=matrix_rate, other_rate=other_rate),
        config=config,
        validate=lambda: gathered(
            model, held_out_loss, model, material.held_out[:MEASURED], context, world
        ),
        out=out,
        world=world,
    )


def held_out_loss(
    model: Decoder, held_out: Sequence[Rendered], context: int, world: World = ALONE
) -> dict[str, float]:
    """{"loss": nats a target token} on held-out conversations; empty when there are none.

    The processes of ``world`` read different ones, and all get the result.
    """
    if not held_out:
        return {}
    rows = max(1, TOKENS // context)
    loader = ConversationLoader(
        held_out, context=context, batch_rows=rows, seed=0, fill=0, epochs=1
    )
    nats = targets = 0.0
    with torch.no_grad():
        for batch, _ in world.deal(loader[step] for step in range(loader.steps or 0)):
            batch = batch.to(model.device)
            nats += float((token_losses(model, batch).double() * batch.weights).sum())
            targets += float(batch.weights.sum())
    nats, targets = world.sums(nats, targets)
    return {"loss": nats / targets}


def _ends(model: Decoder, tokenizer: Tokenizer, material: Gathered[Rendered]) -> dict[str, Any]:
    """The tokens that end an answer: those that end the turns learnt, then the model's own."""
    taught = Counter(one.ids[turn - 1] for one in material.trained for turn in one.turns)
    ends = [token for token, _ in taught.most_common() if tokenizer.is_special(token)]
    own = (*model.config.eos_ids, *([tokenizer.padding_id] if not model.config.eos_ids else []))
    return {
        "eos_ids": tuple(dict.fromkeys((*ends, *own))),
        "pad_id": tokenizer.padding_id if model.config.pad_id is None else model.config.pad_id,
    }


def _check_replay(shards: TokenShards, tokenizer: Tokenizer, source: Path) -> None:
    """Raise InputError where the shards' ids mean other text to the base model, as far as is known.

    A tokenizer that was given tokens since the shards were written keeps their ids.
    """
    remedy = "write the tokens with the tokenizer of the base model"
    if shards.vocab_size > tokenizer.vocab_size:
        raise InputError(
            f"{shards.folder} has a vocabulary of {shards.vocab_size}, the base model's tokenizer "
            f"{tokenizer.vocab_size}",
            remedy=remedy,
        )
    written = shards.tokenizer and shards.vocab_size == tokenizer.vocab_size
    if written and shards.tokenizer != file_digest(source / TOKENIZER):
        raise InputError(
            f"{shards.folder} was written with another tokenizer than {source / TOKENIZER}, of as"
            " many tokens",
            remedy=remedy,
        )


def _practice(
    config: SftConfig, tokenizer: Tokenizer, context: int, progress: Progress
) -> list[Rendered]:
    """The conversations of ``practice``; nothing of them is held out."""
    if not config.practice:
        return []
    every = config.model_copy(update={"held_out": 0.0})
    files = [Path(path) for path in config.practice]
    return gather(every, files, tokenizer, context, progress).trained


def _loader(
    config: SftConfig,
    material: Gathered[Rendered],
    tokenizer: Tokenizer,
    context: int,
    tokens: Path | None,
) -> ConversationLoader:
    replay, replay_rows = None, 0
    if config.replay_share:
        if tokens is None:
            raise InputError(
                f"[sft] replay_share = {config.replay_share} needs pretraining text",
                remedy="add the stage [tokens], or set replay_share = 0",
            )
        wanted = max(1, round(config.replay_share * config.batch_rows))
        replay_rows = min(wanted, config.batch_rows - 1)
        shards = TokenShards(tokens, "train")
        replay = PackedLoader(shards, context=context, batch_rows=replay_rows, seed=config.seed)
    return ConversationLoader(
        material.trained,
        context=context,
        batch_rows=config.batch_rows,
        seed=config.seed,
        fill=tokenizer.padding_id,
        epochs=config.epochs or (None if config.steps else EPOCHS),
        replay=replay,
        replay_rows=replay_rows,
    )
