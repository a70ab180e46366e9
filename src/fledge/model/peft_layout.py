"""PEFT's ``adapter_config.json`` in, a ``LoraConfig`` out; the names of its tensors.  No torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fledge.core.config import parse_config
from fledge.core.errors import InputError
from fledge.model.lora_config import LoraConfig

CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"

PREFIX = "base_model.model."

PARTS = {
    "lora_A": "lora_A.weight",
    "lora_B": "lora_B.weight",
    "magnitude": "lora_magnitude_vector",
}
"""Our tensor of a layer -> theirs."""

HARMLESS = frozenset(
    {
        *("r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora"),
        *("peft_type", "bias", "init_lora_weights"),  # checked by value
        *("task_type", "base_model_name_or_path", "revision", "inference_mode", "auto_mapping"),
        "peft_version",
        # Which layers were adapted is read from the names of the tensors.
        *("target_modules", "layers_to_transform", "layers_pattern", "exclude_modules"),
        # Settings of methods that are off.
        *("qalora_group_size", "megatron_core", "runtime_config"),
        "trainable_token_indices",  # read apart
    }
)
"""Keys of ``adapter_config.json`` that are read, or change nothing; others must be empty."""

STARTS = (True, False, "gaussian", "orthogonal", "eva")
"""Ways to start A and B that leave the frozen weights alone."""


def read_peft_config(values: Any, path: Path, names: Sequence[str]) -> LoraConfig:
    """The ``adapter_config.json`` at ``path`` whose tensors belong to the layers ``names``.

    Raises InputError for what an adapter of PEFT can ask for and we cannot do.
    """
    if not isinstance(values, dict):
        raise InputError(f"{path}: not an object", remedy="mend the file")
    for key, allowed in (
        ("peft_type", ("LORA",)),
        ("bias", ("none",)),
        ("init_lora_weights", STARTS),
    ):
        if values.get(key, allowed[0]) not in allowed:
            raise InputError(
                f"{path}: {key} = {values[key]!r} is not supported", remedy="train anew"
            )
    for key, value in values.items():
        if value and key not in HARMLESS:
            raise InputError(f"{path}: {key} = {value!r} is not supported", remedy="train anew")
    fields = {
        "rank": values.get("r"),
        "alpha": values.get("lora_alpha"),
        "dropout": values.get("lora_dropout", 0.0),
        "targets": sorted({name.rpartition(".")[2] for name in names}),
        "stabilised": values.get("use_rslora", False),
        "dora": values.get("use_dora", False),
    }
    return parse_config(LoraConfig, fields, str(path))
