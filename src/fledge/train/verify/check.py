"""A subject (model, tokenizer, data) and checks in, verdicts with the numbers compared out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fledge.core.errors import FledgeError
from fledge.core.protocols import Progress
from fledge.model.decoder import Decoder
from fledge.tokenizer.tokenizer import Tokenizer
from fledge.train.batch import Batch, Rows
from fledge.train.shards import TokenShards

LOSS_TOLERANCE = 1e-5
"""Relative; float32 sums in another order differ by about 1e-7 a term."""

GRADIENT_TOLERANCE = 1e-4
"""Relative to the gradient's norm."""

LOGIT_TOLERANCE = 1e-5
"""Relative to the largest logit."""


@dataclass(frozen=True)
class Check:
    """What a check found.  ``ok`` None: not applicable, ``compared`` says why."""

    name: str
    ok: bool | None
    compared: str


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is verified.  ``model`` is on CPU, in float32, in evaluation mode."""

    model: Decoder
    source: Path | None
    """The checkpoint's folder; None for a model made for the occasion."""
    tokenizer: Tokenizer | None
    tokenizer_folder: Path | None
    tokens: Path | None
    conversations: tuple[Path, ...]
    own_conversations: bool
    """Whether they are the user's, not the built-in sample's."""
    data: str
    """What the data is, for people."""
    scratch: Path
    """An empty folder that may be written to."""
    seed: int = 0


CheckFunction = Callable[[Subject], Check]


def run_checks(
    subject: Subject, checks: Sequence[CheckFunction], progress: Progress
) -> list[Check]:
    """Every check in turn.  One that raises has failed, and its verdict says how."""
    found = []
    with progress.bar("verify", len(checks), "checks") as bar:
        for check in checks:
            found.append(_guarded(check, subject))
            bar.advance(note=found[-1].name)
    return found


def name_of(check: CheckFunction) -> str:
    """The name a check goes by: its function's."""
    return check.__name__.strip("_").replace("_", "-")


def _guarded(check: CheckFunction, subject: Subject) -> Check:
    threads = torch.get_num_threads()
    try:
        return check(subject)
    except FledgeError as error:
        return Check(name_of(check), False, str(error))
    except Exception as error:  # whatever a broken model raises is what the user must see
        reason = (str(error).strip() or "no message").splitlines()[0]
        return Check(name_of(check), False, f"raised {type(error).__name__}: {reason}")
    finally:
        subject.model.zero_grad(set_to_none=True)
        torch.set_num_threads(threads)


def documents(subject: Subject, lengths: Sequence[int]) -> list[NDArray[np.int64]]:
    """Token ids of documents of these lengths: from the user's shards, else drawn at random.

    Documents of the shards that are too short are repeated until they are long enough.
    """
    if subject.tokens is not None:
        shards = TokenShards(subject.tokens, "train")
        order = np.argsort(-shards.lengths[:1000], kind="stable")
        found = []
        for place, length in enumerate(lengths):
            ids = shards.read(int(order[place % len(order)]), 0, length).astype(np.int64)
            found.append(np.resize(ids, length))
        return found
    generator = np.random.default_rng(subject.seed)
    return [generator.integers(0, subject.model.config.vocab_size, n) for n in lengths]


def rows_of(layout: Sequence[Sequence[NDArray[np.int64]]], width: int) -> Batch:
    """A batch whose rows hold these documents; each token predicts the next of its document."""
    rows = Rows(len(layout), width, 0)
    number = 0
    for place, row in enumerate(layout):
        start = 0
        for ids in row:
            stop = start + len(ids)
            rows.ids[place, start:stop] = ids
            rows.targets[place, start : stop - 1] = ids[1:]
            rows.segments[place, start:stop] = number
            rows.weights[place, start : stop - 1] = 1.0
            start, number = stop, number + 1
    return rows.batch()


def flat_gradient(model: Decoder) -> Tensor:
    """All gradients as one float64 vector; zeros where there is none."""
    parts = [
        (p.grad if p.grad is not None else torch.zeros_like(p)).detach().double().flatten()
        for p in model.parameters()
    ]
    return torch.cat(parts)


def relative(one: float, other: float) -> float:
    """|one - other| relative to the larger; 0 when both are 0; infinite for NaN."""
    if one == other:
        return 0.0
    size = max(abs(one), abs(other))
    distance = abs(one - other) / size
    return distance if distance == distance else float("inf")


def distance(one: Tensor, other: Tensor) -> float:
    """The largest difference relative to the largest value; infinite when any is NaN."""
    if not (torch.isfinite(one).all() and torch.isfinite(other).all()):
        return float("inf")
    scale = float(torch.maximum(one.abs().max(), other.abs().max()))
    return float((one - other).abs().max()) / scale if scale else 0.0


def skipped(name: str, why: str) -> Check:
    """The verdict of a check that does not apply."""
    return Check(name, None, why)
