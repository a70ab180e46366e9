"""A whole tiny run as a user starts it: every stage, the report, a peer, no second work."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_run import run

STAGES = (
    "samples",
    "corpus",
    "tokenizer",
    "tokens",
    "pretrain",
    "sft",
    "honesty",
    "reward",
    "dpo",
    "grpo",
    "evals",
    "ground",
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    done = run(folder)
    assert done.returncode == 0, done.stderr
    assert "fledge chat --model" in done.stderr
    return folder


def test_every_stage_left_a_manifest_and_no_partial(runs: Path) -> None:
    for stage in STAGES:
        manifest = json.loads((runs / "bridges" / stage / "manifest.json").read_text())
        assert manifest["stage"] == stage
        assert manifest["outputs"]
        assert manifest["seconds"] > 0
    assert not list((runs / "bridges").glob("*.partial"))


def test_the_documents_of_a_run_answer_with_citations(runs: Path) -> None:
    figures = json.loads((runs / "bridges" / "report.json").read_text())["figures"]
    assert figures["ground.citations_exact"] == 1.0
    for name in (
        *("facts_en", "facts_zh", "unanswerable", "over_refusal"),
        *("unseen", "unseen_read", "unseen_alone", "unanswerable_read"),
    ):
        assert 0.0 <= figures[f"ground.{name}"] <= 1.0
    page = (runs / "bridges" / "report.html").read_text(encoding="utf-8")
    assert "after GRPO" in page  # the headline is of the last model, not of the documents
    assert "after Ground" not in page
    asked = runs / "bridges" / "samples" / "evals" / "facts_en.jsonl"
    question = json.loads(asked.read_text(encoding="utf-8").splitlines()[0])["input"][0]["content"]
    words = [sys.executable, "-m", "fledge", "ask", str(runs / "bridges"), question, "--json"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout).keys() == {"answer", "supported", "citations"}


def test_report_has_the_figures_everyone_uses(runs: Path) -> None:
    figures = json.loads((runs / "bridges" / "report.json").read_text())["figures"]
    for name in (
        *("extraction_f1", "language_accuracy", "pii_recall", "pii_precision"),
        *("near_duplicate_recall", "near_duplicate_precision"),
    ):
        assert 0.5 <= figures[f"corpus.{name}"] <= 1, name
    for rung in ("base", "sft", "honesty", "dpo", "grpo"):
        for name in ("facts_en", "facts_zh", "unanswerable", "over_refusal", "arithmetic"):
            assert 0 <= figures[f"{rung}.{name}"] <= 1
        assert 0 < figures[f"{rung}.bits_per_byte"] < 8.5
    assert figures["seconds.total"] >= figures["seconds.pretrain"] > 0
    assert figures["peak_memory_bytes"] > 1e6
    page = (runs / "bridges" / "report.html").read_text(encoding="utf-8")
    assert "<svg" in page
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")


def test_samples_show_it_learning(runs: Path) -> None:
    for stage, prompt in (("pretrain", "The Golden Gate Bridge"), ("sft", "明石海峡大桥有多长？")):
        lines = (runs / "bridges" / stage / "samples.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        mine = [row for row in rows if row["prompt"] == prompt]
        assert [row["step"] for row in mine] == sorted({row["step"] for row in rows})
        assert len({row["text"] for row in mine}) > 1
    assert "What it wrote as it learnt" in (runs / "bridges" / "report.html").read_text()


def test_a_second_run_does_nothing_again(runs: Path) -> None:
    before = (runs / "bridges" / "sft" / "manifest.json").read_bytes()
    done = run(runs)
    assert done.returncode == 0
    assert done.stderr.count("done before, unchanged") == len(STAGES)
    assert (runs / "bridges" / "sft" / "manifest.json").read_bytes() == before


def test_transformers_reads_and_continues_the_model(runs: Path) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from fledge import load_model

    folder = runs / "bridges" / "grpo" / "model"
    peer = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    messages = [{"role": "user", "content": "When did the Golden Gate Bridge open? 桥"}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        difference = (peer(ids).logits - load_model(str(runs / "bridges"))(ids)).abs().max()
    assert difference <= 1e-4


def test_a_failing_change_leaves_earlier_outputs_untouched(runs: Path) -> None:
    before = (runs / "bridges" / "corpus" / "manifest.json").read_bytes()
    done = run(runs, "--set", "corpus.input=['nowhere/*.html']")
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("fledge: ")
    assert "nowhere" in last
    assert (runs / "bridges" / "corpus" / "manifest.json").read_bytes() == before
