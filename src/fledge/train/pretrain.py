"""The stage ``pretrain``: token shards and a tokenizer in, a model out."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import torch

from fledge.core.errors import InputError
from fledge.core.protocols import Progress
from fledge.core.run import Outcome
from fledge.model.checkpoint import load_model, save_model
from fledge.model.config import derive
from fledge.model.decoder import Decoder
from fledge.train.config import PretrainConfig
from fledge.train.device import choose_device, choose_precision
from fledge.train.loader import PackedLoader
from fledge.train.loop import Training, train
from fledge.train.objective import cross_entropy
from fledge.train.optimizers import build_optimizers, peak_rates
from fledge.train.shards import TokenShards
from fledge.train.validate import bits_per_byte

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)
FINAL_TOKENS = 300_000
"""Held-out tokens, from the first document on, that the final figure reads at most."""

RATES = {"muon": (0.01, 0.016), "adamw": (0.004, 0.004)}
"""Peak rates of the layers' matrices and of the rest, at width 256; see ``peak_rates``."""


def pretrain(
    config: PretrainConfig, tokens: Path, tokenizer: Path, out: Path, progress: Progress
) -> Outcome:
    """Train on the ``train`` split of ``tokens``; the checkpoint goes to ``out/model``.

    Counts: tokens, steps, parameters.  Figure: ``pretrain.bits_per_byte`` on the validation split
    (its first ``FINAL_TOKENS``), in float32, in windows that overlap by half.  ``evals`` measures
    a sample of it as ``base.bits_per_byte``, alike for all rungs.  Raises InputError naming what
    is missing.
    """
    check_tokenizer(tokenizer)
    data = TokenShards(tokens, "train")
    held_out = TokenShards(tokens, "validation")
    model = _model(config, data, progress)
    context = min(config.context, model.config.context)
    loader = PackedLoader(
        data,
        context=context,
        batch_rows=config.batch_rows,
        seed=config.seed,
        epochs=_epochs(config),
    )
    steps = loader.steps or _steps(config, context, data.tokens)
    sample = config.validation_tokens or steps * config.batch_rows * context // 200
    matrix_rate, other_rate = peak_rates(config, RATES, model.config.width)
    job = Training(
        label="pretrain",
        model=model,
        objective=cross_entropy(config.z_loss),
        batches=loader,
        steps=steps,
        context=context,
        optimizers=build_optimizers(model, config, matrix_rate=matrix_rate, other_rate=other_rate),
        config=config,
        validate=lambda: _curve_point(model, held_out, context, sample),
        out=out,
    )
    position = train(job, progress)
    figures = _final_figures(model, held_out, context, progress)
    save_model(model, out / "model")
    copy_tokenizer(tokenizer, out / "model")
    counts = {"tokens": position.tokens, "steps": job.steps}
    return Outcome(
        counts={**counts, "parameters": model.config.parameters},
        figures=figures,
    )


def _model(config: PretrainConfig, data: TokenShards, progress: Progress) -> Decoder:
    """The model to start from: new weights from the seed, or the checkpoint ``init``."""
    device = choose_device(config)
    dtype = choose_precision(config, device)
    if config.init:
        model = load_model(config.init).train()
        if model.config.vocab_size < data.vocab_size:
            raise InputError(
                f"{config.init} knows {model.config.vocab_size} tokens, {data.folder} uses "
                f"{data.vocab_size}",
                remedy="write the tokens with the tokenizer of that model",
            )
    else:
        shape = derive(
            config.depth,
            data.vocab_size,
            config.context,
            width=config.width,
            heads=config.heads,
            kv_heads=config.kv_heads,
            ffn=config.ffn,
            tied=config.tied,
        )
        ends = {"bos_id": data.endoftext_id, "eos_ids": (data.endoftext_id,)}
        model = Decoder(shape.model_copy(update=ends)).initialize(config.seed)
    model.compute_dtype = dtype
    shape = model.config
    progress.say(
        f"model: {shape.depth} layers, {shape.width} wide, {shape.heads} heads "
        f"({shape.kv_heads} for keys), ffn {shape.ffn}, vocabulary {shape.vocab_size:,}: "
        f"{shape.parameters:,} parameters; {str(dtype).removeprefix('torch.')} on {device}"
    )
    return model.to(device)


def _epochs(config: PretrainConfig) -> float | None:
    """Passes over the data: as asked, one when nothing was asked, None with steps or tokens."""
    if config.epochs is None and config.steps is None and config.tokens is None:
        return 1.0
    return config.epochs


def _steps(config: PretrainConfig, context: int, available: int) -> int:
    """Optimizer steps for ``tokens``, but at most ``max_epochs`` passes over ``available``."""
    if config.steps:
        return config.steps
    wanted = config.tokens or 1
    if config.max_epochs:
        wanted = min(wanted, int(config.max_epochs * available))
    return max(1, math.ceil(wanted / (config.batch_rows * context)))


def _curve_point(
    model: Decoder, held_out: TokenShards, context: int, tokens: int
) -> dict[str, float]:
    """Bits per byte for the curve: quicker than the final figure, and a little higher."""
    if not held_out.bytes:
        return {}
    figure = bits_per_byte(model, held_out, context=context, stride=context, tokens=tokens)
    return {"bits_per_byte": figure}


def _final_figures(
    model: Decoder, held_out: TokenShards, context: int, progress: Progress
) -> dict[str, float]:
    """Bits per byte of held-out text, in float32, in windows that overlap by half."""
    if not held_out.bytes:
        progress.say("no held-out text: bits per byte are not measured")
        return {}
    model.compute_dtype = torch.float32
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
    return {"pretrain.bits_per_byte": figure}


def check_tokenizer(source: Path) -> None:
    """Raise InputError when there is no tokenizer: before training, not after."""
    if not (source / "tokenizer.json").is_file():
        raise InputError(f"{source} has no tokenizer.json", remedy="name a tokenizer folder")


def copy_tokenizer(source: Path, folder: Path) -> None:
    """Put the tokenizer's files beside the weights."""
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
