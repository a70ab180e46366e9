"""Embedder training as a whole: it learns, repeats, goes on after a kill, and refuses bad input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fledge.core.errors import InputError
from fledge.core.files import file_digest, read_jsonl
from fledge.core.protocols import Silent
from fledge.core.run import Outcome
from fledge.model.encoder import Encoder
from fledge.model.encoder_config import EncoderConfig, Pooling, TextSettings
from fledge.model.static_encoder import StaticEncoder
from fledge.model.text_encoder import TextEncoder
from fledge.tune.embedder import _embed, _lesson, embedder_objective
from fledge.tune.embedder_config import EmbedderConfig
from fledge.tune.embedder_loader import PairBatches
from fledge.tune.embedder_model import EncoderStudent, open_student
from fledge.tune.embedder_open import open_embedder
from fledge.tune.embedder_rows import parse_row
from fledge.tune.embedder_teacher import teacher_vectors
from pico_embedder import (
    CHINESE,
    ENGLISH,
    SMALL,
    child_arguments,
    run_embedder,
    sentences,
    words,
    write_pairs,
    write_world,
)
from pico_runs import StopsAt

RESULTS = ("model/model.safetensors", "model/tokenizer.json", "loss.jsonl", "validation.jsonl")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def trained(files: list[Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    out = tmp_path_factory.mktemp("embedder") / "out"
    return out, run_embedder(files, out)


def digests(out: Path) -> dict[str, str]:
    return {name: file_digest(out / name) for name in RESULTS}


def test_it_learns_two_languages(trained: tuple[Path, Outcome]) -> None:
    """From random vectors: a Chinese sentence finds its English one among those held out."""
    out, done = trained
    assert done.figures["embedder.mrr_before"] < 0.5
    assert done.figures["embedder.sentences.mrr"] > 0.9
    assert done.counts["pairs"] + done.counts["held_out"] == 215
    found = StaticEncoder.load(out / "model")
    assert found.rows.dtype == np.int8
    scores = found.vectors(CHINESE) @ found.vectors(ENGLISH).T
    assert (scores.argmax(1) == np.arange(len(CHINESE))).mean() > 0.9


def test_held_out_figures_are_told_every_epoch(trained: tuple[Path, Outcome]) -> None:
    rows = list(read_jsonl(trained[0] / "validation.jsonl"))
    assert len(rows) == 6
    assert rows[-1]["mrr"] > rows[0]["mrr"]
    assert {"hit1", "hit10", "sentences.mrr"} <= set(rows[0])


def test_stopped_and_continued_is_the_same_run(
    files: list[Path], trained: tuple[Path, Outcome], tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_embedder(files, tmp_path / "out", StopsAt(20))
    run_embedder(files, tmp_path / "out")
    assert digests(tmp_path / "out") == digests(trained[0])


@pytest.mark.slow
def test_killed_and_continued_is_the_same_run(files: list[Path], tmp_path: Path) -> None:
    """kill -9 between saved states."""
    out = tmp_path / "out"
    arguments = child_arguments(files, out, checkpoint_every_steps=5, epochs=10.0)
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    process = subprocess.Popen([sys.executable, *arguments], env=environment)
    deadline = time.monotonic() + 120
    while not list((out / "state").glob("step-*")):
        assert process.poll() is None, "it finished before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.kill()
    process.wait()
    assert not (out / "model").exists()
    whole = tmp_path / "whole"
    run_embedder(files, out, epochs=10.0, checkpoint_every_steps=5)
    run_embedder(files, whole, epochs=10.0, checkpoint_every_steps=5)
    assert digests(out) == digests(whole)


def test_a_teacher_is_followed(
    files: list[Path], trained: tuple[Path, Outcome], tmp_path: Path
) -> None:
    """Both sides of a row come to lie where the teacher puts the English one."""
    values = {"teacher": str(trained[0] / "model"), "contrast": 0.0, "table": {"dimensions": 8}}
    done = run_embedder(files, tmp_path / "out", **values)
    config = EmbedderConfig.model_validate({**SMALL, **values})
    batches = _lesson(config, files, tmp_path / "again", Silent(), None).batches
    taught = [row for row in batches.rows if row.source == "sentences"]
    batch = batches[0]
    assert batch.signals is not None
    assert batch.signals.square().sum(-1).tolist() == pytest.approx([1.0] * len(batch.signals))
    shown = np.stack([batches.taught[row.positive] for row in taught])
    embed = open_embedder(tmp_path / "out" / "model")
    for side in ("query", "positive"):
        cosines = (embed([getattr(row, side) for row in taught]) * shown).sum(1)
        assert cosines.mean() > 0.9, side
    assert done.figures["embedder.sentences.hit10"] > 0.9


def test_teacher_vectors_are_kept_and_checked(tmp_path: Path) -> None:
    asked: list[int] = []

    def embed(texts: Any) -> Any:
        asked.append(len(texts))
        return np.ones((len(texts), 4), dtype=np.float32)

    def read(texts: list[str]) -> Any:
        return teacher_vectors("teacher", texts, tmp_path / "kept", Silent(), embed=embed)

    assert read(["a", "b"]).shape == (2, 4)
    assert read(["a", "b"]).shape == (2, 4)
    assert asked == [2]
    read(["a", "c"])
    assert asked == [2, 2]


def test_matryoshka_makes_short_vectors_do(files: list[Path], tmp_path: Path) -> None:
    run_embedder(files, tmp_path / "out", matryoshka=[4])
    whole = StaticEncoder.load(tmp_path / "out" / "model")
    rows = sentences(60, seed=5)
    short = whole.cut(4)
    scores = short.vectors([r["zh"] for r in rows]) @ short.vectors([r["en"] for r in rows]).T
    assert (scores.argmax(1) == np.arange(len(rows))).mean() > 0.5
    with pytest.raises(InputError, match="at most 16"):
        run_embedder(files, tmp_path / "other", matryoshka=[32])


@pytest.mark.slow
def test_an_encoder_learns_too(
    files: list[Path], trained: tuple[Path, Outcome], tmp_path: Path
) -> None:
    """A transformer of one layer with the words of the table; its folder opens as it was saved."""
    tokenizer = StaticEncoder.load(trained[0] / "model").tokenizer
    config = EncoderConfig(
        vocab_size=tokenizer.get_vocab_size(), width=16, depth=1, heads=2, ffn=32, context=32
    )
    settings = TextSettings(pooling=Pooling(how="mean"), max_tokens=32)
    model = Encoder(config).initialize(1)
    TextEncoder(model, tokenizer, settings).save(tmp_path / "base")
    done = run_embedder(
        files,
        tmp_path / "out",
        model=tmp_path / "base",
        epochs=30.0,
        learning_rate=5e-3,
        embedding_learning_rate=5e-3,
        chunk_rows=5,
    )
    assert done.figures["embedder.sentences.mrr"] > done.figures["embedder.mrr_before"] + 0.2
    student = open_student(tmp_path / "out" / "model", context=32)
    assert isinstance(student, EncoderStudent)
    texts = ["stone water", "桥梁"]
    np.testing.assert_allclose(
        _embed(student)(texts), open_embedder(tmp_path / "out" / "model")(texts), atol=1e-5
    )


def test_chunks_change_memory_only(files: list[Path], trained: tuple[Path, Outcome]) -> None:
    """Loss and gradients of a batch are those of the batch whole (arXiv:2101.06983)."""
    found = {}
    for chunk in (None, 3):
        student = open_student(trained[0] / "model", context=32)
        rows = [parse_row({**row, "negatives": [ENGLISH[0]]}, "s") for row in sentences(10)]
        batch = PairBatches(rows, student.encode, batch_rows=10, negatives=2, seed=0)[0]
        config = EmbedderConfig.model_validate({**SMALL, "negatives": 2, "chunk_rows": chunk})
        loss = embedder_objective(config)(student, batch)  # type: ignore[arg-type]
        loss.backward()
        found[chunk] = [loss.detach(), *(weight.grad for weight in student.parameters())]
    for whole, pieces in zip(found[None], found[3], strict=True):
        torch.testing.assert_close(whole, pieces)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"query": "a"}, "a row has query and positive, or en and zh"),
        ({"query": "a", "positive": " "}, "positive is no text"),
        ({"en": "a", "zh": 3}, "zh is no text"),
        ({"query": "a", "positve": "b"}, "did you mean 'positive'"),
        ({"query": "a", "positive": "b", "negatives": "c"}, "negatives is no list of texts"),
        ({"query": "a", "positive": "b", "negatives": [""]}, "negatives is no list of texts"),
        ({"query": "a", "positive": "b", "source": 1}, "source is no text"),
        ([], "not an object"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, row: Any, problem: str) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text(json.dumps(words()[0]) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(InputError, match=rf"pairs.jsonl.*2.*{problem}"):
        run_embedder([file], tmp_path / "out")


def test_bad_settings_are_named(files: list[Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"repeats.word.*did you mean 'words'"):
        run_embedder(files, tmp_path / "a", repeats={"word": 2})
    with pytest.raises(InputError, match="holds no pairs"):
        run_embedder([write_pairs(tmp_path / "none.jsonl", [])], tmp_path / "b")
    with pytest.raises(InputError, match="is no folder"):
        run_embedder(files, tmp_path / "c", teacher=str(tmp_path / "nobody"))
    with pytest.raises(ValueError, match="chunk_rows"):
        EmbedderConfig(micro_rows=4)
    bad = write_pairs(tmp_path / "counts.jsonl", [{"word": "a", "count": 0}])
    with pytest.raises(InputError, match=r"counts.jsonl, line 1"):
        run_embedder(files, tmp_path / "d", table={"dimensions": 4, "frequencies": str(bad)})


def test_going_on_from_a_table(
    files: list[Path], trained: tuple[Path, Outcome], tmp_path: Path
) -> None:
    done = run_embedder(files, tmp_path / "out", model=trained[0] / "model", epochs=1.0)
    assert done.figures["embedder.mrr_before"] > 0.9
    again = StaticEncoder.load(tmp_path / "out" / "model")
    assert again.rows.dtype == np.int8
    assert (
        again.tokenizer.get_vocab()
        == StaticEncoder.load(trained[0] / "model").tokenizer.get_vocab()
    )
