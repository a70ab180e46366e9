"""Checks that a step's loss and gradient depend on the tokens alone, not on how they are laid."""

from __future__ import annotations

import torch
from torch import Tensor

from fledge.train.batch import Batch
from fledge.train.objective import cross_entropy
from fledge.train.verify.check import (
    GRADIENT_TOLERANCE,
    LOSS_TOLERANCE,
    Check,
    Subject,
    documents,
    flat_gradient,
    relative,
    rows_of,
)

LENGTHS = (23, 11, 17, 7, 19, 5)


def accumulation(subject: Subject) -> Check:
    """A batch at once, and row by row: the same loss and gradient, though rows differ in weight."""
    length = min(max(LENGTHS), subject.model.config.context)
    batch = rows_of([[ids] for ids in documents(subject, _lengths(subject))], length)
    whole, gradient = loss_and_gradient(subject, [batch])
    pieces, accumulated = loss_and_gradient(subject, list(batch.micro(1)))
    return _same("accumulation", "at once", whole, gradient, "row by row", pieces, accumulated)


def packing(subject: Subject) -> Check:
    """Documents alone, and packed into one row: the same loss and gradient."""
    lengths = _lengths(subject)
    texts = documents(subject, lengths)
    alone = [rows_of([[ids]], len(ids)) for ids in texts]
    rows: list[list[int]] = [[]]
    for number, length in enumerate(lengths):
        if sum(lengths[i] for i in rows[-1]) + length > subject.model.config.context:
            rows.append([])
        rows[-1].append(number)
    width = max(sum(lengths[i] for i in row) for row in rows)
    packed = rows_of([[texts[i] for i in row] for row in rows], width)
    apart, one = loss_and_gradient(subject, alone)
    together, other = loss_and_gradient(subject, [packed])
    return _same("packing", f"{len(texts)} alone", apart, one, "packed", together, other)


def padding(subject: Subject) -> Check:
    """The same rows with columns and a row of padding added: the same loss and gradient."""
    texts = documents(subject, _lengths(subject))
    longest = max(map(len, texts))
    width = max(longest, min(longest + 8, subject.model.config.context))
    bare = rows_of([[ids] for ids in texts], longest)
    padded = rows_of([*[[ids] for ids in texts], []], width)
    one, first = loss_and_gradient(subject, [bare])
    other, second = loss_and_gradient(subject, [padded])
    added = f"with {width - longest} columns and a row of padding"
    return _same("padding", "without", one, first, added, other, second)


def loss_and_gradient(subject: Subject, pieces: list[Batch]) -> tuple[float, Tensor]:
    """Loss a target and its gradient over all pieces, as the training loop adds them up."""
    model, objective = subject.model, cross_entropy()
    model.zero_grad(set_to_none=True)
    total = sum(float(piece.weights.sum()) for piece in pieces)
    loss = 0.0
    with torch.enable_grad():
        for piece in pieces:
            share = objective(model, piece) / total
            share.backward()  # type: ignore[no-untyped-call]
            loss += share.item()
    return loss, flat_gradient(model)


def _lengths(subject: Subject) -> tuple[int, ...]:
    return tuple(max(2, min(length, subject.model.config.context)) for length in LENGTHS)


def _same(
    name: str, left: str, one: float, first: Tensor, right: str, other: float, second: Tensor
) -> Check:
    norm = float(torch.maximum(first.norm(), second.norm()))
    off = float((first - second).norm()) / norm if norm else 0.0
    ok = relative(one, other) <= LOSS_TOLERANCE and off <= GRADIENT_TOLERANCE
    return Check(
        name,
        ok,
        f"loss {one:.7f} {left}, {other:.7f} {right} (relative {relative(one, other):.1e}); "
        f"gradient of norm {norm:.4g} differs by {off:.1e} of it",
    )
