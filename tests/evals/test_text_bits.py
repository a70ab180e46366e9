"""Bits per byte of files: whole texts, exact bytes, documents apart."""

from __future__ import annotations

import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from fledge.core.errors import InputError
from fledge.core.files import write_jsonl
from fledge.engine import Engine, load_engine
from fledge.evals import evaluate_text
from fledge.evals import text as text_file
from fledge.evals.text import stride_of, window_of
from pico_model import write_pico_model

TEXT = "The Golden Gate Bridge opened in 1937.\r\n金门大桥于1937年建成通车。\n" * 9


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return load_engine(write_pico_model(tmp_path_factory.mktemp("runs")))


def test_a_text_is_scored_byte_for_byte(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(TEXT.encode())
    (row,) = evaluate_text(engine, [path])
    assert row["path"] == str(path)
    assert row["bytes"] == path.stat().st_size
    assert row["tokens"] == len(engine.tokenizer.encode(TEXT)) > engine.context
    (short,) = evaluate_text(engine, [path], stride=1)
    (long,) = evaluate_text(engine, [path], stride=engine.context)
    assert short["bits_per_byte"] != long["bits_per_byte"]


def test_windows_are_bounded_however_far_a_model_looks_back(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(TEXT.encode())
    whole = evaluate_text(engine, [path])
    monkeypatch.setattr(text_file, "WINDOW", 16)
    assert (window_of(engine), stride_of(engine, None), stride_of(engine, 99)) == (16, 8, 16)
    assert evaluate_text(engine, [path])[0]["bits_per_byte"] != whole[0]["bits_per_byte"]
    monkeypatch.setattr(text_file, "WINDOW", 4096)
    assert window_of(engine) == engine.context
    assert evaluate_text(engine, [path]) == whole


def test_the_figure_is_the_log_likelihood(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "short.txt"
    path.write_bytes("金门大桥于1937年".encode())
    (row,) = evaluate_text(engine, [path])
    nats = -sum(engine.logprobs([engine.tokenizer.endoftext_id, *engine.tokenizer.encode(
        "金门大桥于1937年")]))  # fmt: skip
    assert row["bits_per_byte"] == pytest.approx(nats / math.log(2) / path.stat().st_size, abs=1e-5)


def test_documents_of_parquet_and_jsonl_are_scored_apart(engine: Engine, tmp_path: Path) -> None:
    texts = ["The bridge opened in 1937.", "", "金门大桥"]
    rows = [{"text": text} for text in texts]
    write_jsonl(tmp_path / "d.jsonl", rows)
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "d.parquet")
    one, two = evaluate_text(engine, [tmp_path / "d.jsonl", tmp_path / "d.parquet"])
    assert {**one, "path": ""} == {**two, "path": ""}
    assert one["bytes"] == sum(len(text.encode()) for text in texts)
    whole = 0.0
    for text in texts:
        ids = [engine.tokenizer.endoftext_id, *engine.tokenizer.encode(text)]
        whole -= sum(engine.logprobs(ids))
    assert one["bits_per_byte"] == pytest.approx(whole / math.log(2) / one["bytes"], abs=1e-5)


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("missing.txt", None, "missing.txt"),
        ("empty.txt", b"", "holds no text"),
        ("latin.txt", b"caf\xe9", "not UTF-8"),
        ("bad.parquet", b"PAR1", "cannot be read as Parquet"),
        ("keys.jsonl", b'{"body": "x"}\n', "no key 'text'"),
        ("missing.parquet", None, "missing.parquet"),
        ("missing.jsonl", None, "does not exist"),
    ],
)
def test_bad_files_are_refused_by_name(
    engine: Engine, tmp_path: Path, name: str, data: bytes | None, says: str
) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=says):
        evaluate_text(engine, [tmp_path / name])
