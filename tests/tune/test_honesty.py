"""Honesty: verdicts from answers, what is taught, both sides measured, a user's own facts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fledge.cli.main import fledge as doors
from fledge.core.errors import InputError
from fledge.core.files import read_json, read_jsonl, write_jsonl
from fledge.core.protocols import Sampling, Silent
from fledge.metrics.declines import declines
from fledge.tune import honesty as stage
from fledge.tune.config import SftConfig
from fledge.tune.honesty import DECLINES, conversations_of, honesty, probe
from fledge.tune.honesty_config import HonestyConfig
from fledge.tune.probing import KNOWN, SHAKY, UNKNOWN, Fact, Probe, read_facts
from fledge.tune.sft import sft
from pico_model import write_pico_model

CONFIG = HonestyConfig(paraphrases=2, draws=1, known_share=0.5)


def fact(name: str, answers: tuple[str, ...] = ("1937",), **fields: Any) -> Fact:
    questions = tuple(f"{asks} {name} open?" for asks in ("When did", "In what year did", "Did"))
    return Fact(id=name, subject=name, questions=questions, answers=answers, **fields)


def says(answers: dict[str, Sequence[str]]) -> Callable[..., list[str]]:
    """A model that answers by the name in the question, in turn."""
    turns: Counter[str] = Counter()

    def asker(asked: Sequence[tuple[str, Sampling]], advance: Callable[[int], None]) -> list[str]:
        said = []
        for question, _ in asked:
            name = next(name for name in answers if f" {name} " in question)
            said.append(answers[name][turns[name] % len(answers[name])])
            turns[name] += 1
            advance(1)
        return said

    return asker


def test_verdicts_follow_the_share_of_right_answers() -> None:
    facts = [fact("A"), fact("B"), fact("C"), fact("D", answers=()), fact("E")]
    right, wrong = "It opened in 1937.", "It opened in 1950."
    asker = says(
        {
            "A": [right],
            "B": [wrong],
            "C": [right, wrong],
            "D": [right],
            "E": ["I don't know, perhaps in 1937."],
        }
    )
    probes = probe(CONFIG, facts, asker, Silent())
    assert [p.verdict for p in probes] == [KNOWN, UNKNOWN, SHAKY, UNKNOWN, UNKNOWN]
    assert all(len(p.asked) == 4 for p in probes)  # two wordings, likeliest and drawn
    assert {one.temperature for one in probes[0].asked} == {0.0, CONFIG.temperature}
    assert all(one.declined and not one.right for one in probes[4].asked)
    again = [Probe.of_row(p.fact, json.loads(json.dumps(p.row()))) for p in probes]
    assert again == probes


def test_what_is_known_is_answered_and_the_rest_declined() -> None:
    facts = [fact(f"K{n}", reply="") for n in range(4)]
    facts += [fact(f"U{n}", answers=(), declines=("I don't know U.",)) for n in range(4)]
    facts += [fact("S")]
    told = {f"K{n}": ["Open since 1937."] for n in range(4)}
    told |= {f"U{n}": ["In 1950."] for n in range(4)} | {"S": ["1937", "1950"]}
    probes = probe(CONFIG, facts, says(told), Silent())
    rows = conversations_of(CONFIG, probes)
    said = {row["metadata"]["fact"]: row["messages"][1]["content"] for row in rows}
    assert set(said) == {f"{kind}{n}" for kind in "KU" for n in range(4)}
    for name, answer in said.items():
        assert answer == ("Open since 1937." if name[0] == "K" else "I don't know U.")
    assert len(rows) == 8 * CONFIG.wordings
    assert conversations_of(CONFIG, probes) == rows


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_known_and_declined_come_in_the_share_asked_for(share: float) -> None:
    facts = [fact(f"K{n}") for n in range(30)] + [fact(f"U{n}", answers=()) for n in range(20)]
    told = {f.id: ["1937" if f.answers else "1950"] for f in facts}
    config = CONFIG.model_copy(update={"known_share": share, "wordings": 1})
    rows = conversations_of(config, probe(config, facts, says(told), Silent()))
    known = sum(row["metadata"]["kind"] == KNOWN for row in rows)
    assert known / len(rows) == pytest.approx(share, abs=0.03)


def test_a_model_that_knows_nothing_is_taught_to_say_so() -> None:
    facts = [fact(f"A{n}") for n in range(3)]
    probes = probe(CONFIG, facts, says({f"A{n}": ["1950"] for n in range(3)}), Silent())
    rows = conversations_of(CONFIG, probes)
    assert {row["metadata"]["fact"] for row in rows} == {"A0", "A1", "A2"}
    assert all(declines(row["messages"][1]["content"], "en") for row in rows)


def test_a_model_that_knows_all_has_nothing_to_learn() -> None:
    probes = probe(CONFIG, [fact("A")], says({"A": ["1937"]}), Silent())
    with pytest.raises(InputError, match="none that the model does not know"):
        conversations_of(CONFIG, probes)


@pytest.mark.parametrize(
    ("question", "language"),
    [("When?", "en"), ("这座桥几时开通？", "zh-Hans"), ("這座橋幾時開通？", "zh-Hant")],
)
def test_usual_declines_are_in_the_script_of_the_question(question: str, language: str) -> None:
    facts = [
        Fact(id="a", subject="a", questions=(question,), answers=()),
        Fact(id="b", subject="b", questions=("B?",), answers=("7",)),
    ]
    asked = probe(CONFIG, facts, lambda asked, _: ["7"] * len(asked), Silent())
    rows = [r for r in conversations_of(CONFIG, asked) if r["metadata"]["kind"] == UNKNOWN]
    assert rows
    for row in rows:
        assert row["messages"][1]["content"] in DECLINES[language]
        assert declines(row["messages"][1]["content"], language)


def test_facts_are_read_in_short_and_long_form(tmp_path: Path) -> None:
    rows = [
        {"question": "When?", "answer": 1937, "attribute": "year", "language": "en"},
        {"id": "x", "questions": ["How?", "In what way?"], "answers": [], "subject": "s"},
        {"question": "And that?", "answers": ["1950"], "attribute": "year", "language": "en"},
    ]
    write_jsonl(tmp_path / "f.jsonl", rows)
    one, two, three = read_facts([tmp_path / "f.jsonl"])
    assert (one.questions, one.answers, one.rivals) == (("When?",), ("1937",), ("1950",))
    assert (two.id, two.subject, two.answers) == ("x", "s", ())
    assert one.is_right("When?", "In 1937.")
    assert not one.is_right("When?", "In 1937 or 1950.")
    assert three.subject == three.id


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ([], "not an object"),
        ({"answer": "x"}, "'questions' is empty"),
        ({"question": " ", "answer": "x"}, "'questions' is empty"),
        ({"question": "x"}, "'answers' is missing"),
        ({"question": "x", "answers": [{}]}, "list of texts"),
        ({"question": "x", "answers": [], "reply": 3}, "'reply' must be text"),
    ],
)
def test_a_faulty_fact_is_named(tmp_path: Path, row: Any, complaint: str) -> None:
    write_jsonl(tmp_path / "f.jsonl", [row])
    with pytest.raises(InputError, match=complaint):
        read_facts([tmp_path / "f.jsonl"])


def test_no_fact_and_twin_ids_are_refused(tmp_path: Path) -> None:
    (tmp_path / "none.jsonl").touch()
    with pytest.raises(InputError, match="there is no fact"):
        read_facts([tmp_path / "none.jsonl"])
    row = {"id": "a", "question": "x", "answer": "y"}
    write_jsonl(tmp_path / "twins.jsonl", [row, row])
    with pytest.raises(InputError, match="'a'"):
        read_facts([tmp_path / "twins.jsonl"])


# --------------------------------------------------------------------------------- the whole stage


SMALL = {"steps": 12, "batch_rows": 4, "compile": False, "learning_rate": 0.02, "held_out": 0,
         "max_new_tokens": 24, "draws": 0, "paraphrases": 2, "measured": 0.3}  # fmt: skip


def ways(number: int) -> list[str]:
    """A question about something that can be known (odd) or not (even)."""
    what = "bridge" if number % 2 else "Zzyzx"
    return [f"Is {what} {number} long?", f"Tell me of {what} {number}."]


@pytest.fixture(scope="module")
def chatty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that says "In 1937." whatever it is asked."""
    run = tmp_path_factory.mktemp("run")
    rows = [
        {
            "messages": [
                {"role": "user", "content": question},
                {"role": "assistant", "content": "In 1937."},
            ]
        }
        for number in range(12)
        for question in ways(number)
    ]
    write_jsonl(run / "c.jsonl", rows)
    config = SftConfig(steps=40, batch_rows=4, compile=False, learning_rate=0.02, held_out=0)
    sft(config, write_pico_model(run, stage="base"), [run / "c.jsonl"], run / "sft", Silent())
    return run / "sft"


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of one half 1937 is right; the other nobody can know."""
    rows = [
        {
            "id": str(number),
            "questions": ways(number),
            "answers": ["1937"] if number % 2 else [],
        }
        for number in range(12)
    ]
    path = tmp_path_factory.mktemp("facts") / "facts.jsonl"
    write_jsonl(path, rows)
    return path


def test_it_learns_to_decline_and_says_by_how_much(
    chatty: Path, facts: Path, tmp_path: Path
) -> None:
    config = HonestyConfig.model_validate({**SMALL, "known_share": 0.5, "steps": 60})
    outcome = honesty(config, chatty, [facts], tmp_path, Silent())
    assert outcome.counts["facts"] == 12
    assert outcome.counts["known"] == 6
    assert outcome.counts["unknown"] == 6
    before = outcome.figures["honesty.probe_made_up_before"]
    assert before == 1.0
    assert outcome.figures["honesty.probe_made_up"] < before
    assert outcome.figures["honesty.probe_over_refusal_before"] == 0.0
    measured = read_json(tmp_path / "measured.json")
    assert set(measured["after"]) == {"made_up", "over_refusal", "right"}
    low, high = measured["after"]["made_up"]["ci95"]
    assert low <= measured["after"]["made_up"]["value"] <= high
    taught = {row["metadata"]["fact"] for row in read_jsonl(tmp_path / "conversations.jsonl")}
    assert len(taught) <= 12 - 2 * round(0.3 * 6)
    assert len(list(read_jsonl(tmp_path / "probe.jsonl"))) == 12
    assert (tmp_path / "model" / "model.safetensors").is_file()
    assert not [name for name in outcome.figures if not name.startswith("honesty.")]


def test_a_killed_stage_does_not_ask_again(
    chatty: Path, facts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = HonestyConfig.model_validate(SMALL)

    def dies(*args: Any, **named: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stage, "sft", dies)
        with pytest.raises(KeyboardInterrupt):
            honesty(config, chatty, [facts], tmp_path / "killed", Silent())
    with monkeypatch.context() as patch:
        patch.setattr(stage, "probe", dies)
        ended = honesty(config, chatty, [facts], tmp_path / "killed", Silent())
    whole = honesty(config, chatty, [facts], tmp_path / "whole", Silent())
    assert ended == whole
    for name in ("probe.jsonl", "conversations.jsonl", "measured.json", "model/model.safetensors"):
        one, two = (tmp_path / run / name for run in ("killed", "whole"))
        assert one.read_bytes() == two.read_bytes(), name


def test_rehearsed_conversations_are_learnt_too(chatty: Path, facts: Path, tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]
    write_jsonl(tmp_path / "old.jsonl", [{"messages": messages}] * 5)
    config = HonestyConfig.model_validate({**SMALL, "rehearse": 3})
    outcome = honesty(
        config, chatty, [facts], tmp_path / "out", Silent(), rehearsal=[tmp_path / "old.jsonl"]
    )
    rows = list(read_jsonl(tmp_path / "out" / "rehearsed.jsonl"))
    assert [row["messages"] for row in rows] == [messages] * 3
    own = outcome.counts["taught_known"] + outcome.counts["taught_unknown"]
    assert outcome.counts["conversations"] == own + 3
    with pytest.raises(InputError, match="rehearse = 3"):
        honesty(config, chatty, [facts], tmp_path / "none", Silent())


def test_the_door(chatty: Path, facts: Path, tmp_path: Path) -> None:
    sets = [
        part for key, value in SMALL.items() for part in ("--set", f"{key}={json.dumps(value)}")
    ]
    arguments = [
        "honesty",
        "--model",
        chatty,
        "--facts",
        facts,
        "--out",
        tmp_path / "out",
        "--json",
    ]
    shown = CliRunner().invoke(doors, [*map(str, arguments), *sets], catch_exceptions=False)
    assert shown.exit_code == 0
    line = json.loads(shown.stdout.strip().splitlines()[-1])
    assert line["stage"] == "honesty"
    assert "honesty.probe_made_up" in line["figures"]
    assert (tmp_path / "out" / "manifest.json").is_file()
