"""The BERT layout: ``config.json`` and weight names <-> ours.  No torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fledge.core.config import parse_config
from fledge.core.errors import InputError
from fledge.model.encoder_config import EncoderConfig

ENCODER, CLASSIFIER, MASKED_LM = "BertModel", "BertForSequenceClassification", "BertForMaskedLM"

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "swish": "silu",
    "silu": "silu",
}
"""Their word -> ours; for two of theirs that mean one, the last is written."""

NAMES = (
    ("embed_tokens", "embeddings.word_embeddings"),
    ("embed_positions", "embeddings.position_embeddings"),
    ("embed_types", "embeddings.token_type_embeddings"),
    ("embed_norm", "embeddings.LayerNorm"),
    ("self_attn.q_proj", "attention.self.query"),
    ("self_attn.k_proj", "attention.self.key"),
    ("self_attn.v_proj", "attention.self.value"),
    ("self_attn.o_proj", "attention.output.dense"),
    ("attention_norm", "attention.output.LayerNorm"),
    ("mlp.up_proj", "intermediate.dense"),
    ("mlp.down_proj", "output.dense"),
    ("mlp_norm", "output.LayerNorm"),
    ("pooler", "pooler.dense"),
)
"""Modules of the encoder: our name (inside a layer or at the top), theirs."""

HEAD_NAMES = {
    "classifier": "classifier",
    "dense": "cls.predictions.transform.dense",
    "norm": "cls.predictions.transform.LayerNorm",
    "bias": "cls.predictions.bias",
}
"""Modules beside the encoder: our name, theirs."""

_LAYER = re.compile(r"layers\.(\d+)\.(.+)")


def bert_name(name: str) -> str:
    """Their name of our parameter or module, without the prefix ``bert.``."""
    inner = name.removeprefix("encoder.")
    layer = _LAYER.fullmatch(inner)
    stem = f"encoder.layer.{layer[1]}." if layer else ""
    rest = layer[2] if layer else inner
    for ours, theirs in NAMES:
        if rest == ours or rest.startswith(f"{ours}."):
            return stem + theirs + rest[len(ours) :]
    head, dot, tail = name.partition(".")
    return HEAD_NAMES[head] + dot + tail


def stored_name(name: str, alone: bool) -> str:
    """Their whole name; ``alone``: an encoder without heads, where no ``bert.`` is written."""
    beside = alone or name.partition(".")[0] in HEAD_NAMES
    return bert_name(name) if beside else f"bert.{bert_name(name)}"


def plain_name(name: str) -> str:
    """A stored name without ``bert.`` and in today's words (gamma and beta were the norm's)."""
    name = name.removeprefix("bert.")
    return re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", name).replace(
        "LayerNorm.beta", "LayerNorm.bias"
    )


def from_bert(values: Any, path: Path, *, pooler: bool) -> EncoderConfig:
    """The ``EncoderConfig`` of a ``config.json``; raises InputError for what it cannot express."""
    if not isinstance(values, dict):
        raise InputError(f"{path}: not an object", remedy="mend the file")
    for key, wanted in (
        ("model_type", "bert"),
        ("position_embedding_type", "absolute"),
        ("is_decoder", False),
        ("add_cross_attention", False),
    ):
        if values.get(key, wanted) != wanted:
            raise InputError(
                f"{path}: {key} = {values[key]!r} is not supported", remedy=f"only {wanted!r}"
            )
    activation = values.get("hidden_act", "gelu")
    if not isinstance(activation, str) or activation not in ACTIVATIONS:
        raise InputError(
            f"{path}: hidden_act = {activation!r} is not supported",
            remedy=f"one of {', '.join(ACTIVATIONS)}",
        )
    fields = {
        "vocab_size": values.get("vocab_size"),
        "width": values.get("hidden_size"),
        "depth": values.get("num_hidden_layers"),
        "heads": values.get("num_attention_heads"),
        "ffn": values.get("intermediate_size"),
        "context": values.get("max_position_embeddings", 512),
        "types": values.get("type_vocab_size", 2),
        "norm_eps": values.get("layer_norm_eps", 1e-12),
        "activation": ACTIVATIONS[activation],
        "dropout": values.get("hidden_dropout_prob", 0.1),
        "pad_id": values.get("pad_token_id", 0),
        "pooler": pooler,
    }
    return parse_config(EncoderConfig, fields, str(path))


def labels_of(values: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    """The names of a classifier's classes, in order."""
    named = values.get("id2label")
    try:
        if named is None:
            return tuple(f"LABEL_{number}" for number in range(values.get("num_labels", 2)))
        labels = tuple(str(label) for _, label in sorted((int(k), v) for k, v in named.items()))
    except (AttributeError, TypeError, ValueError):
        labels = ()
    if not labels or len(set(labels)) != len(labels):
        raise InputError(f"{path}: id2label = {named!r} is not valid", remedy="mend the file")
    return labels


def to_bert(
    config: EncoderConfig, architecture: str, dtype: str, labels: tuple[str, ...] = ()
) -> dict[str, Any]:
    """``config.json`` of one of the three architectures."""
    words = {ours: theirs for theirs, ours in ACTIVATIONS.items()}
    values: dict[str, Any] = {
        "architectures": [architecture],
        "model_type": "bert",
        "vocab_size": config.vocab_size,
        "hidden_size": config.width,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "intermediate_size": config.ffn,
        "max_position_embeddings": config.context,
        "type_vocab_size": config.types,
        "layer_norm_eps": config.norm_eps,
        "hidden_act": words[config.activation],
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": 0.0,
        "position_embedding_type": "absolute",
        "initializer_range": 0.02,
        "pad_token_id": config.pad_id,
        "dtype": dtype,
    }
    if labels:
        values |= {
            "id2label": {str(number): label for number, label in enumerate(labels)},
            "label2id": {label: number for number, label in enumerate(labels)},
        }
    return values
