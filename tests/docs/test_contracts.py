"""The ``--json`` tables of the reference against what the commands print."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest
from click.testing import CliRunner
from doc_pages import ROOT

from fledge.cli.main import fledge as doors
from fledge.core.protocols import Ending
from fledge.data.labelling.labels import Label
from fledge.data.labelling.log import LabelLog
from fledge.data.labelling.results import COUNTS
from fledge.guard.sandbox import KINDS, why_not
from fledge.server.errors import ApiError
from pico_model import write_pico_model

REFERENCE = ROOT / "docs" / "reference.md"
TEXT = "The old arch bridge over the river was opened in 1932 and carries two lanes of traffic."


def contract(command: str) -> set[str]:
    """The fields that the reference lists for ``command``."""
    text = REFERENCE.read_text(encoding="utf-8").split("## --json")[1].split("\n## ")[0]
    section = text.split(f"\n### {command}\n")[1].split("\n### ")[0]
    cells = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def printed(*words: str) -> list[dict[str, Any]]:
    """The JSON objects that a command prints."""
    done = CliRunner().invoke(doors, [*words, "--json"], catch_exceptions=False)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert rows
    return rows


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with texts, a built corpus, a tokenizer and a model."""
    folder = tmp_path_factory.mktemp("contracts")
    texts = folder / "texts"
    texts.mkdir()
    for number in range(5):
        words = f"Report {number}. {TEXT} Its piers were inspected {number + 2} times."
        (texts / f"{number}.txt").write_text(words, encoding="utf-8")
    write_pico_model(folder, stage="sft")
    return folder


def test_a_stage_and_corpus_stats(place: Path) -> None:
    corpus = str(place / "corpus")
    words = ("corpus", "build", "--input", str(place / "texts"), "--out", corpus)
    [row] = printed(*words, "--set", "workers=1")
    assert set(row) == contract("run, and every command that runs one stage")
    [stats] = printed("corpus", "stats", corpus)
    assert set(stats) == contract("corpus stats") - {"truth", "figures"}


def test_truth_brings_truth_and_figures(tmp_path: Path) -> None:
    recipe = tmp_path / "r.toml"
    recipe.write_text(
        "[samples]\nbridges = 2\npages_per_bridge = 1\nspecification = false\n[corpus]\n",
        encoding="utf-8",
    )
    rows = printed("run", str(recipe), "--runs", str(tmp_path))
    assert [set(row) for row in rows] == [
        contract("run, and every command that runs one stage")
    ] * 2
    [stats] = printed("corpus", "stats", str(tmp_path / "r"))
    assert set(stats) == contract("corpus stats")


def test_extract(place: Path) -> None:
    [row] = printed("extract", str(place / "texts" / "0.txt"))
    assert set(row) == contract("extract")


def test_tokenizer(place: Path) -> None:
    words = ("tokenizer", "train", "--input", str(place / "texts" / "0.txt"), "--vocab-size", "300")
    [row] = printed(*words, "--out", str(place / "tokenizer"))
    names = {re.sub(r"(bytes_per_token)\..*", r"\1.LANGUAGE", name) for name in row}
    assert names == contract("tokenizer train")
    rows = printed("tokenizer", "show", str(place / "sft"), "a bridge 桥")
    assert all(set(row) == contract("tokenizer show") for row in rows)


def test_data_check(place: Path) -> None:
    pairs = place / "pairs.jsonl"
    pairs.write_text('{"prompt": "q", "chosen": "a", "rejected": "a"}\n', encoding="utf-8")
    [row] = printed("data", "check", str(pairs))
    assert set(row) == contract("data check")
    assert set(row["warnings"]["same_answers"]) == {"count", "first"}


def test_data_clean_and_sample(place: Path) -> None:
    questions = place / "asked.jsonl"
    questions.write_text('{"prompt": "Who?", "completion": "Ann."}\n', encoding="utf-8")
    [row] = printed("data", "clean", str(questions), "--out", str(place / "clean"))
    assert set(row) == contract("data clean")
    words = ("--prompts", str(questions), "--model", str(place), "--by", "majority")
    small = ("--out", str(place / "sampled"), "--set", "max_new_tokens=2")
    [row] = printed("data", "sample", *words, *small)
    assert set(row) == contract("data synthesize, data sample")


def test_label(tmp_path: Path) -> None:
    (tmp_path / "tasks.jsonl").write_text('{"prompt": "q", "answers": ["a", "b"]}\n')
    with LabelLog(tmp_path) as log:
        for who in ("ann", "bob"):
            ranking = (tuple(log.tasks[0].by_id),)
            log.add(Label(task=log.tasks[0].key, annotator=who, kind="rank", ranking=ranking))
    [row] = printed("label", "stats", str(tmp_path))
    assert set(row) == contract("label stats")
    assert set(row["annotators"]["ann"]) == {"rank", "write", "skip", "seconds"}
    assert set(row["kappa"][0]) == {"annotators", "pairs", "kappa"}
    [row] = printed("label", "export", str(tmp_path), "--out", str(tmp_path / "rows"))
    assert set(row) == contract("label export")
    assert set(row["counts"]) == set(COUNTS)


def test_generate(place: Path) -> None:
    [row] = printed("generate", "--model", str(place), "--prompt", "Hi", "--max-new-tokens", "2")
    assert {*row, "inspection"} == contract("generate")
    assert set(row["usage"]) == {"prompt_tokens", "completion_tokens"}
    assert row["finish_reason"] in ("stop", "length")


def test_bench(place: Path) -> None:
    words = ("bench", "--model", str(place), "--tokens", "4", "--streams", "1,2")
    [row] = printed(*words)
    assert set(row) == contract("bench")
    assert [(one["name"], one["streams"]) for one in row["speeds"]][:2] == [
        ("decode", 1),
        ("decode", 2),
    ]


def test_eval(place: Path) -> None:
    questions = place / "q.jsonl"
    questions.write_text('{"input": "Who?", "target": "Ann"}\n', encoding="utf-8")
    model = ("eval", "--model", str(place), "--max-new-tokens", "2")
    rows = printed(*model, "--task", str(questions))
    assert all(set(row) == contract("eval --task") for row in rows)
    [row] = printed("eval", "--model", str(place), "--text", str(place / "texts" / "0.txt"))
    assert set(row) == contract("eval --text")


def test_sandbox(tmp_path: Path) -> None:
    if all(why_not(kind) for kind in KINDS):
        pytest.skip("no sandbox works here")
    code = tmp_path / "code.py"
    code.write_text("print(1)\n", encoding="utf-8")
    [row] = printed("sandbox", "run", str(code))
    assert set(row) == contract("sandbox run")
    endings = REFERENCE.read_text("utf-8").split("### sandbox run")[1].split("`stdout`")[0]
    assert all(f"`{ending}`" in endings for ending in get_args(Ending))


def test_index(place: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "index")
    [row] = printed(
        "index", "build", "--input", str(place / "texts"), "--out", out, "--embedder", "none"
    )
    assert set(row) == contract("index build, index update")
    [row] = printed("index", "search", out, "arch bridge")
    assert set(row) == contract("index search")
    told = REFERENCE.read_text("utf-8").split("### index search")[1].split("\n### ")[0]
    assert all(f"`{name}`" in told for name in row["hits"][0])
    [row] = printed("index", "stats", out)
    assert set(row) == contract("index stats")
    [row] = printed("index", "verify", out)
    assert set(row) == contract("index verify")


def test_ask_and_rag(place: Path, tmp_path: Path) -> None:
    texts, out = str(place / "texts"), str(tmp_path / "index")
    list(printed("index", "build", "--input", texts, "--out", out, "--embedder", "none"))
    asked = {"question": "arch bridge", "answer": "bridge"}
    questions = tmp_path / "questions.jsonl"
    questions.write_text(json.dumps(asked), encoding="utf-8")
    [row] = printed("ask", out, "arch bridge", "--threshold", "0")
    assert set(row) == contract("ask")
    told = REFERENCE.read_text("utf-8").split("### ask")[1].split("\n### ")[0]
    assert row["citations"]
    assert all(f"`{name}`" in told for name in row["citations"][0])
    [row] = printed(
        "rag", "compare", "--input", texts, "--questions", str(questions), "--strategies",
        "lexical", "--out", str(tmp_path / "compared"), "--embedder", "none",
    )  # fmt: skip
    assert set(row) == contract("rag compare")
    options = ("--lengths", "100", "--depths", "0", "--repeats", "1", "--languages", "en")
    [row] = printed("rag", "needle", "--out", str(tmp_path / "needle"), *options)
    assert set(row) == contract("rag needle")
    [row] = printed("rag", "calibrate", out, str(questions))
    assert set(row) == contract("rag calibrate")


def test_doctor() -> None:
    assert all(set(row) == contract("doctor") for row in printed("doctor"))


def test_http_errors_have_the_documented_shape() -> None:
    [example] = re.findall(r'^(\{"error".*\})$', REFERENCE.read_text("utf-8"), re.MULTILINE)
    assert set(json.loads(example)["error"]) == set(ApiError(400, "x").body()["error"])  # type: ignore[call-overload]
