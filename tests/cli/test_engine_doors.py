"""The engine at the command line: forms, inspection, lookup, chat's slash commands, bench."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fledge.cli.main import main
from pico_adapter import KINDS, write_adapter
from pico_model import write_pico_model

FLEDGE = [sys.executable, "-c", "from fledge.cli.main import main; main()"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pico_model(tmp_path_factory.mktemp("runs") / "pico")


def fledge(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def test_answers_in_a_form(run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    ask = ("generate", "--model", run, "--prompt", "bridge", "--max-new-tokens", 40)
    assert fledge(capsys, *ask, "--choice", "yes", "--choice", "no")[1] in ("yes\n", "no\n")
    assert re.fullmatch(r"1\d{3} m\n", fledge(capsys, *ask, "--regex", r"1\d{3} m")[1])
    schema = {"type": "object", "properties": {"open": {"type": "boolean"}}, "required": ["open"]}
    file = tmp_path / "schema.json"
    file.write_text(json.dumps({**schema, "additionalProperties": False}))
    for given in (file, file.read_text()):
        code, out, _ = fledge(capsys, *ask, "--json-schema", given)
        assert code == 0
        assert set(json.loads(out)) == {"open"}
    grammar = tmp_path / "bridge.lark"
    grammar.write_text('start: "span: " /[0-9]{3}/ " m"')
    assert re.fullmatch(r"span: \d{3} m\n", fledge(capsys, *ask, "--grammar", grammar)[1])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--regex", "a", "--choice", "b"], "exclude each other"),
        (["--regex", "("], "the regex cannot be used"),
        (["--json-schema", "/no/file"], "--json-schema /no/file"),
        (["--json-schema", '{"type": "nothing"}'], "the JSON schema cannot be used"),
        (["--typical-p", "0"], "typical_p = 0.0"),
        (["--lookup", "65"], "lookup = 65"),
        (["--min-tokens", "300"], "min_tokens = 300 is more than max_new_tokens = 256"),
    ],
)
def test_wrong_options_are_one_line(
    run: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    code, out, err = fledge(capsys, "generate", "--model", run, "--prompt", "x", *options)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1


def test_inspection_as_table_and_as_data(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ask = ("generate", "--model", run, "--prompt", "bridge", "--max-new-tokens", 5)
    hot = ("--temperature", 1, "--top-k", 9, "--seed", 1, "--inspect")
    code, out, _ = fledge(capsys, *ask, *hot)
    assert code == 0
    assert "how each token was drawn" in out
    assert "top_k" in out
    [row] = [json.loads(line) for line in fledge(capsys, *ask, *hot, "--json")[1].splitlines()]
    assert [one["id"] for one in row["inspection"]][: len(row["token_ids"])] == row["token_ids"]
    for one in row["inspection"]:
        assert [step["name"] for step in one["steps"]] == ["temperature", "top_k"]
        assert one["steps"][1]["kept"] == 9
        assert 0 < one["model_probability"] <= 1
        assert len(one["top"]) == 10


def test_lookup_tells_what_it_guessed(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ask = ("generate", "--model", run, "--prompt", "桥桥桥桥", "--max-new-tokens", 30, "--json")
    plain = json.loads(fledge(capsys, *ask)[1])
    looked = json.loads(fledge(capsys, *ask, "--lookup", 5)[1])
    assert looked["text"] == plain["text"]
    assert plain["speculation"] == {"drafted": 0, "accepted": 0}
    assert looked["speculation"]["drafted"] >= looked["speculation"]["accepted"]


def chat(run: Path, *lines: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*FLEDGE, "chat", "--model", str(run), "--max-new-tokens", "6"],
        input="\n".join(lines) + "\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_chat_takes_back_asks_again_and_inspects(run: Path, tmp_path: Path) -> None:
    saved = tmp_path / "chat.jsonl"
    done = chat(
        run, "/inspect", "one", "two", "/undo", "/retry", "/inspect", f"/save {saved}", "/quit"
    )
    assert done.returncode == 0, done.stderr
    messages = json.loads(saved.read_text())["messages"]
    assert [m["content"] for m in messages if m["role"] == "user"] == ["one"]
    assert done.stderr.count("(taken back)") == 2
    assert "(nothing has been asked)" in done.stderr
    assert "how each token was drawn" in done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == lines[-1], "greedy: asked again it answers the same"


def test_chat_changes_settings(run: Path) -> None:
    done = chat(
        run,
        "/set max_new_tokens 2",
        "/set temperature hot",
        "/set top_p 7",
        "/set temprature 1",
        "/set",
        "one",
        "/quit",
    )
    assert done.returncode == 0, done.stderr
    assert "(max_new_tokens is 2)" in done.stderr
    assert "temperature hot:" in done.stderr
    assert "top_p = 7.0 is not valid" in done.stderr
    assert "temprature is no setting; did you mean 'temperature'?" in done.stderr
    assert "(cut off after 2 tokens)" in done.stderr


def test_bench_shows_a_table(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ask = ("bench", "--model", run, "--tokens", 3, "--streams", "2")
    code, out, _ = fledge(capsys, *ask)
    assert code == 0
    assert "native runner" in out
    assert "this machine: memory copies" in out
    code, _, err = fledge(capsys, *ask[:-1], "0,x")
    assert code == 2
    assert "--streams 0,x" in err


def test_an_adapter_changes_the_answer(
    run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = write_adapter(run / "model", tmp_path / "style", KINDS["lora"])
    ask = ("generate", "--model", run, "--prompt", "bridge", "--max-new-tokens", 8, "--json")
    plain = json.loads(fledge(capsys, *ask)[1])
    code, out, _ = fledge(capsys, *ask, "--adapter", folder)
    assert code == 0
    assert json.loads(out)["token_ids"] != plain["token_ids"]
    code, _, err = fledge(capsys, *ask, "--adapter", tmp_path)
    assert (code, err.count("\n") <= 2) == (2, True)
    assert "adapter_model.safetensors" in err
    chat = [*FLEDGE, "chat", "--model", run, "--max-new-tokens", "8"]
    asked = {"input": "bridge\n", "capture_output": True, "text": True, "check": True}
    answers = [
        subprocess.run([*chat, *more], **asked).stdout for more in ([], ["--adapter", folder])
    ]
    assert answers[0] != answers[1]


@pytest.mark.parametrize("given", ["style", "=x", "style=", "pico-sft=x"])
def test_wrong_adapters_stop_the_server(
    run: Path, capsys: pytest.CaptureFixture[str], given: str
) -> None:
    code, _, err = fledge(capsys, "serve", "--model", run, "--port", 0, "--adapter", given)
    assert code == 2
    assert f"--adapter {given}" in err
