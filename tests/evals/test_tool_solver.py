"""A model that calls tools: what is carried out, told, counted, and when it ends."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from fledge.core.files import write_jsonl
from fledge.core.protocols import Sampling, Silent, Tool
from fledge.engine import load_engine
from fledge.engine.request import Generation
from fledge.evals.dataset import Sample, read_set
from fledge.evals.scorers import scorer_of
from fledge.evals.solvers import chat_solver
from fledge.evals.tasks import figures_of, load_task, run_task
from fledge.evals.tool_solver import ROUNDS, tool_solver
from fledge.tokenizer import Tokenizer
from pico_model import write_pico_model


class Adder:
    """Adds two whole numbers."""

    name = "calculator"
    description = "Adds."
    parameters: Mapping[str, Any] = {"type": "object"}

    def call(self, arguments: Mapping[str, Any]) -> str:
        left, _, right = str(arguments.get("expression")).partition("+")
        return str(int(left) + int(right))  # int raises ValueError for anything else


class Script:
    """An engine that says what it is told to, turn by turn, and remembers its prompts."""

    def __init__(self, tokenizer: Tokenizer, turns: Sequence[str], context: int = 400) -> None:
        self.tokenizer, self.context = tokenizer, context
        self.turns = list(turns)
        self.prompts: list[str] = []

    def generate_each(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling
    ) -> Iterator[tuple[int, Generation]]:
        for index, prompt in enumerate(prompts):
            self.prompts.append(self.tokenizer.decode(prompt, specials=True))
            ids = tuple(self.tokenizer.encode_text_with_marks(self.turns.pop(0)))
            text = self.tokenizer.decode(ids)
            yield (
                index,
                Generation(
                    text=text, token_ids=ids, finish_reason="stop", prompt_tokens=len(prompt)
                ),
            )


class Marked:
    """A tokenizer whose texts may hold the marks of calls."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def encode_text_with_marks(self, text: str) -> list[int]:
        ids: list[int] = []
        for part in (
            text.replace("<tool_call>", "\0<tool_call>\0")
            .replace("</tool_call>", "\0</tool_call>\0")
            .split("\0")
        ):
            mark = part in ("<tool_call>", "</tool_call>")
            ids += [self.token_id(part)] if mark else self.encode(part)
        return ids


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pico_model(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def tokenizer(stage: Path) -> Any:
    return Marked(Tokenizer.load(stage / "model"))


def sample(tmp_path: Path, **metadata: Any) -> Sample:
    row = {"id": "a", "input": "What is 40 + 7?", "target": "47",
           "metadata": {"set": "arithmetic", **metadata}}  # fmt: skip
    write_jsonl(tmp_path / "arithmetic.jsonl", [row])
    return read_set(tmp_path / "arithmetic.jsonl")[0]


def call(expression: Any, name: str = "calculator") -> str:
    body = {"name": name, "arguments": {"expression": expression}}
    return f"<tool_call>{json.dumps(body)}</tool_call>"


def solve(script: Script, one: Sample, **options: Any) -> Any:
    tools: list[Tool] = [Adder()]
    return tool_solver(script, tools, 64, **options)([one], lambda n: None)[0]  # type: ignore[arg-type]


def test_the_result_is_read_and_the_answer_goes_on(tokenizer: Any, tmp_path: Path) -> None:
    script = Script(tokenizer, [call("40 + 7"), "It is 47."])
    answer = solve(script, sample(tmp_path))
    assert answer.text == "It is 47."
    assert answer.finish_reason == "stop"
    assert [(one.name, one.result, one.valid) for one in answer.calls] == [
        ("calculator", "47", True)
    ]
    assert "<tool_response>47</tool_response>" in script.prompts[1]
    assert "Tools, one JSON" not in script.prompts[0]
    assert scorer_of(sample(tmp_path))[1](sample(tmp_path), answer.text).correct


def test_tools_are_listed_when_asked_for(tokenizer: Any, tmp_path: Path) -> None:
    script = Script(tokenizer, ["47."])
    assert solve(script, sample(tmp_path), listed=True).calls == ()
    assert '"name": "calculator"' in script.prompts[0]


@pytest.mark.parametrize(
    ("turn", "told"),
    [
        (call("forty"), "error: invalid literal"),
        (call("1 + 1", name="abacus"), "error: there is no tool 'abacus'"),
        ('<tool_call>{"name": "calculator", "arguments": [1]}</tool_call>', "must be an object"),
    ],
)
def test_a_call_that_cannot_be_carried_out_is_told_and_counted(
    tokenizer: Any, tmp_path: Path, turn: str, told: str
) -> None:
    script = Script(tokenizer, [turn, "47"])
    answer = solve(script, sample(tmp_path))
    assert told in script.prompts[1]
    assert [one.valid for one in answer.calls] == [False]
    assert answer.text == "47"


def test_a_broken_call_is_an_invalid_one_and_the_end(tokenizer: Any, tmp_path: Path) -> None:
    answer = solve(Script(tokenizer, ['<tool_call>{"name": "calc']), sample(tmp_path))
    assert [one.valid for one in answer.calls] == [False]


def test_calling_for_ever_ends(tokenizer: Any, tmp_path: Path) -> None:
    script = Script(tokenizer, [call("1 + 1")] * 9)
    answer = solve(script, sample(tmp_path), rounds=2)
    assert answer.finish_reason == ROUNDS
    assert len(script.prompts) == 3
    assert len(answer.calls) == 3


def test_a_conversation_that_outgrows_the_context_ends(tokenizer: Any, tmp_path: Path) -> None:
    script = Script(tokenizer, [call("1 + 1")] * 9, context=150)
    answer = solve(script, sample(tmp_path), rounds=8)
    assert answer.finish_reason == "too_long"
    assert answer.calls


def test_without_calls_it_is_the_chat_solver(stage: Path, tmp_path: Path) -> None:
    engine = load_engine(stage)
    one = sample(tmp_path)
    plain = chat_solver(engine, 12)([one], lambda n: None)
    assert tool_solver(engine, [Adder()], 12)([one], lambda n: None) == plain


def test_rows_and_figures_tell_of_calls(tokenizer: Any, tmp_path: Path) -> None:
    sample(tmp_path)
    task = load_task(tmp_path / "arithmetic.jsonl")
    script = Script(tokenizer, [call("40 + 7"), "47"])
    solver = tool_solver(script, [Adder()], 64)  # type: ignore[arg-type]
    rows = run_task(task, solver, Silent())
    assert rows[0]["calls"][0]["result"] == "47"
    found = {figure["metric"]: figure["value"] for figure in figures_of(rows)}
    assert found == {"exact_match": 1.0, "over_refusal": 0.0, "tool_call_valid": 1.0}


@pytest.mark.parametrize(
    ("answer", "tolerance", "right"),
    [("It is 2.138.", 0.001, True), ("It is 2.15.", 0.001, False), ("2.1382", 0.0, False),
     ("none", 0.1, False)],
)  # fmt: skip
def test_numbers_within_a_tolerance(
    tmp_path: Path, answer: str, tolerance: float, right: bool
) -> None:
    row = {"input": "2737 / 1280?", "target": "2.138",
           "metadata": {"set": "arithmetic", "tolerance": tolerance}}  # fmt: skip
    write_jsonl(tmp_path / "s.jsonl", [row])
    one = read_set(tmp_path / "s.jsonl")[0]
    assert scorer_of(one)[1](one, answer).correct is right
