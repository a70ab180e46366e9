"""What every stage of post-training does about LoRA: a model and a config in, the same model with
small matrices that learn; afterwards an adapter folder and a plain checkpoint out.

With ``config.lora`` None all of it does what full fine-tuning needs, so that a stage calls it in
either case::

    adapt_model(model, config, new_tokens)   # after the base is measured, before ``prepare``
    stage_rates(config, RATES, width)        # -> peak rates for ``build_optimizers``
    whole_model(model, world, lambda: blank_model(model, config, new_tokens)).eval()
    save_trained(trained, out, config, base=source)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from torch import nn

from fledge.core.files import write_json
from fledge.model.adapter_folder import note_base, quantize_base
from fledge.model.checkpoint import save_model
from fledge.model.decoder import Decoder
from fledge.model.layout import generation_config
from fledge.model.lora import add_lora, merge_lora
from fledge.model.lora_checkpoint import save_lora
from fledge.model.token_rows import learn_rows
from fledge.train.rates import Rates, peak_rates
from fledge.tune.config import Adapted

ADAPTER, MODEL = "adapter", "model"
"""Folders of a stage: the small matrices in PEFT's format, and the plain checkpoint."""

LORA_RATES: Rates = {"adamw": (0.006, 0.003)}
"""Peak rates of A and B, and of what else learns beside them (lengths, rows of new tokens), at
width 256: measured in docs/log.md."""


def adapt_model(model: nn.Module, config: Adapted, new_tokens: Sequence[int] = ()) -> list[str]:
    """With ``config.lora``: quantize as asked, freeze, add small matrices; names of the layers.

    ``new_tokens``: ids that the base has never met; their rows learn as well, since little else
    could tell such tokens apart.  What a stage adds to the model (a head) is frozen too: make it
    trainable afterwards.  A and B start from ``config.seed``.
    """
    if config.lora is None:
        return []
    if config.quantize_base:
        quantize_base(model, config.quantize_base)
    names = add_lora(model, config.lora, seed=config.seed)
    if isinstance(model, Decoder):
        learn_rows(model, new_tokens)
    return names


def blank_model(model: Decoder, config: Adapted, new_tokens: Sequence[int] = ()) -> Decoder:
    """A model of the same parts as ``model``, adapted as that was; its numbers mean nothing."""
    blank = Decoder(model.config, model.compute_dtype)
    if config.lora is not None:
        adapt_model(blank.initialize(config.seed), config, new_tokens)
    return blank


def trained_count(model: nn.Module) -> int:
    """How many weights learn."""
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad)


def stage_rates(config: Adapted, table: Rates, width: int) -> tuple[float, float]:
    """Peak rates of the layers' matrices and of the rest: as configured, or derived.

    ``table`` is the stage's own for full fine-tuning.  A and B have AdamW (or Lion) where the
    matrices would have Muon.
    """
    if config.lora is None:
        return peak_rates(config, table, width)
    kind = "lion" if config.optimizer == "lion" else "adamw"
    return peak_rates(config.model_copy(update={"optimizer": kind}), LORA_RATES, width)


def save_trained(
    model: Decoder,
    out: Path,
    config: Adapted,
    *,
    base: Path,
    beside: Callable[[Path], None] = lambda folder: None,
) -> None:
    """Write ``out/model``, and with LoRA ``out/adapter`` before it; the model is merged.

    ``base`` is the checkpoint that the adapter belongs to; ``beside`` writes what else goes into
    each folder, the tokenizer.  Merging keeps every bit: sums are float32, and a quantized base
    is what its bits mean, so that ``out/model`` is the model that was trained.
    """
    if config.lora is not None:
        folder = out / ADAPTER
        save_lora(model, folder, config.lora, base=str(base))
        note_base(folder, config.quantize_base)
        write_json(folder / "generation_config.json", generation_config(model.config))
        beside(folder)
        merge_lora(model.float())
    save_model(model, out / MODEL)
    beside(out / MODEL)
