"""Checks of whole training runs of a pico model: micro-batches add up, and a cut leaves no mark."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fledge.core.files import file_digest, read_jsonl, write_json
from fledge.core.protocols import Bar
from fledge.model.checkpoint import save_model
from fledge.model.decoder import Decoder
from fledge.train.config import PretrainConfig
from fledge.train.pretrain import pretrain
from fledge.train.shards import TokenShards
from fledge.train.verify.check import (
    LOSS_TOLERANCE,
    Check,
    Subject,
    documents,
    relative,
    skipped,
)
from fledge.train.verify.pico import pico_config

STEPS = 6
SAVED = 3
ROWS = 4
LENGTHS = (31, 29, 6)
"""With a context of 32: three rows of different weight, and an empty one."""

NEEDS = "needs token shards and a tokenizer"


class _StoppedError(Exception):
    """Ends a run as a power cut would: nothing is saved on the way out."""


class _Watch:
    """A progress that counts steps of the bar ``pretrain`` and may pull the plug."""

    def __init__(self, stop_at: int | None = None) -> None:
        self._stop_at = stop_at
        self.started: float | None = None
        self.steps = 0

    def say(self, line: str) -> None:
        """Nobody listens."""

    def bar(
        self, label: str, total: float | None, unit: str, done: float = 0
    ) -> AbstractContextManager[Bar]:
        return self._bar(label, done)

    @contextmanager
    def _bar(self, label: str, done: float) -> Iterator[Bar]:
        if label == "pretrain":
            self.started = done
            yield self
        else:
            yield _Still()

    def advance(self, amount: float = 1, note: str = "") -> None:
        self.steps += 1
        if self.steps == self._stop_at:
            raise _StoppedError


class _Still:
    def advance(self, amount: float = 1, note: str = "") -> None:
        """Another bar."""


def resume(subject: Subject) -> Check:
    """Steps at once, and half of them, cut off, and the rest: weights alike, bit for bit."""
    if subject.tokens is None or subject.tokenizer_folder is None:
        return skipped("resume", NEEDS)
    config = _config(subject, steps=STEPS, micro_rows=2, checkpoint_every_steps=SAVED)
    whole = _run(config, subject, "whole", None)
    _run(config, subject, "parts", SAVED + 1)
    rest = _run(config, subject, "parts", None)
    digests = [_digest(subject.scratch / name) for name in ("whole", "parts")]
    went_on = rest.steps == STEPS - SAVED
    return Check(
        "resume",
        digests[0] == digests[1] and went_on,
        f"{whole.steps} steps on {subject.data}: SHA-256 of the weights {digests[0][:12]}; cut off "
        f"in step {SAVED + 1} and gone on for {rest.steps}: {digests[1][:12]}"
        + ("" if went_on else f" (it should have gone on for {STEPS - SAVED})"),
    )


def accumulation_in_training(subject: Subject) -> Check:
    """The loop's first step on whole batches and row by row: the same loss is logged."""
    name = "accumulation-in-training"
    if subject.tokens is None or subject.tokenizer_folder is None:
        return skipped(name, NEEDS)
    losses = []
    uneven = replace(subject, tokens=_uneven(subject))
    for rows in (ROWS, 1):
        config = _config(subject, epochs=1, micro_rows=rows, precision="fp32")
        _run(config, uneven, f"micro-{rows}", None)
        first = next(iter(read_jsonl(subject.scratch / f"micro-{rows}" / "loss.jsonl")))
        losses.append(float(first["loss"]))
    off = relative(*losses)
    return Check(
        name,
        off <= LOSS_TOLERANCE,
        f"first step on documents of {subject.data} of {', '.join(map(str, LENGTHS))} tokens: loss "
        f"{losses[0]:.7f} with {ROWS} rows at once, {losses[1]:.7f} with one (relative {off:.1e})",
    )


def _uneven(subject: Subject) -> Path:
    """Shards of so few documents that rows differ in weight, and one of a batch is empty."""
    assert subject.tokens is not None
    shards = TokenShards(subject.tokens, "train")
    kind = np.uint16 if shards.vocab_size <= 65536 else np.uint32
    texts = documents(subject, LENGTHS)
    folder = subject.scratch / "uneven"
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "train-00000.npy", np.concatenate(texts).astype(kind))
    np.save(folder / "train-00000.offsets.npy", np.cumsum([0, *LENGTHS]).astype(np.int64))
    counts = {"tokens": sum(LENGTHS), "documents": len(LENGTHS), "bytes": sum(LENGTHS)}
    none = {"tokens": 0, "documents": 0, "bytes": 0, "shards": []}
    described = {
        "dtype": np.dtype(kind).name,
        "vocab_size": shards.vocab_size,
        "endoftext_id": shards.endoftext_id,
        "end_id": shards.end_id,
        "splits": {
            "train": {**counts, "shards": [{"file": "train-00000.npy", **counts}]},
            "validation": none,
        },
    }
    write_json(folder / "index.json", described)
    return folder


def _config(subject: Subject, **settings: Any) -> PretrainConfig:
    """A short run of a pico sibling of the model, on one thread."""
    source = subject.scratch / "pico"
    shape = pico_config(subject.model.config)
    save_model(Decoder(shape).initialize(subject.seed), source)
    values = {
        "init": str(source),
        "context": shape.context,
        "batch_rows": ROWS,
        "compile": False,
        "device": "cpu",
        "threads": 1,
        "validation_tokens": 256,
        "seed": subject.seed,
    }
    return PretrainConfig.model_validate({**values, **settings})


def _run(config: PretrainConfig, subject: Subject, name: str, stop_at: int | None) -> _Watch:
    """Train into ``scratch/name``, to the end or cut off in a step."""
    watch = _Watch(stop_at)
    assert subject.tokens is not None  # resume() has looked
    assert subject.tokenizer_folder is not None
    out = subject.scratch / name
    with suppress(_StoppedError):
        pretrain(config, subject.tokens, subject.tokenizer_folder, out, watch)
    return watch


def _digest(out: Path) -> str:
    path = out / "model" / "model.safetensors"
    return file_digest(path) if path.is_file() else "no model at all"
