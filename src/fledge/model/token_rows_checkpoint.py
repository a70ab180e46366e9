"""Rows of tokens that learnt beside LoRA <-> the tensors and the key that PEFT has for them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from fledge.core.errors import InputError
from fledge.model.decoder import Decoder
from fledge.model.token_rows import TABLES, token_rows

KEYS = {
    name: f"base_model.model.{stem}.token_adapter.trainable_tokens_delta"
    for name, stem in zip(TABLES, ("model.embed_tokens", "lm_head"), strict=True)
}
"""Our matrix -> their tensor, which holds the rows as they are and no difference."""

CONFIG_KEY = "trainable_token_indices"


class StoredRows(NamedTuple):
    """What a folder says of one matrix."""

    places: list[int]
    rows: Tensor


def rows_to_peft(model: nn.Module) -> tuple[dict[str, Tensor], Any]:
    """The tensors, and the value of ``trainable_token_indices``: None where no row learns.

    A list names rows of the embedding and, where that is the output matrix too, of both.
    """
    found = token_rows(model)
    places = {name: part.places.tolist() for name, part in found.items()}
    tensors = {KEYS[name]: part.rows for name, part in found.items()}
    if not places:
        return {}, None
    return tensors, places[TABLES[0]] if set(places) == {TABLES[0]} else places


def rows_from_peft(
    model: nn.Module, values: Mapping[str, Any], weights: Mapping[str, Tensor], folder: Path
) -> dict[str, StoredRows]:
    """Our matrix -> its rows; empty where none learnt.  Raises InputError for what does not fit."""
    said = values.get(CONFIG_KEY)
    if not said:
        return {}
    by_table = said if isinstance(said, dict) else {TABLES[0]: said}
    found = {}
    for name, places in by_table.items():
        key, where = KEYS.get(name, ""), f"{folder}: {CONFIG_KEY}"
        part = getattr(model, name, None) if isinstance(model, Decoder) and key else None
        if part is None:
            raise InputError(
                f"{where} names {name}, which the model lacks",
                remedy="the adapter belongs to another model",
            )
        whole = isinstance(places, list) and all(type(one) is int and one >= 0 for one in places)
        if not whole or len(set(places)) < len(places):
            raise InputError(f"{where} = {places!r} is not valid", remedy="copy the adapter again")
        shape = (len(places), part.weight.shape[1])
        if key not in weights or tuple(weights[key].shape) != shape:
            raise InputError(
                f"{folder}: {key} is missing or not of shape {shape}",
                remedy="the adapter belongs to another model",
            )
        found[name] = StoredRows(places, weights[key])
    return found
