"""RoPE scaling: the keys of a Hugging Face ``config.json`` <-> ``RopeScaling``.  No torch.

Old files have ``rope_theta`` and ``rope_scaling``, new ones ``rope_parameters`` with the base in
it.  We write both, since vLLM and llama.cpp's converter still read the old ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fledge.core.errors import InputError
from fledge.model.config import ModelConfig, RopeScaling

KINDS = ("linear", "dynamic", "llama3", "yarn")


def rope_values(config: ModelConfig) -> dict[str, Any]:
    """``rope_theta``, ``rope_parameters`` and, where it is stretched, ``rope_scaling``."""
    theta, scaling = config.rope_theta, config.rope_scaling
    if scaling is None:
        parameters: dict[str, Any] = {"rope_type": "default", "rope_theta": theta}
        return {"rope_theta": theta, "rope_parameters": parameters}
    values: dict[str, Any] = {"rope_type": scaling.kind, "factor": scaling.factor}
    original = scaling.original_context or config.context
    if scaling.kind == "llama3":
        values |= {
            "low_freq_factor": scaling.low_frequency_factor,
            "high_freq_factor": scaling.high_frequency_factor,
            "original_max_position_embeddings": original,
        }
    if scaling.kind == "yarn":
        values |= {
            "original_max_position_embeddings": original,
            "beta_fast": scaling.beta_fast,
            "beta_slow": scaling.beta_slow,
        }
        if scaling.attention_factor is not None:
            values["attention_factor"] = scaling.attention_factor
        if not scaling.truncate:
            values["truncate"] = False
    return {
        "rope_theta": theta,
        "rope_parameters": {**values, "rope_theta": theta},
        "rope_scaling": values,
    }


def read_rope(values: Mapping[str, Any], path: Path) -> tuple[float, dict[str, Any] | None]:
    """The base of RoPE, and the fields of a ``RopeScaling`` or None.

    Raises InputError for a kind that is not supported, KeyError for a key that is missing.
    """
    rope = values.get("rope_scaling") or values.get("rope_parameters") or {}
    if not isinstance(rope, dict):
        raise InputError(f"{path}: rope_parameters is no object", remedy="mend the file")
    kind = rope.get("rope_type", rope.get("type", "default"))
    if any(isinstance(value, dict) for value in rope.values()):
        raise InputError(
            f"{path}: rope_parameters differ between layers", remedy="one set for all is supported"
        )
    for where in (rope, values):
        share = where.get("partial_rotary_factor")
        if share not in (None, 1.0):
            raise InputError(
                f"{path}: partial_rotary_factor = {share!r} is not supported", remedy="only 1"
            )
    theta = rope.get("rope_theta") or values.get("rope_theta") or 10_000.0
    if kind in (None, "default"):
        return theta, None
    if kind not in KINDS:
        raise InputError(
            f"{path}: rope_type = {kind!r} is not supported",
            remedy=f"one of default, {', '.join(KINDS)}",
        )
    return theta, _scaling(kind, rope, values)


def _scaling(kind: str, rope: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    context = values["max_position_embeddings"]
    key = "original_max_position_embeddings"
    # transformers lets the key beside ``rope_parameters`` win over the one inside.
    original = values.get(key) or rope.get(key) or context
    fields: dict[str, Any] = {"kind": kind, "factor": rope.get("factor")}
    if kind == "yarn" and fields["factor"] is None and original != context:
        fields["factor"] = context / original
    if fields["factor"] is None:
        raise KeyError("rope_parameters.factor")
    if kind in ("llama3", "yarn") and original != context:
        fields["original_context"] = original
    if kind == "llama3":
        fields["low_frequency_factor"] = rope["low_freq_factor"]
        fields["high_frequency_factor"] = rope["high_freq_factor"]
    if kind == "yarn":
        fields["beta_fast"] = rope.get("beta_fast") or 32.0
        fields["beta_slow"] = rope.get("beta_slow") or 1.0
        fields["truncate"] = rope.get("truncate", True)
        fields["attention_factor"] = _attention_factor(rope, fields["factor"])
    return fields


def _attention_factor(rope: dict[str, Any], factor: float) -> float | None:
    """The given one, or the quotient of DeepSeek's two weights; None: YaRN's own."""
    given, upper, lower = (rope.get(k) for k in ("attention_factor", "mscale", "mscale_all_dim"))
    if given is not None or not (upper and lower):
        return given
    return yarn_magnitude(factor, upper) / yarn_magnitude(factor, lower)


def yarn_magnitude(factor: float, weight: float = 1.0) -> float:
    """0.1 weight ln(factor) + 1 (arXiv:2309.00071, eq. 22); 1 when nothing is stretched."""
    return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0


def scaling_obstacle(config: ModelConfig, scaling: RopeScaling) -> str | None:
    """What no Hugging Face layout says of this scaling, if anything."""
    if scaling.kind == "dynamic" and scaling.original_context not in (None, config.context):
        return "dynamic rope_scaling with an original_context other than the context"
    return None
