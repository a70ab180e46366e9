"""LoRA matrices in and out, in PEFT's layout: an adapter folder <-> the layers of a model.

The folder holds ``adapter_config.json`` and ``adapter_model.safetensors``.  Names are those of
the Hugging Face model: ``base_model.model.`` + the layer + ``.lora_A.weight``.  Rows of
tokens that learnt (``token_rows``) are in it too.  What an adapter of PEFT can ask for and we
cannot do is refused, never ignored.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from fledge.core.errors import InputError
from fledge.core.files import read_json, write_json
from fledge.model.bert import stored_name
from fledge.model.decoder import Decoder
from fledge.model.encoder import Encoder
from fledge.model.encoder_heads import Classifier, MaskedLM
from fledge.model.lora import adapt, linear_names, lora_layers, lora_state
from fledge.model.lora_config import LoraConfig
from fledge.model.peft_layout import CONFIG_FILE, PARTS, PREFIX, WEIGHTS_FILE, read_peft_config
from fledge.model.token_rows import grow_vocabulary, learn_rows
from fledge.model.token_rows_checkpoint import KEYS, rows_from_peft, rows_to_peft
from fledge.model.weights import weights_file


def save_lora(model: nn.Module, folder: Path, config: LoraConfig, *, base: str = "") -> None:
    """Write the small matrices of ``model``, float32, to ``folder``.

    ``base`` names the model they belong to, for readers.  Raises InputError without LoRA.
    """
    layers = lora_layers(model)
    if not layers:
        raise InputError("the model has no LoRA to save", remedy="add_lora first")
    weights = {}
    for name, tensor in lora_state(model).items():
        layer, _, part = name.rpartition(".")
        weights[f"{PREFIX}{_their_name(model, layer)}.{PARTS[part]}"] = tensor
    rows, indices = rows_to_peft(model)
    weights |= rows
    folder.mkdir(parents=True, exist_ok=True)
    with weights_file(weights, torch.float32, folder / WEIGHTS_FILE) as file:
        values = _to_peft(model, list(layers), config, base)
        write_json(folder / CONFIG_FILE, {**values, "trainable_token_indices": indices})
        shutil.copymode(folder / CONFIG_FILE, file)  # save_file leaves it to the owner


def load_lora(model: nn.Module, folder: Path) -> LoraConfig:
    """Put the matrices in ``folder`` into ``model``, frozen around them; returns their config.

    A model whose vocabulary lacks tokens whose rows are there gets them.  Raises InputError when
    they do not belong to this model, naming the tensor.
    """
    values, weights = _config_values(folder), _read(folder / WEIGHTS_FILE)
    rows = rows_from_peft(model, values, weights, folder)
    read = {KEYS[name] for name in rows}
    weights = {key: tensor for key, tensor in weights.items() if key not in read}
    theirs = {_their_name(model, name): name for name in linear_names(model)}
    names = set()
    for key in weights:
        inner = key.removeprefix(PREFIX)
        stems = [inner.removesuffix(f".{end}") for end in PARTS.values() if inner.endswith(end)]
        if not stems or not key.startswith(PREFIX) or stems[0] not in theirs:
            raise InputError(
                f"{folder / WEIGHTS_FILE}: {key} has no place in the model",
                remedy="the adapter belongs to another model, or is more than LoRA",
            )
        names.add(theirs[stems[0]])
    ordered = [name for name in theirs.values() if name in names]
    config = read_peft_config(values, folder / CONFIG_FILE, ordered)
    size = 1 + max((place for stored in rows.values() for place in stored.places), default=-1)
    _check(model, ordered, weights, config, folder / WEIGHTS_FILE)
    if isinstance(model, Decoder):
        grow_vocabulary(model, size)
    adapt(model, ordered, config)
    with torch.no_grad():
        for name, tensor in lora_state(model).items():
            layer, _, part = name.rpartition(".")
            tensor.copy_(weights[f"{PREFIX}{_their_name(model, layer)}.{PARTS[part]}"])
        for name, stored in rows.items():
            assert isinstance(model, Decoder)
            for table in learn_rows(model, stored.places, (name,)):
                table.rows.copy_(stored.rows)
    return config


def read_lora(folder: Path) -> tuple[LoraConfig, dict[str, Any], dict[str, Tensor]]:
    """An adapter without its model: config, all that ``adapter_config.json`` says, tensors.

    The tensors keep PEFT's names.
    """
    values, weights = _config_values(folder), _read(folder / WEIGHTS_FILE)
    names = [key.removesuffix(".lora_A.weight") for key in weights if "lora_A" in key]
    return read_peft_config(values, folder / CONFIG_FILE, names), values, weights


def _config_values(folder: Path) -> dict[str, Any]:
    values = read_json(folder / CONFIG_FILE)
    if not isinstance(values, dict):
        raise InputError(f"{folder / CONFIG_FILE}: not an object", remedy="mend the file")
    return values


def _their_name(model: nn.Module, name: str) -> str:
    """The Hugging Face name of our layer."""
    if isinstance(model, Encoder | Classifier | MaskedLM):
        return stored_name(name, isinstance(model, Encoder))
    return name if name.startswith("lm_head") else f"model.{name}"


def _to_peft(model: nn.Module, names: list[str], config: LoraConfig, base: str) -> dict[str, Any]:
    encoder = isinstance(model, Encoder | Classifier | MaskedLM)
    # BERT's names end alike ("output.dense"), so that each layer is named in full.
    targets = {_their_name(model, n) if encoder else n.rpartition(".")[2] for n in names}
    task = "FEATURE_EXTRACTION" if isinstance(model, Encoder) else None if encoder else "CAUSAL_LM"
    return {
        "peft_type": "LORA",
        "task_type": task,
        "base_model_name_or_path": base or None,
        "inference_mode": True,
        "r": config.rank,
        "lora_alpha": config.alpha,
        "lora_dropout": config.dropout,
        "target_modules": sorted(targets),
        "use_rslora": config.stabilised,
        "use_dora": config.dora,
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "modules_to_save": None,
    }


def _check(
    model: nn.Module, names: list[str], weights: dict[str, Tensor], config: LoraConfig, path: Path
) -> None:
    """Every tensor is there with the shape the model asks for, and none too many."""
    for name in names:
        weight = model.get_submodule(name).weight
        assert isinstance(weight, Tensor)
        outputs, inputs = weight.shape
        wanted: dict[str, tuple[int, ...]] = {
            "lora_A": (config.rank, inputs),
            "lora_B": (outputs, config.rank),
        }
        if config.dora:
            wanted["magnitude"] = (outputs,)
        for part, theirs in PARTS.items():
            key = f"{PREFIX}{_their_name(model, name)}.{theirs}"
            found = weights.get(key)
            shape = None if found is None else tuple(found.shape)
            if shape != wanted.get(part):
                said = "is missing" if shape is None else f"has shape {shape}"
                raise InputError(
                    f"{path}: {key} {said}", remedy=f"the model asks for {wanted.get(part)}"
                )


def _read(path: Path) -> dict[str, Tensor]:
    try:
        weights: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} cannot be read: {error}", remedy="copy it again") from None
    if not weights:
        raise InputError(f"{path} holds no tensor", remedy="copy it again")
    for name, tensor in weights.items():
        if not tensor.is_floating_point():
            raise InputError(
                f"{path}: {name} has type {tensor.dtype}", remedy="only float types are read"
            )
    return weights
