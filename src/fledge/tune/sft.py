"""The stage ``sft``: a base model and conversations in, a model that answers out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from fledge.core.errors import InputError
from fledge.core.protocols import Progress
from fledge.core.run import Outcome
from fledge.data.conversations import Rendered, read_conversations, render
from fledge.model.checkpoint import load_model, save_model
from fledge.model.decoder import Decoder
from fledge.model.locate import find_checkpoint
from fledge.tokenizer.tokenizer import Tokenizer
from fledge.train.device import choose_device, choose_precision
from fledge.train.loader import PackedLoader
from fledge.train.loop import Training, train
from fledge.train.objective import cross_entropy, token_losses
from fledge.train.optimizers import build_optimizers, peak_rates
from fledge.train.pretrain import copy_tokenizer
from fledge.train.shards import TokenShards
from fledge.train.validate import TOKENS
from fledge.tune.config import SftConfig
from fledge.tune.loader import ConversationLoader

RATES = {"muon": (0.005, 0.002), "adamw": (0.001, 0.001)}
"""Peak rates of the layers' matrices and of the rest, at width 256."""

EPOCHS = 2.0
"""Passes over the conversations when neither epochs nor steps are given."""

MEASURED = 256
"""Held-out conversations read for a point of the curve, at most."""


@dataclass(frozen=True, kw_only=True)
class Material:
    """Conversations ready to be learnt, and what became of the others."""

    trained: list[Rendered]
    held_out: list[Rendered]
    read: int
    dropped_overlong: int
    truncated: int

    def counts(self) -> dict[str, int]:
        """For the manifest."""
        return {
            "conversations": self.read,
            "trained": len(self.trained),
            "held_out": len(self.held_out),
            "dropped_overlong": self.dropped_overlong,
            "truncated": self.truncated,
        }


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

    ``tokens``: token shards for ``replay_share``.  Counts: conversations read, trained, held_out,
    dropped_overlong, truncated; tokens, target_tokens, steps, parameters.  Figure: ``sft.loss``,
    nats a target token on the held-out conversations.  Raises InputError naming what is wrong.
    """
    source = find_checkpoint(base)
    tokenizer = Tokenizer.load(source)
    model = _model(config, source, tokenizer)
    context = _context(config, model)
    material = gather(config, conversations, tokenizer, context, progress)
    loader = _loader(config, material, tokenizer, context, tokens)
    matrix_rate, other_rate = peak_rates(config, RATES, model.config.width)
    job = Training(
        label="sft",
        model=model,
        objective=cross_entropy(config.z_loss),
        batches=loader,
        steps=loader.steps or config.steps or 1,
        context=context,
        optimizers=build_optimizers(model, config, matrix_rate=matrix_rate, other_rate=other_rate),
        config=config,
        validate=lambda: held_out_loss(model, material.held_out[:MEASURED], context),
        out=out,
    )
    position = train(job, progress)
    model.compute_dtype = torch.float32
    figures = {f"sft.{k}": v for k, v in held_out_loss(model, material.held_out, context).items()}
    save_model(model, out / "model")
    copy_tokenizer(source, out / "model")
    counts = {"tokens": position.tokens, "target_tokens": position.targets, "steps": job.steps}
    return Outcome(
        counts={**material.counts(), **counts, "parameters": model.config.parameters},
        figures=figures,
    )


def gather(
    config: SftConfig,
    files: Sequence[Path],
    tokenizer: Tokenizer,
    context: int,
    progress: Progress,
) -> Material:
    """Read and render all conversations, deal with the overlong ones, hold a share out.

    Raises InputError when none is left.
    """
    read = dropped = truncated = 0
    kept: list[Rendered] = []
    with progress.bar("conversations", None, "conversations") as bar:
        for file in files:
            for conversation in read_conversations(file):
                read += 1
                whole = render(
                    conversation.messages, tokenizer, conversation.tools, conversation.origin
                )
                fitting = fit(whole, context, config.overlong)
                dropped += fitting is None
                truncated += fitting is not None and fitting is not whole
                if fitting is not None:
                    kept.append(fitting)
                bar.advance()
    if dropped or truncated:
        progress.say(
            f"of {read:,} conversations, {dropped:,} are longer than {context} tokens and left "
            f"out, {truncated:,} cut at the end of a turn"
        )
    if not kept:
        raise InputError(
            f"{', '.join(map(str, files)) or 'no file'}: none of {read} conversations fits "
            f"{context} tokens",
            remedy="raise context (here and in pretrain), or set overlong = 'truncate'",
        )
    order = np.random.Generator(np.random.PCG64([config.seed, 1])).permutation(len(kept))
    apart = {int(i) for i in order[: int(config.held_out * len(kept))]}
    return Material(
        trained=[one for i, one in enumerate(kept) if i not in apart],
        held_out=[one for i, one in enumerate(kept) if i in apart],
        read=read,
        dropped_overlong=dropped,
        truncated=truncated,
    )


def fit(conversation: Rendered, context: int, overlong: str) -> Rendered | None:
    """The conversation if it fits a row, its first whole turns with "truncate", or None."""
    longest = context + 1  # the last token is a target only
    if len(conversation.ids) <= longest:
        return conversation
    ends = [turn for turn in conversation.turns if turn <= longest]
    if overlong == "drop" or not ends:
        return None
    return Rendered(
        ids=conversation.ids[: ends[-1]], mask=conversation.mask[: ends[-1]], turns=ends
    )


def held_out_loss(model: Decoder, held_out: Sequence[Rendered], context: int) -> dict[str, float]:
    """{"loss": nats a target token} on held-out conversations; empty when there are none."""
    if not held_out:
        return {}
    rows = max(1, TOKENS // context)
    loader = ConversationLoader(
        held_out, context=context, batch_rows=rows, seed=0, fill=0, epochs=1
    )
    nats = targets = 0.0
    with torch.no_grad():
        for step in range(loader.steps or 0):
            batch = loader[step].to(model.device)
            nats += float((token_losses(model, batch).double() * batch.weights).sum())
            targets += float(batch.weights.sum())
    return {"loss": nats / targets}


def _model(config: SftConfig, source: Path, tokenizer: Tokenizer) -> Decoder:
    """The base model, told to end its answers at <|im_end|>."""
    model = load_model(source).train()
    if tokenizer.vocab_size > model.config.vocab_size:
        raise InputError(
            f"{source}: the tokenizer has {tokenizer.vocab_size} tokens, the model knows "
            f"{model.config.vocab_size}",
            remedy="use the tokenizer the model was trained with",
        )
    ends = {
        "eos_ids": (tokenizer.im_end_id, tokenizer.endoftext_id),
        "pad_id": tokenizer.endoftext_id,
    }
    model.config = model.config.model_copy(update=ends)
    device = choose_device(config)
    model.compute_dtype = choose_precision(config, device)
    return model.to(device)


def _context(config: SftConfig, model: Decoder) -> int:
    context = config.context or model.config.context
    if context > model.config.context:
        raise InputError(
            f"[sft] context = {context} exceeds the model's {model.config.context}",
            remedy="pretrain with a longer context",
        )
    return context


def _loader(
    config: SftConfig,
    material: Material,
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
        fill=tokenizer.endoftext_id,
        epochs=config.epochs or (None if config.steps else EPOCHS),
        replay=replay,
        replay_rows=replay_rows,
    )
