"""``fledge eval``: JSON contracts, sets by name or file, errors that name the remedy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from fledge.cli.eval import command, find_set
from fledge.core.errors import InputError
from fledge.core.files import read_jsonl, write_jsonl
from fledge.evals.tool_solver import tool_solver
from pico_model import write_pico_model


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "pico"
    write_pico_model(run, stage="sft")
    rows = [{"input": f"Bridge {i}?", "target": "1937", "metadata": {}} for i in range(4)]
    write_jsonl(run / "samples" / "evals" / "facts_en.jsonl", rows)
    write_jsonl(run / "samples" / "evals" / "unanswerable.jsonl", [{**rows[0], "target": ""}])
    return run


def invoke(*arguments: Any) -> Result:
    return CliRunner().invoke(command, [str(a) for a in arguments], catch_exceptions=False)


def test_tasks_by_name_one_line_per_metric(run: Path, tmp_path: Path) -> None:
    answers = tmp_path / "answers.jsonl"
    done = invoke(
        *("--model", run, "--task", "facts_en", "unanswerable", "--limit", 3),
        *("--max-new-tokens", 5, "--samples", answers, "--json"),
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["task"], row["metric"], row["n"]) for row in rows] == [
        ("facts_en", "exact_match", 3),
        ("facts_en", "over_refusal", 3),
        ("unanswerable", "declined", 1),
    ]
    for row in rows:
        assert list(row) == ["task", "metric", "value", "ci95", "n"]
        assert row["ci95"][0] <= row["value"] <= row["ci95"][1]
    assert len(list(read_jsonl(answers))) == 4


def test_texts_one_line_per_file(run: Path, tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("The bridge opened in 1937.", encoding="utf-8")
    done = invoke("--model", run, "--text", tmp_path / "a.txt", tmp_path / "b.txt", "--json")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [list(row) for row in rows] == [["path", "bits_per_byte", "bytes", "tokens"]] * 2
    assert rows[0]["bits_per_byte"] == rows[1]["bits_per_byte"] > 0
    assert rows[0]["path"] == str(tmp_path / "a.txt")
    assert "bits per byte" in invoke("--model", run, "--text", tmp_path / "a.txt").stdout


def test_sets_are_found_from_the_run_its_stages_and_their_models(run: Path) -> None:
    expected = run.resolve() / "samples" / "evals" / "facts_en.jsonl"
    for model in (run, run / "sft", run / "sft" / "model"):
        assert find_set(str(model), "facts_en") == expected
    assert find_set("http://localhost/v1", str(expected)) == expected
    with pytest.raises(InputError, match="did you mean 'facts_en'"):
        find_set(str(run), "fact_en")
    with pytest.raises(InputError, match="name a JSONL file"):
        find_set("http://localhost/v1", "facts_en")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "either --task or --text"),
        (["--task", "facts_en", "--text", "x"], "either --task or --text"),
        (["--text", "missing.txt"], "missing.txt: no such file"),
        (["--task", "nothing"], "no such set or file"),
        (["--task", "facts_en", "--tool", "abacus"], "none called 'abacus'"),
        (["--text", "x", "--tool", "calculator"], "--tool needs --task"),
        (["--task", "facts_en", "--tool", "calculator", "--form", "plain"], "calls no tool"),
    ],
)
def test_wrong_usage(run: Path, arguments: list[str], says: str) -> None:
    with pytest.raises(InputError, match=says):
        invoke("--model", run, *arguments)


def test_tools_are_handed_to_the_solver(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    handed: list[str] = []

    def recorded(engine: Any, tools: Any, max_new_tokens: int) -> Any:
        handed.extend(tool.name for tool in tools)
        return tool_solver(engine, tools, max_new_tokens)

    monkeypatch.setattr("fledge.evals.tool_solver.tool_solver", recorded)
    done = invoke(
        *("--model", run, "--task", "facts_en", "--limit", 2, "--max-new-tokens", 5),
        *("--tool", "calculator"),
    )
    assert handed == ["calculator"]
    assert "n = 2" in done.stdout


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x", encoding="utf-8")
    with pytest.raises(InputError, match="nowhere does not exist"):
        invoke("--model", tmp_path / "nowhere", "--text", tmp_path / "a.txt")
    with pytest.raises(InputError, match="needs a model on disk"):
        invoke("--model", "http://localhost/v1", "--text", tmp_path / "a.txt")
