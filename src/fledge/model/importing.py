"""A checkpoint from anywhere in, a checked and clean Hugging Face directory out."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fledge.core.errors import FledgeError, InputError
from fledge.core.files import file_digest, replace_folder, sync_below, write_json
from fledge.core.protocols import Progress, Silent
from fledge.model.checkpoint import save_model
from fledge.model.decoder import Decoder
from fledge.model.encoder_checkpoint import save_encoder
from fledge.model.gguf.magic import is_gguf
from fledge.model.locate import holds_model
from fledge.model.source import Source, open_source
from fledge.model.tokenizer_check import check_tokenizer
from fledge.model.weights import check_dtype

MANIFEST = "import.json"


def import_checkpoint(
    path: Path | str,
    out: Path,
    *,
    dtype: str | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Check the checkpoint at ``path`` whole and write it to ``out``; returns ``import.json``.

    ``dtype`` None keeps the type the weights have.  Nothing is written to ``out`` before all is
    well; ``force`` replaces a former model there.  Raises InputError naming what is wrong.
    """
    progress = progress or Silent()
    source = open_source(path)
    check_place(out, source.path, force=force)
    written = dtype or source.dtype
    check_dtype(written)
    digests = _digests(source, progress)
    model = source.load(written, progress)
    warnings = check_weights(model, progress)
    shape = describe(model)
    files = source.tokenizer()
    found, doubts = check_tokenizer(files, shape["vocab_size"], special_ids(model))
    manifest = {
        "fledge": metadata.version("fledge"),
        "source": {"path": str(path), "kind": source.kind, "files": digests},
        "architecture": source.architecture,
        "stored": source.stored,
        "dtype": written,
        "model": shape,
        "tokenizer": found,
        "warnings": [*warnings, *losses(source, model, written), *doubts],
    }
    with partial_folder(out) as partial:
        progress.say(f"writing {out}")
        if isinstance(model, Decoder):
            save_model(model, partial, dtype=written)
        else:
            save_encoder(model, partial, dtype=written)  # type: ignore[arg-type]
        source.copy_rest(partial)
        write_json(partial / MANIFEST, manifest)
    return manifest


def check_place(out: Path, source: Path, *, force: bool, file: bool = False) -> None:
    """Raises InputError unless ``out`` may be written: free, or a former model and ``force``."""
    real, read = out.resolve(), source.resolve()
    if real == read or real in read.parents:
        raise InputError(f"--out {out} is or holds the source", remedy="name a new place")
    if file:
        if real.is_dir():
            raise InputError(f"--out {out} is a folder", remedy="name a file ending in .gguf")
        if real.exists() and not is_gguf(real):
            raise InputError(f"{out} exists and is no GGUF file", remedy="name a new file")
        if real.exists() and not force:
            raise InputError(f"{out} exists", remedy="add --force to replace it")
        return
    if real == Path.cwd() or real in Path.cwd().parents:
        raise InputError(f"--out {out} holds the folder you stand in", remedy="name a new folder")
    if real.is_file():
        raise InputError(f"--out {out} is a file", remedy="name a folder")
    if real.is_dir() and any(real.iterdir()):
        if not holds_model(real):
            raise InputError(f"{out} is not empty and no model", remedy="name a new folder")
        if not force:
            raise InputError(f"{out} exists", remedy="add --force to replace it")


@contextmanager
def partial_folder(out: Path) -> Iterator[Path]:
    """A hidden folder to write into; it takes the place of ``out`` when the block succeeds.

    Its name is none that a run gives: ``<stage>.partial`` may hold a training to go on with.
    """
    out = out.resolve()
    partial = out.with_name(f".{out.name}.incoming")
    partial.mkdir(parents=True, exist_ok=True)
    with _held(partial):
        try:
            _empty(partial)
            yield partial
            sync_below(partial)
            replace_folder(partial, out)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Keeps a second process from writing to ``folder``, without a file for it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise FledgeError(
            f"another fledge is writing {folder}", remedy="wait for it, or name another folder"
        ) from None
    finally:
        os.close(handle)


def _empty(folder: Path) -> None:
    """Delete what a killed import left in ``folder``."""
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def check_weights(model: nn.Module, progress: Progress) -> list[str]:
    """Warnings about the weights; raises InputError for one that is no finite number."""
    weights = list(model.named_parameters())
    zero = []
    total = sum(weight.nbytes for _, weight in weights)
    with progress.bar("checking weights", total, "B") as bar, torch.no_grad():
        for name, weight in weights:
            if not bool(torch.isfinite(weight).all()):
                raise InputError(
                    f"weight {name} has values that are no finite numbers",
                    remedy="the checkpoint is damaged, or --dtype float16 is too narrow for it",
                )
            if weight.ndim > 1 and not bool(weight.any()):
                zero.append(name)
            bar.advance(weight.nbytes)
    return [f"{len(zero)} matrices are all zero, such as {zero[0]}"] if zero else []


def describe(model: nn.Module) -> dict[str, Any]:
    """The shape: what the config says, and the number of weights."""
    config = config_of(model)
    values = config.model_dump(mode="json", exclude_none=True)
    return {"parameters": sum(weight.numel() for weight in model.parameters()), **values}


def config_of(model: nn.Module) -> Any:
    """The config of a decoder, an encoder, or an encoder with a head."""
    return model.config if hasattr(model, "config") else model.encoder.config  # type: ignore


def special_ids(model: nn.Module) -> Mapping[str, int]:
    """Name -> id of the special tokens that the model's config names."""
    config = config_of(model)
    named = {"bos_token_id": getattr(config, "bos_id", None), "pad_token_id": config.pad_id}
    ends = enumerate(getattr(config, "eos_ids", ()))
    named |= {f"eos_token_id[{number}]": token for number, token in ends}
    return {name: token for name, token in named.items() if token is not None}


def _digests(source: Source, progress: Progress) -> dict[str, str]:
    """Name -> SHA-256 of every file that is read."""
    files = source.files()
    digests = {}
    with progress.bar("digests", sum(file.stat().st_size for file in files), "B") as bar:
        for file in files:
            digests[os.path.relpath(file, source.top)] = file_digest(file)
            bar.advance(file.stat().st_size)
    return digests


def losses(source: Source, model: nn.Module, dtype: str) -> list[str]:
    """What of the source is not in ``model`` written as ``dtype``, in words."""
    kinds, left = source.rounded_to(dtype), source.left_out(model)
    said = [f"weights stored as {', '.join(kinds)} are rounded to {dtype}"] if kinds else []
    if left:
        said.append(f"{len(left)} tensors of other heads are left out, such as {left[0]}")
    return said
