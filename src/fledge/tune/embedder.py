"""``fledge embed train``: texts that belong together in, an embedder that finds one by the other.

Contrastive learning with the negatives of the batch and mined ones, beside a teacher's vectors
(arXiv:2004.09813) where there is one, at several lengths of a vector (arXiv:2205.13147).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import AdamW, Optimizer
from torch.utils.checkpoint import checkpoint

from fledge.core.errors import InputError
from fledge.core.protocols import Progress
from fledge.core.run import Outcome
from fledge.model.decoder import Decoder
from fledge.train.batch import Batch
from fledge.train.device import arithmetic, choose_device
from fledge.train.ema import Average
from fledge.train.job import Training
from fledge.train.loop import train
from fledge.train.objective import Objective
from fledge.train.rates import EPS
from fledge.tune.embedder_config import EmbedderConfig
from fledge.tune.embedder_held_out import held_out_figures
from fledge.tune.embedder_loader import PairBatches
from fledge.tune.embedder_model import Student, open_student
from fledge.tune.embedder_open import open_embedder
from fledge.tune.embedder_rows import PairRow, read_pair_rows, set_apart
from fledge.tune.embedder_start import gather_words, new_table
from fledge.tune.embedder_teacher import Projection, teacher_vectors
from fledge.tune.losses.contrastive import cosine_distance, info_nce, matryoshka

EPOCHS = 3.0
"""Passes over the pairs when neither epochs nor steps are given."""

FIT = 50_000
"""Vectors of the teacher that its principal directions are taken from, at most."""

Vectors = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """Who learns what."""

    student: Student
    batches: PairBatches
    held_out: list[PairRow]


def train_embedder(
    config: EmbedderConfig,
    files: Sequence[Path],
    out: Path,
    progress: Progress,
    *,
    model: Path | None = None,
) -> Outcome:
    """Train the embedder at ``model``, or a new table of words; it goes to ``out/model``.

    Counts: pairs, held_out, steps, parameters, …  Figures, of held-out pairs, each looked for
    among those of its source: ``embedder.hit1``, ``.hit10``, ``.mrr`` (means over sources) and
    each with ``<source>.``; ``embedder.mrr_before``.  Raises InputError naming what is wrong.
    """
    device = choose_device(config)
    with arithmetic(config, device):
        lesson = _lesson(config, files, out, progress, model)
        lesson.student.to(device)
        measure = partial(held_out_figures, _embed(lesson.student), lesson.held_out)
        before = measure() if config.held_out else {}
        position = train(_job(config, lesson, measure, out), progress)
        lesson.student.save(out / "model")
    found = held_out_figures(open_embedder(out / "model"), lesson.held_out)
    figures = {f"embedder.{name}": value for name, value in found.items()}
    if before:
        figures["embedder.mrr_before"] = before["mrr"]
    return Outcome(
        counts={
            "pairs": len(lesson.batches.rows),
            "held_out": len(lesson.held_out),
            "steps": position.step,
            "tokens": position.tokens,
            **position.trouble,
            "parameters": lesson.student.config.parameters,
            "dimensions": lesson.student.config.width,
        },
        figures=figures,
    )


def _lesson(
    config: EmbedderConfig, files: Sequence[Path], out: Path, progress: Progress, model: Path | None
) -> Lesson:
    trained, held_out = set_apart(read_pair_rows(files, config.taught), config.held_out)
    progress.say(f"{len(trained):,} pairs to learn from, {len(held_out):,} held out")
    kept = out / "state" / "teacher"
    texts = list(dict.fromkeys(text for row in trained for text in row.taught if text is not None))
    meanings: dict[str, Vectors] = {}
    if model is None:
        words = gather_words(config.table, trained)
        progress.say(f"{len(words.counts):,} words")
        if config.teacher:
            known = [word for word in words.counts if word.isascii()]
            meanings = _taught(config, [*texts, *known], config.table.dimensions, kept, progress)
        student: Student = new_table(config, words, trained, meanings)
    else:
        student = open_student(model, context=config.max_tokens)
        if config.teacher:
            meanings = _taught(config, texts, student.config.width, kept, progress)
    if max(config.matryoshka, default=0) > student.config.width:
        raise InputError(
            f"matryoshka = {config.matryoshka}: vectors have {student.config.width} dimensions",
            remedy=f"at most {student.config.width}",
        )
    batches = PairBatches(
        trained,
        student.encode,
        batch_rows=config.batch_rows,
        negatives=config.negatives,
        seed=config.seed,
        repeats=config.repeats,
        taught=meanings if config.distillation else None,
    )
    return Lesson(student=student, batches=batches, held_out=held_out)


def _taught(
    config: EmbedderConfig, texts: Sequence[str], size: int, kept: Path, progress: Progress
) -> dict[str, Vectors]:
    """What the teacher says of each text, in ``size`` dimensions."""
    assert config.teacher is not None
    texts = list(dict.fromkeys(texts))
    if not texts:
        return {}
    found = teacher_vectors(config.teacher, texts, kept, progress, limit=config.max_tokens)
    shown = Projection(found[:: max(1, len(found) // FIT)], size)(found)
    return dict(zip(texts, shown, strict=True))


def embedder_objective(config: EmbedderConfig) -> Objective:
    """The summed loss of the pairs of a batch (see ``PairBatches`` for its layout)."""

    def objective(model: Decoder, batch: Batch) -> Tensor:
        student = cast(Student, model)
        vectors = _vectors(student, batch, config.chunk_rows)
        pairs = len(vectors) // (2 + config.negatives)
        queries, positives = vectors[:pairs], vectors[pairs : 2 * pairs]
        numbers = batch.segments[:, 0]
        asked, found = numbers[:pairs], numbers[pairs : 2 * pairs]
        same = (
            (found[:, None] == found[None])
            | (asked[:, None] == asked[None])
            | (asked[:, None] == found[None])
        )
        hard = absent = None
        if config.negatives:
            hard = vectors[2 * pairs :].view(pairs, config.negatives, -1)
            absent = ~batch.weights[2 * pairs :].any(-1).view(pairs, config.negatives)
        loss = partial(info_nce, temperature=config.temperature, same=same, absent=absent)
        sizes = sorted({*config.matryoshka, vectors.shape[1]})
        total = config.contrast * matryoshka(loss, queries, positives, hard, sizes).sum()
        if batch.signals is not None and config.distillation:
            distances = cosine_distance(vectors, batch.signals)
            total = total + config.distillation * distances.sum()
        return total

    return objective


def _vectors(student: Student, batch: Batch, chunk: int | None) -> Tensor:
    """Unit vectors of all texts of a batch; a chunk's layers are forgotten and computed again."""
    mask = batch.weights > 0
    if chunk is None or chunk >= len(mask):
        return student.vectors(batch.ids, mask)
    parts = []
    for start in range(0, len(mask), chunk):
        ids, part = batch.ids[start : start + chunk], mask[start : start + chunk]
        longest = int(part.sum(1).max())
        cut = ids[:, :longest], part[:, :longest]
        parts.append(cast(Tensor, checkpoint(student.vectors, *cut, use_reentrant=False)))
    return torch.cat(parts)


def _job(
    config: EmbedderConfig, lesson: Lesson, measure: Callable[[], dict[str, float]], out: Path
) -> Training:
    """What the training loop is given."""
    student, batches = lesson.student, lesson.batches
    rows = config.batch_rows * (2 + config.negatives)
    steps = config.steps or batches.steps(config.epochs or EPOCHS)
    whole = {"batch_rows": rows, "micro_rows": rows, "compile": False}
    whole["validate_every"] = config.validate_every or batches.steps_per_epoch
    return Training(
        label="embedder",
        model=cast(Decoder, student),
        objective=embedder_objective(config),
        batches=batches,
        steps=steps,
        context=student.config.context,
        optimizers=_optimizers(config, student),
        config=config.model_copy(update=whole),
        validate=measure,
        out=out,
        count=lambda batch: len(batch.ids) / (2 + config.negatives),
    )


def _optimizers(config: EmbedderConfig, student: Student) -> list[Optimizer]:
    groups: list[dict[str, Any]] = []
    for name, weights, rate in student.rates():
        asked = config.embedding_learning_rate if name == "embedding" else config.learning_rate
        groups.append({"name": name, "params": weights, "lr": asked or rate})
        groups[-1]["weight_decay"] = config.weight_decay or 0.0
    found: list[Optimizer] = [
        AdamW(groups, betas=config.betas or (0.9, 0.95), eps=config.eps or EPS, fused=True)
    ]
    if config.ema is not None:
        found.append(Average((w for group in groups for w in group["params"]), config.ema))
    for optimizer in found:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return found


def _embed(student: Student) -> Callable[[Sequence[str]], Vectors]:
    """Vectors by the student as it stands, to measure it by."""

    @torch.no_grad()
    def embed(texts: Sequence[str]) -> Vectors:
        ids = student.encode(texts)
        order = sorted(range(len(ids)), key=lambda number: -len(ids[number]))
        out = np.zeros((len(ids), student.config.width), dtype=np.float32)
        for start in range(0, len(order), 256):
            part = order[start : start + 256]
            padded = torch.zeros((len(part), max(1, len(ids[part[0]]))), dtype=torch.long)
            mask = torch.zeros_like(padded, dtype=torch.bool)
            for place, number in enumerate(part):
                padded[place, : len(ids[number])] = torch.tensor(ids[number], dtype=torch.long)
                mask[place, : len(ids[number])] = True
            found = student.vectors(padded.to(student.device), mask.to(student.device))
            out[part] = found.cpu().numpy()
        return out

    return embed
