"""Sets, scorers and solvers: what counts as right, how a model is asked."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from fledge.core.errors import InputError
from fledge.core.protocols import Delta, Reply, Sampling, Silent, Usage
from fledge.core.types import Message
from fledge.engine import Engine, load_engine
from fledge.evals import load_task, run_task
from fledge.evals.dataset import Sample, choose, read_set
from fledge.evals.scorers import scorer_of
from fledge.evals.solvers import TOO_LONG, chat_solver, plain_form, plain_solver, remote_solver
from fledge.evals.tasks import breakdown, figures_of, share
from pico_model import write_pico_model


def sample(question: str = "When did it open?", target: str = "1937", **more: Any) -> Sample:
    messages = (Message(role="user", content=question),)
    return Sample(id="x", messages=messages, target=target, **more)


class Scripted:
    """A chat model that gives prepared answers and remembers what it was asked."""

    name = "scripted"

    def __init__(self, answers: dict[str, str]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def chat(self, messages: Sequence[Message], sampling: Sampling) -> Reply:
        assert sampling.temperature == 0
        self.asked.append(messages[-1].content)
        usage = Usage(prompt_tokens=1, completion_tokens=2)
        text = self.answers[messages[-1].content]
        return Reply(text=text, finish_reason="stop", usage=usage)

    def stream(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[Delta]:
        raise NotImplementedError

    def score(self, messages: Sequence[Message], answer: str) -> list[float]:
        raise NotImplementedError


def write_set(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def row(question: str, target: str, **metadata: Any) -> dict[str, Any]:
    return {
        "id": question,
        "input": [{"role": "user", "content": question}],
        "target": target,
        "metadata": metadata,
    }


ROWS = [
    row("q1", "1937", set="facts_en", attribute="opened", language="en", rivals=["1938"]),
    row("q2", "steel", set="facts_en", attribute="material", language="en", rivals=["stone"]),
    row("q3", "stone", set="facts_en", attribute="material", language="en", rivals=["steel"]),
    row("q4", "", set="unanswerable", attribute="opened", language="en", rivals=["steel"]),
    row("q5", "47", set="arithmetic", attribute="age", language="en"),
]
ANSWERS = {
    "q1": "It opened in 1937.",
    "q2": "Stone and steel.",
    "q3": "I don't know that.",
    "q4": "I don't know that.",
    "q5": "1937 - 1890 = 47. The answer is 47 years.",
}


def test_a_whole_task(tmp_path: Path) -> None:
    task = load_task(write_set(tmp_path / "mixed.jsonl", ROWS))
    model = Scripted(ANSWERS)
    rows = run_task(task, remote_solver(model, 20), Silent())
    assert [r["correct"] for r in rows] == [True, False, False, True, True]
    assert model.asked == ["q1", "q2", "q3", "q4", "q5"]
    figures = {figure["metric"]: figure for figure in figures_of(rows)}
    assert figures["exact_match"]["value"] == 0.5
    assert figures["exact_match"]["n"] == 4
    assert figures["declined"]["value"] == 1.0
    assert figures["over_refusal"]["value"] == 0.25
    low, high = figures["exact_match"]["ci95"]
    assert 0 < low < 0.5 < high < 1
    assert {k: v["value"] for k, v in breakdown(rows, "attribute").items()} == {
        "age": 1.0,
        "material": 0.0,
        "opened": 1.0,
    }


def asked(bridge: str, correct: bool, **more: Any) -> dict[str, Any]:
    return {"bridge": bridge, "correct": correct, "declined": False, **more}


def test_questions_about_one_bridge_are_not_independent() -> None:
    """Ten wordings about each of twenty bridges tell little more than one."""
    rows = [asked(str(i), i < 8) for i in range(20) for _ in range(10)]
    low, high = share(rows, "correct")["ci95"]
    apart = share([{**row, "bridge": ""} for row in rows], "correct")["ci95"]
    single = share(rows[::10], "correct")["ci95"]
    assert 0 < low < 0.4 < high < 1
    assert high - low > 2 * (apart[1] - apart[0])
    assert high - low == pytest.approx(single[1] - single[0], rel=0.15)
    assert share(rows, "correct") == share(rows, "correct", seed=0)
    spread = {tuple(share(rows, "correct", seed=seed)["ci95"]) for seed in range(5)}
    assert len(spread) > 1
    assert all(abs(one[0] - low) < 0.06 for one in spread)


def test_bridges_that_are_asked_once_or_not_named_have_wilsons_interval() -> None:
    rows = [asked(str(i), i < 5) for i in range(20)]
    plain = share([{"correct": i < 5} for i in range(20)], "correct")
    assert share(rows, "correct") == plain
    assert share([*rows[:19], asked("", False)], "correct") == plain
    assert share([], "correct") == {"value": 0.0, "ci95": [0.0, 1.0], "n": 0}


def test_no_share_has_an_interval_without_width() -> None:
    for correct in (True, False):
        rows = [asked(str(i), correct) for i in range(5) for _ in range(20)]
        low, high = share(rows, "correct")["ci95"]
        assert high - low > 0.3
        low, high = share(rows[:20], "correct")["ci95"]  # one bridge
        assert high - low > 0.7
    halves = [asked(str(i), k == 0) for i in range(4) for k in range(2)]
    low, high = share(halves, "correct")["ci95"]
    assert low < 0.3 < 0.7 < high


def test_rows_name_the_bridge_of_their_question(tmp_path: Path) -> None:
    rows = [row("q1", "1937", bridge="gate"), row("q2", "steel")]
    task = load_task(write_set(tmp_path / "mixed.jsonl", rows))
    found = run_task(task, remote_solver(Scripted(ANSWERS), 20), Silent())
    assert [one["bridge"] for one in found] == ["gate", ""]


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("I don't know.", True),
        ("I don't know, but it opened in 1937.", False),
        ("I don't know, perhaps steel.", False),
        ("Steel.", False),
        ("", False),
    ],
)
def test_only_a_clean_decline_is_right(answer: str, right: bool) -> None:
    unknown = sample("What is it made of?", "", rivals=("steel",), language="en")
    metric, scorer = scorer_of(unknown)
    assert metric == "declined"
    assert scorer(unknown, answer).correct is right


def test_a_hedged_answer_is_a_refusal_not_a_hit() -> None:
    score = scorer_of(sample())[1](sample(), "I don't know, maybe 1937.")
    assert score.declined
    assert not score.correct


def test_a_set_names_its_scorer_and_a_wrong_name_is_refused() -> None:
    chosen = sample(target="3", scorer="number")
    assert scorer_of(chosen)[1](chosen, "1 + 2 = 3").correct
    with pytest.raises(InputError, match="did you mean 'number'"):
        scorer_of(sample(scorer="numbr"))


def test_samples_without_rivals_get_the_other_targets(tmp_path: Path) -> None:
    rows = [
        row("a", "C30 concrete", attribute="MADE_OF", language="en"),
        row("b", "C40 concrete", attribute="MADE_OF", language="en"),
        row("c", "concrete", attribute="MADE_OF", language="en"),
        row("d", "花岗岩", attribute="MADE_OF", language="zh-Hans"),
        row("e", "granite"),
    ]
    found = {s.id: s.rivals for s in read_set(write_set(tmp_path / "s.jsonl", rows))}
    around = ("C30 concrete", "C40 concrete")
    assert found == {"a": around[1:], "b": around[:1], "c": around, "d": (), "e": ()}


def test_a_longer_target_is_no_answer_for_the_shorter(tmp_path: Path) -> None:
    rows = [row(text, text, attribute="place", language="en") for text in ("Ely", "New Ely")]
    short, long = read_set(write_set(tmp_path / "s.jsonl", rows))
    score = scorer_of(short)[1]
    assert score(short, "It is in Ely.").correct
    assert not score(short, "It is in New Ely.").correct
    assert not score(short, "In Ely or New Ely.").correct
    assert score(long, "It is in New Ely.").correct


def test_sampling_is_by_seed_and_keeps_the_order() -> None:
    samples = [sample(str(i)) for i in range(50)]
    some = choose(samples, 10, 1)
    assert some == choose(samples, 10, 1) != choose(samples, 10, 2)
    assert [int(s.question) for s in some] == sorted(int(s.question) for s in some)
    assert choose(samples, 50, 1) == choose(samples, None, 1) == samples


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("[]", "line 1: not an object"),
        ('{"input": "q"}', "'target' must be text"),
        ('{"input": [], "target": "x"}', "'input' must be text or messages"),
        ('{"input": [{"role": "robot", "content": "x"}], "target": "x"}', "role 'robot'"),
        ('{"input": "q", "target": "x", "metadata": {"rivals": "y"}}', "metadata.rivals"),
        ('{"input": "q", "target": "x", "metadata": 3}', "'metadata' must be an object"),
        ("{", "not valid JSON"),
        ("", "holds no questions"),
    ],
)
def test_broken_sets_are_refused_with_their_place(tmp_path: Path, line: str, says: str) -> None:
    path = tmp_path / "broken.jsonl"
    path.write_text(line, encoding="utf-8")
    with pytest.raises(InputError, match=says) as error:
        read_set(path)
    assert str(path) in str(error.value)


def test_a_base_model_is_asked_in_the_form_of_a_page() -> None:
    assert plain_form(sample("Where?", language="en")) == "Question: Where?\nAnswer:"
    assert plain_form(sample("在哪？", language="zh-Hans")) == "问题：在哪？\n回答："
    assert plain_form(sample("在哪？", language="zh-Hant")) == "問題：在哪？\n回答："
    turns = (
        Message(role="user", content="Hi"),
        Message(role="assistant", content="Hello"),
        Message(role="user", content="Where?"),
    )
    several = Sample(id="x", messages=turns, target="here")
    assert plain_form(several) == "Question: Hi\nAnswer: Hello\nQuestion: Where?\nAnswer:"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return load_engine(write_pico_model(tmp_path_factory.mktemp("runs")))


def test_engine_solvers_keep_the_order_and_refuse_nothing(engine: Engine) -> None:
    samples = [sample("long " * 200), sample("a"), sample("Where is the Golden Gate Bridge?")]
    for make in (chat_solver, plain_solver):
        ticks: list[int] = []
        answers = make(engine, 12)(samples, ticks.append)
        assert sum(ticks) == 3
        assert answers[0].finish_reason == TOO_LONG
        assert not answers[0].text
        for given, one in zip(samples[1:], answers[1:], strict=True):
            assert make(engine, 12)([given], ticks.append) == [one]
            assert one.tokens <= 12


def test_the_plain_form_stops_at_the_end_of_the_line(engine: Engine) -> None:
    many = [sample(f"question {i}") for i in range(20)]
    assert not any("\n" in a.text for a in plain_solver(engine, 60)(many, lambda n: None))
