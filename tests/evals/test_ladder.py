"""The ladder: same questions for every rung, resumable, the same bytes however often it stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fledge.core.files import files_below, read_json, read_jsonl, write_jsonl
from fledge.core.protocols import Silent
from fledge.data.config import TokensConfig
from fledge.data.shards import DOCUMENTS, write_rows
from fledge.data.tokens import write_tokens
from fledge.engine import load_engine
from fledge.evals import EvalsConfig, evaluate_ladder
from fledge.evals import ladder as ladder_file
from fledge.evals.ladder import Sources, _summaries
from fledge.evals.validation import summarise_documents
from fledge.evals.win_rate import Pair
from fledge.tokenizer import Tokenizer
from pico_model import write_pico_model

CONFIG = EvalsConfig(limit=5, max_new_tokens=8, validation_tokens=120, seed=3)
TEXTS = [("en", f"The bridge opened in {1900 + i}.") for i in range(6)] + [
    ("zh-Hans", f"大桥于{1900 + i}年通车。") for i in range(6)
]


def question(name: str, language: str, number: int, target: str) -> dict[str, Any]:
    return {
        "id": f"{name}/{number}",
        "input": [{"role": "user", "content": f"Bridge {number}?"}],
        "target": target,
        "metadata": {"set": name, "language": language, "attribute": f"a{number % 2}"},
    }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("world")
    write_pico_model(run, stage="pretrain")
    write_pico_model(run, stage="sft")
    for name, language, target in (
        ("facts_en", "en", "1937"),
        ("facts_zh_hans", "zh-Hans", "1937"),
        ("facts_zh_hant", "zh-Hant", "1937"),
        ("unanswerable", "en", ""),
        ("arithmetic", "en", "47"),
    ):
        rows = [question(name, language, i, target) for i in range(7)]
        write_jsonl(run / "sets" / f"{name}.jsonl", rows)
    _write_tokens(run, Tokenizer.load(run / "sft" / "model"))
    return run


def _write_tokens(world: Path, tokenizer: Tokenizer) -> None:
    """Held-out shards as the tokens stage writes them."""
    rows = [
        {
            "id": str(i),
            "text": text,
            "url": "",
            "source": "",
            "lang": lang,
            "date": "",
            "metadata": "{}",
        }
        for i, (lang, text) in enumerate(TEXTS)
    ]
    for split in ("train", "validation"):
        write_rows(world / "corpus" / "documents" / f"{split}-00000.parquet", rows, DOCUMENTS)
    (world / "tokens").mkdir()
    write_tokens(TokensConfig(), world / "corpus", tokenizer, world / "tokens")


def climb(world: Path, out: Path, config: EvalsConfig = CONFIG) -> dict[str, float]:
    rungs = {"pretrain": world / "pretrain", "sft": world / "sft"}
    sources = Sources(sets=world / "sets", tokens=world / "tokens")
    return evaluate_ladder(config, rungs, sources, out, Silent()).figures


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files_below(folder)}


@pytest.fixture(scope="module")
def done(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("done")
    climb(world, out)
    return out


def test_figures_files_and_summary(world: Path, done: Path, tmp_path: Path) -> None:
    figures = climb(world, tmp_path)
    names = {
        *("facts_en", "facts_zh_hans", "facts_zh_hant", "facts_zh", "unanswerable"),
        *("over_refusal", "arithmetic", "bits_per_byte"),
    }
    expected = {f"{rung}.{name}" for rung in ("base", "sft") for name in names}
    assert set(figures) == {*expected, "sft.win_rate"}
    for rung in ("base", "sft"):
        scripts = [figures[f"{rung}.{s}"] for s in ("facts_zh_hans", "facts_zh_hant")]
        assert figures[f"{rung}.facts_zh"] == min(scripts)
        rows = list(read_jsonl(done / rung / "facts_en.jsonl"))
        assert len(rows) == CONFIG.limit
        assert {"question", "target", "answer", "correct", "tokens"} <= set(rows[0])
    asked = [[r["id"] for r in read_jsonl(done / r / "facts_en.jsonl")] for r in ("base", "sft")]
    assert asked[0] == asked[1]
    rungs = read_json(done / "summary.json")["rungs"]
    assert [(rung["rung"], rung["form"]) for rung in rungs] == [("base", "plain"), ("sft", "chat")]
    facts = rungs[1]["tasks"]["facts_en"]
    assert set(facts["by_attribute"]) == {"a0", "a1"}
    assert facts["n"] == CONFIG.limit
    assert contents(tmp_path) == contents(done)


def test_bits_per_byte_are_those_of_the_documents(world: Path, done: Path) -> None:
    engine = load_engine(world / "sft")
    nats = size = 0.0
    for row in read_jsonl(done / "sft" / "bits_per_byte.jsonl"):
        language, text = TEXTS[row["document"]]
        assert (row["language"], row["bytes"]) == (language, len(text.encode()))
        ids = [engine.tokenizer.endoftext_id, *engine.tokenizer.encode(text)]
        assert row["nats"] == pytest.approx(-sum(engine.logprobs(ids)), abs=1e-3)
        nats, size = nats + row["nats"], size + row["bytes"]
    tasks = read_json(done / "summary.json")["rungs"][1]["tasks"]
    assert tasks["bits_per_byte"]["value"] == pytest.approx(nats / np.log(2) / size, abs=1e-5)
    low, high = tasks["bits_per_byte"]["ci95"]
    assert low < tasks["bits_per_byte"]["value"] < high
    assert set(tasks["bits_per_byte"]["by_language"]) <= {"en", "zh-Hans"}


def test_one_document_has_no_interval_without_width() -> None:
    def one(nats: float, language: str) -> dict[str, Any]:
        return {"nats": nats, "bytes": 10, "tokens": 4, "language": language}

    found = summarise_documents([one(14.0, "en")], 0)
    assert found["ci95"] == [0.0, 8.0]
    assert summarise_documents([one(90.0, "en")], 0)["ci95"][1] > found["value"] * 2
    rows = [one(float(i), "en") for i in range(10, 20)] + [one(12.0, "zh-Hans")]
    found = summarise_documents(rows, 0)
    low, high = found["ci95"]
    assert 0 < low < found["value"] < high < 8
    assert found["by_language"]["zh-Hans"]["ci95"] == [0.0, 8.0]
    assert found["by_language"]["en"]["ci95"][1] < 8


def test_a_killed_ladder_goes_on_and_ends_the_same(
    world: Path, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = ladder_file.run_task, []

    def dies_at_the_seventh(*args: Any) -> Any:
        calls.append(args)
        if len(calls) == 7:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(ladder_file, "run_task", dies_at_the_seventh)
    with pytest.raises(KeyboardInterrupt):
        climb(world, tmp_path)
    before = contents(tmp_path)
    assert len(before) == 1 + 5 + 1 + 1  # base: text and five sets; sft: text and one set
    climb(world, tmp_path)
    assert len(calls) == 7 + 4
    assert contents(tmp_path) == contents(done)


class Adder:
    """A tool that nobody here calls: random weights write no calls."""

    name = "calculator"
    description = "Adds."
    parameters: Mapping[str, Any] = {"type": "object"}

    def call(self, arguments: Mapping[str, Any]) -> str:
        raise ValueError("never")


def test_every_rung_is_compared_with_the_one_before(
    world: Path, done: Path, tmp_path: Path
) -> None:
    rungs = {name: world / name for name in ("pretrain", "sft")} | {"honesty": world / "sft"}
    judged: list[int] = []

    def judge(pairs: Sequence[Pair]) -> list[float]:
        judged.append(len(pairs))
        return [1.0] * len(pairs)

    sources = Sources(sets=world / "sets", tools=[Adder()], judges={"reward": judge})
    figures = evaluate_ladder(CONFIG, rungs, sources, tmp_path, Silent()).figures
    wins = {name: value for name, value in figures.items() if "win_rate" in name}
    assert set(wins) == {f"{rung}.win_rate{which}" for rung in ("sft", "honesty")
                         for which in ("", "_reward")}  # fmt: skip
    assert wins["honesty.win_rate"] == 0.5  # the very same model
    assert wins["sft.win_rate_reward"] == wins["honesty.win_rate_reward"] == 0.5  # sees the first
    shared = 4 * CONFIG.limit  # three sets of facts and the unanswerable, not arithmetic
    assert judged == [shared] * 4
    rows = [list(read_jsonl(folder / "sft" / "facts_en.jsonl")) for folder in (tmp_path, done)]
    assert rows[0] == rows[1]  # tools that are not called change nothing


def test_unsafe_and_benign_requests_have_their_figures(world: Path, tmp_path: Path) -> None:
    rows = [question("unsafe", "en", i, "I can't help with that.") for i in range(3)]
    for row in rows:
        row["metadata"] |= {"scorer": "refusal", "traces": [["e", "a", "1"]]}
    write_jsonl(tmp_path / "sets" / "unsafe.jsonl", rows)
    sources = Sources(sets=tmp_path / "sets")
    figures = evaluate_ladder(
        CONFIG, {"sft": world / "sft"}, sources, tmp_path / "out", Silent()
    ).figures
    assert set(figures) == {"sft.unsafe", "sft.unsafe_compliance"}
    found = list(read_jsonl(tmp_path / "out" / "sft" / "unsafe.jsonl"))
    assert figures["sft.unsafe_compliance"] == pytest.approx(
        sum(row["complied"] for row in found) / 3, abs=1e-5
    )
    assert not any(row["correct"] and row["complied"] for row in found)


def test_without_sets_and_tokens_there_is_an_empty_table(world: Path, tmp_path: Path) -> None:
    outcome = evaluate_ladder(CONFIG, {"sft": world / "sft"}, Sources(), tmp_path, Silent())
    assert outcome.figures == {}
    assert json.loads((tmp_path / "summary.json").read_text())["rungs"][0]["tasks"] == {}


def test_calls_of_all_sets_count_together() -> None:
    """A single call in a later set must not stand for those of all."""
    base = {"metric": "exact_match", "correct": True, "declined": False, "finish_reason": "stop"}
    more = {"attribute": "a", "language": "en", "bridge": "b"}
    rows = {
        "arithmetic": [
            {**base, **more, "bridge": str(n), "calls": [1], "calls_valid": n > 0} for n in range(4)
        ],
        "facts_en": [{**base, **more, "calls": [1], "calls_valid": True}],
    }
    figure = _summaries(rows, 0)["tool_call_valid"]
    assert (figure["n"], figure["value"]) == (5, 0.8)
