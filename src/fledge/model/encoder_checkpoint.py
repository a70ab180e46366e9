"""Weights in and out: an ``Encoder``, ``Classifier`` or ``MaskedLM`` <-> a BERT directory."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from fledge.core.errors import InputError
from fledge.core.files import read_json, replacing, write_json
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

ModelT = TypeVar("ModelT", bound=nn.Module)
Read = Callable[[], Tensor]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

HEADS = ("cls.", "classifier.")
"""Weights that an encoder alone has no place for; ``load_encoder`` leaves them out."""

IGNORED = (
    "embeddings.position_ids",  # 0, 1, 2, …: old writers stored it
    "cls.predictions.decoder.bias",  # twins of tied weights
    "cls.seq_relationship.weight",  # next-sentence prediction
    "cls.seq_relationship.bias",
)


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

    return _load(path, dtype, device, build, ignored=("cls.predictions.decoder.weight",))


def save_encoder(
    model: Encoder | Classifier | MaskedLM, folder: Path, *, dtype: str = "float32"
) -> None:
    """Write ``config.json`` and ``model.safetensors``, which transformers opens, to ``folder``.

    With ``text_settings`` an encoder also leaves the files that sentence-transformers opens.
    ``dtype``: "float32", "bfloat16" or "float16".
    """
    _check_dtype(dtype)
    folder.mkdir(parents=True, exist_ok=True)
    alone = isinstance(model, Encoder)
    config = model.config if isinstance(model, Encoder) else model.encoder.config
    labels = model.labels if isinstance(model, Classifier) else ()
    named = {Encoder: ENCODER, Classifier: CLASSIFIER, MaskedLM: MASKED_LM}[type(model)]
    weights = {
        stored_name(name, alone): tensor.detach().to("cpu", DTYPES[dtype]).contiguous()
        for name, tensor in model.named_parameters()
    }
    write_json(folder / "config.json", to_bert(config, named, dtype, labels))
    if isinstance(model, Encoder) and model.text_settings is not None:
        write_settings(folder, model.text_settings, config.width)
    with replacing(folder / "model.safetensors") as temporary:
        save_file(weights, temporary, metadata={"format": "pt"})
        shutil.copymode(folder / "config.json", temporary)  # save_file leaves it to the owner


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
    _check_dtype(dtype)
    folder = find_checkpoint(transformer_folder(encoder_folder(path)))
    file = folder / "config.json"
    values = read_json(file)
    with _stored(folder) as stored:
        config = from_bert(values, file, pooler="pooler.dense.weight" in stored)
        model = build(config, values, file)
        left_out = (*ignored, *IGNORED)
        wanted = {name: read for name, read in stored.items() if not name.startswith(left_out)}
        _fill(model, wanted, folder)
    return model.to(device=device, dtype=DTYPES[dtype]).eval()


@contextmanager
def _stored(folder: Path) -> Iterator[dict[str, Read]]:
    """Plain names of the tensors in ``folder`` -> how to read one; files stay mapped inside."""
    index = folder / "model.safetensors.index.json"
    names = ["model.safetensors"]
    if not (folder / names[0]).is_file():
        names = sorted(set(read_json(index)["weight_map"].values()))
    stored: dict[str, Read] = {}
    with ExitStack() as stack:
        for file in (folder / name for name in names):
            try:
                tensors = stack.enter_context(safe_open(file, framework="pt"))
            except (SafetensorError, OSError) as error:
                raise InputError(
                    f"{file} cannot be read: {error}", remedy="copy it again"
                ) from None
            for name in tensors.keys():  # noqa: SIM118  (no mapping)
                stored[plain_name(name)] = partial(tensors.get_tensor, name)
        yield stored


def _fill(model: nn.Module, stored: dict[str, Read], folder: Path) -> None:
    """Copy the stored tensors into ``model``; every parameter once, nothing left over."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            read = stored.pop(bert_name(name), None)
            tensor = None if read is None else read()
            if tensor is None or tensor.shape != parameter.shape:
                found = "is missing" if tensor is None else f"has shape {tuple(tensor.shape)}"
                raise InputError(
                    f"{folder}: weight {bert_name(name)} {found}",
                    remedy=f"config.json asks for shape {tuple(parameter.shape)}",
                )
            if not tensor.is_floating_point():
                raise InputError(
                    f"{folder}: weight {bert_name(name)} has type {tensor.dtype}",
                    remedy="only float types are read",
                )
            parameter.copy_(tensor)
    if stored:
        raise InputError(
            f"{folder}: weight {min(stored)} has no place in the model",
            remedy="only the plain BERT layout is supported",
        )


def _check_dtype(dtype: str) -> None:
    if dtype not in DTYPES:
        raise InputError(f"dtype {dtype!r} is not known", remedy=f"use one of {', '.join(DTYPES)}")
