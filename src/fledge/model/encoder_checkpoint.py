"""Weights in and out: an ``Encoder``, ``Classifier`` or ``MaskedLM`` <-> a BERT directory."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from fledge.core.errors import InputError
from fledge.core.files import read_json, write_json
from fledge.model.bert import (
    CLASSIFIER,
    ENCODER,
    MASKED_LM,
    bert_name,
    from_bert,
    labels_of,
    plain_name,
    stored_name,
    to_bert,
)
from fledge.model.encoder import Encoder
from fledge.model.encoder_config import EncoderConfig
from fledge.model.encoder_heads import Classifier, MaskedLM
from fledge.model.locate import find_checkpoint
from fledge.model.sentence_folder import (
    MODULES,
    read_settings,
    transformer_folder,
    write_settings,
)
from fledge.model.stored import SINGLE, StoredTensors
from fledge.model.weights import (
    DTYPES,
    check_dtype,
    check_size,
    check_sources,
    place,
    weights_file,
)

ModelT = TypeVar("ModelT", bound=nn.Module)

HEADS = ("cls.", "classifier.")
"""Weights that an encoder alone has no place for; ``load_encoder`` leaves them out."""

REDUNDANT = (
    "embeddings.position_ids",  # 0, 1, 2, …: old writers stored it
    "cls.predictions.decoder.",  # twins of tied weights
)

NEXT_SENTENCE = "cls.seq_relationship."


def load_encoder(
    path: Path | str, *, dtype: str = "float32", device: torch.device | str = "cpu"
) -> Encoder:
    """The encoder at ``path`` (any BERT directory; heads are left out), in evaluation mode.

    Weights are read memory-mapped and converted to ``dtype``, which is also the type it computes
    in.  ``text_settings`` is what a sentence-transformers folder says about pooling, length and
    prompts.  Raises InputError naming the file and what is wrong with it.
    """

    def build(config: EncoderConfig, values: dict[str, Any], file: Path) -> Encoder:
        return Encoder(config, DTYPES[dtype])

    model = _load(path, dtype, device, build, ignored=HEADS)
    model.text_settings = read_settings(encoder_folder(path), model.config)
    return model


def load_classifier(
    path: Path | str, *, dtype: str = "float32", device: torch.device | str = "cpu"
) -> Classifier:
    """The classifier or reranker at ``path`` (BertForSequenceClassification)."""

    def build(config: EncoderConfig, values: dict[str, Any], file: Path) -> Classifier:
        return Classifier(config, labels_of(values, file), DTYPES[dtype])

    return _load(path, dtype, device, build, ignored=())


def load_masked_lm(
    path: Path | str, *, dtype: str = "float32", device: torch.device | str = "cpu"
) -> MaskedLM:
    """The masked language model at ``path`` (BertForMaskedLM, BertForPreTraining)."""

    def build(config: EncoderConfig, values: dict[str, Any], file: Path) -> MaskedLM:
        if not values.get("tie_word_embeddings", True):
            raise InputError(f"{file}: untied embeddings are not supported", remedy="tie them")
        return MaskedLM(config, DTYPES[dtype])

    return _load(path, dtype, device, build, ignored=(NEXT_SENTENCE,))


def save_encoder(
    model: Encoder | Classifier | MaskedLM, folder: Path, *, dtype: str = "float32"
) -> None:
    """Write ``config.json`` and ``model.safetensors``, which transformers opens, to ``folder``.

    With ``text_settings`` an encoder also leaves the files that sentence-transformers opens.
    ``dtype``: "float32", "bfloat16" or "float16".
    """
    check_dtype(dtype)
    alone = isinstance(model, Encoder)
    config = model.config if isinstance(model, Encoder) else model.encoder.config
    labels = model.labels if isinstance(model, Classifier) else ()
    named = {Encoder: ENCODER, Classifier: CLASSIFIER, MaskedLM: MASKED_LM}[type(model)]
    weights = {stored_name(name, alone): tensor for name, tensor in model.named_parameters()}
    folder.mkdir(parents=True, exist_ok=True)
    with weights_file(weights, DTYPES[dtype], folder / SINGLE) as file:
        write_json(folder / "config.json", to_bert(config, named, dtype, labels))
        if isinstance(model, Encoder) and model.text_settings is not None:
            write_settings(folder, model.text_settings, config.width)
        shutil.copymode(folder / "config.json", file)  # save_file leaves it to the owner


def unused_tensors(folder: Path, model: nn.Module) -> list[str]:
    """The tensors stored in ``folder`` that ``model``, loaded from there, left out, sorted."""
    used = {bert_name(name) for name, _ in model.named_parameters()}
    with StoredTensors(folder) as stored:
        known = {plain_name(name): name for name in stored.names}
    return sorted(known[n] for n in known.keys() - used if not n.startswith(REDUNDANT))


def encoder_folder(path: Path | str) -> Path:
    """The folder that ``path`` means: a sentence-transformers, BERT, stage or run directory."""
    return Path(path) if (Path(path) / MODULES).is_file() else find_checkpoint(path)


def _load(
    path: Path | str,
    dtype: str,
    device: torch.device | str,
    build: Callable[[EncoderConfig, dict[str, Any], Path], ModelT],
    ignored: tuple[str, ...],
) -> ModelT:
    check_dtype(dtype)
    folder = find_checkpoint(transformer_folder(encoder_folder(path)))
    file = folder / "config.json"
    values = read_json(file)
    with StoredTensors(folder) as stored:
        known = {plain_name(name): name for name in stored.names}
        config = from_bert(values, file, pooler="pooler.dense.weight" in known)
        check_size(config.parameters, stored)
        with torch.device("meta"):  # no memory yet
            model = build(config, values, file)
        for name, source in _sources(model, stored, known, (*ignored, *REDUNDANT)).items():
            # A copy in any case: what stays mapped would change with the file.
            place(model, name, stored.read(source).to(device, DTYPES[dtype], copy=True))
    return model.eval()


def _sources(
    model: nn.Module, stored: StoredTensors, known: dict[str, str], ignored: tuple[str, ...]
) -> dict[str, str]:
    """The stored tensor for each parameter; every one once, of its shape, nothing left over.

    ``known``: plain name -> stored name.
    """
    plain = {name: bert_name(name) for name, _ in model.named_parameters()}
    sources = {name: known.get(theirs, theirs) for name, theirs in plain.items()}
    check_sources(model, stored, sources)
    left = sorted(n for n in known.keys() - plain.values() if not n.startswith(ignored))
    if left:
        raise InputError(
            f"{stored.file(known[left[0]])}: tensor {left[0]} has no place in the model",
            remedy="only the plain BERT layout is supported",
        )
    return sources
