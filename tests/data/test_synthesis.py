"""Each method asks what it should, uses only what it may, and goes on where it was killed."""

from __future__ import annotations

import json
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_model import CUT, Scripted

from fledge.core.errors import FledgeError, InputError
from fledge.core.protocols import Sampling, Silent
from fledge.core.types import Message
from fledge.data.chat_forms import parse_conversation
from fledge.data.synthesis import (
    branch_solve_merge,
    chain_of_thought,
    documents,
    evolve,
    judge,
    personas,
    self_instruct,
)
from fledge.data.synthesis.asking import LANGUAGES, Asker, Template, UnusableError, listed
from fledge.data.synthesis.config import SynthesisConfig
from fledge.data.synthesis.inputs import pieces, read_passages, read_questions
from fledge.data.synthesis.majority import final_answer, majority
from fledge.data.synthesis.methods import Method, plan
from fledge.data.synthesis.run import ITEMS, MOST_FAILURES, ROWS, Made, Place, produce
from fledge.data.synthesis.self_instruct import rouge_l, tokens

Says = Callable[[str, int], str]


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    path = tmp_path / "q.jsonl"
    rows = [{"question": f"How long is bridge {n}?", "answer": str(n)} for n in range(6)]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "t.txt"
    path.write_text("The bridge was built in 1871.\n\n" + "It is long. " * 8)
    return path


def run(
    method: Method, file: Path, says: Says, folder: Path, parallel: int = 1, **config: Any
) -> tuple[Made, Scripted]:
    model, settings_ = Scripted(says), SynthesisConfig(**config)
    todo = plan(method, [file], model, settings_)
    place = Place(folder=folder, settings={"method": method, **config}, parallel=parallel)
    return produce(todo.tasks, todo.make, place, Silent(), todo.accept), model


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / ROWS).read_text().splitlines()]


TEMPLATES = [
    value
    for module in (
        branch_solve_merge, chain_of_thought, documents, evolve, judge, personas, self_instruct
    )
    for name, value in vars(module).items()
    if name.isupper() and isinstance(value, dict) and "en" in value
] + list(evolve.WAYS.values())  # fmt: skip


@pytest.mark.parametrize("template", TEMPLATES, ids=range(len(TEMPLATES)))
def test_every_prompt_stands_in_three_languages_with_the_same_gaps(template: Template) -> None:
    assert tuple(template) == LANGUAGES
    gaps = [{name for _, name, _, _ in string.Formatter().parse(text) if name}
            for text in template.values()]  # fmt: skip
    assert gaps[0] == gaps[1] == gaps[2]
    assert template["zh-Hans"] != template["zh-Hant"]


def test_lists_are_read_whatever_their_marks() -> None:
    text = "Here:\n1. one\n 2) two\n- three\n四、four\n5．five\n6.六\n\n**end**\n3.5 m"
    assert listed(text) == ["one", "two", "three", "four", "five", "六"]


def test_a_question_has_a_seed_of_its_own_that_comes_again() -> None:
    def seeds(key: str, seed: int) -> list[int]:
        model = Scripted(lambda prompt, drawn: "x")
        asker = Asker(model, Sampling(seed=seed), "en", key)
        for _ in range(3):
            asker.answer([Message(role="user", content="q")])
        return [drawn for _, drawn in model.asked]

    assert seeds("a", 1) == seeds("a", 1)
    assert len({*seeds("a", 1), *seeds("b", 1), *seeds("a", 2)}) == 9


@pytest.mark.parametrize("text", [CUT, "  "])
def test_what_is_cut_off_or_empty_is_not_used(text: str) -> None:
    asker = Asker(Scripted(lambda prompt, seed: text), Sampling(seed=0), "en", "k")
    with pytest.raises(UnusableError, match=r"cut_off|empty"):
        asker.answer([Message(role="user", content="q")])


FRESH = (
    "Explain why granite piers weather so slowly?",
    "Which tools cut iron beams cleanly on site?",
    "How was timber kept dry before there was tar?",
)


def test_self_instruct_keeps_new_instructions_and_shows_them_later(
    questions: Path, tmp_path: Path
) -> None:
    rounds = iter(range(100))

    def says(prompt: str, seed: int) -> str:
        if not prompt.startswith("Here are tasks"):
            return f"Answer to: {prompt}"
        new = FRESH[next(rounds)]
        return (
            f"1. {new}\n2. How long is bridge 3?\n3. Draw a picture of a bridge.\n4. Hm?\n"
            f"5. {new.replace('?', '!')}"
        )

    made, model = run("self-instruct", questions, says, tmp_path / "out", count=3, shown=4)
    rows = rows_of(tmp_path / "out")
    assert [row["messages"][0]["content"] for row in rows] == list(FRESH)
    assert made.counts() == {"tasks": 3, "rows": 3, "unusable": {}, "errors": 0}
    assert rows[0]["metadata"] == {
        "method": "self-instruct", "model": "scripted", "seed": 0, "origin": "round 1"
    }  # fmt: skip
    assert rows[0]["messages"][1]["content"].startswith("Answer to: Explain why granite")
    prompts = [
        messages[0].content for messages, _ in model.asked if "Here are" in messages[0].content
    ]
    assert "granite" not in prompts[0]
    assert "granite" in prompts[1]  # made ones are shown, too


def test_rouge_l_is_that_of_its_definition() -> None:
    assert rouge_l(tokens("a b c d"), tokens("a c d e")) == 0.75
    assert rouge_l(tokens("桥有多长"), tokens("桥有多高")) == 0.75
    assert rouge_l([], tokens("a")) == 0.0


def test_evolve_goes_deeper_and_stops_at_what_it_cannot_use(
    questions: Path, tmp_path: Path
) -> None:
    def says(prompt: str, seed: int) -> str:
        if "\nTask:\n" not in prompt:
            return "I am sorry, no." if prompt.endswith("harder harder") else "It is long."
        task = prompt.partition("Task:\n")[2]
        if "bridge 1" in task:
            return task  # unchanged
        return "#Rewritten Task#: x" if "bridge 2" in task else f"{task} harder"

    made, _ = run("evolve", questions, says, tmp_path / "out", rounds=3, count=3)
    kept = rows_of(tmp_path / "out")
    assert all(row["messages"][0]["content"].endswith("? harder") for row in kept)
    assert all(len(row["metadata"]["ways"]) == 1 for row in kept)
    assert made.counts()["rows"] + sum(made.unusable.values()) == 3
    everything, _ = run("evolve", questions, says, tmp_path / "all", rounds=1)
    assert everything.unusable == {"unchanged": 1, "copies_the_prompt": 1}


def test_personas_and_documents_start_from_passages(texts: Path, tmp_path: Path) -> None:
    def says(prompt: str, seed: int) -> str:
        if prompt.startswith("Who is likely"):
            return "A bridge\ninspector."
        if "questions" in prompt:
            return "1. When was the bridge built?\n2. Who built the bridge?\n3. Why?\n4. What for?"
        return "NONE." if "Question: Who" in prompt else "In 1871."

    made, model = run("personas", texts, says, tmp_path / "p", questions=2, passage=100)
    rows = rows_of(tmp_path / "p")
    assert len(rows) == 2 * made.counts()["tasks"] == 4
    assert rows[0]["metadata"]["persona"] == "A bridge inspector."
    assert rows[0]["metadata"]["origin"] == f"{texts}#1"
    assert "1871" in model.asked[0][0][0].content
    made, _ = run("documents", texts, says, tmp_path / "d", questions=3, passage=400)
    asked = [row["messages"][0]["content"] for row in rows_of(tmp_path / "d")]
    assert asked == ["When was the bridge built?", "Why?"]  # the passage does not say who
    none, _ = run("documents", texts, lambda prompt, seed: "no list", tmp_path / "n", passage=400)
    assert none.unusable == {"no_answers": 1}


def test_reasoning_is_kept_where_the_votes_agree_and_the_answer_is_right(
    questions: Path, tmp_path: Path
) -> None:
    votes = {"0": ["0", "0", "9"], "1": ["7", "7", "1"], "2": ["2", "3", "4"], "3": ["", "", ""]}
    left = {key: list(results) for key, results in votes.items()}

    def says(prompt: str, seed: int) -> str:
        number = prompt.partition("bridge ")[2][0]
        result = left[number].pop(0) if number in left else number
        return f"So many steps.\nAnswer: {result} m" if result else "Hm."

    made, _ = run("chain-of-thought", questions, says, tmp_path / "o", votes=3)
    assert made.unusable == {"wrong_answer": 4, "no_agreement": 1, "no_final_answer": 1}
    left.update({key: list(results) for key, results in votes.items()})
    plain: Says = lambda prompt, seed: says(prompt, seed).replace(" m", "")  # noqa: E731
    made, model = run("chain-of-thought", questions, plain, tmp_path / "p", votes=3)
    rows = rows_of(tmp_path / "p")
    assert made.unusable == {"wrong_answer": 1, "no_agreement": 1, "no_final_answer": 1}
    assert [row["metadata"]["agreement"] for row in rows] == [pytest.approx(2 / 3), 1.0, 1.0]
    assert rows[0]["messages"][0]["content"] == "How long is bridge 0?"  # without the instruction
    assert "step by step" in model.asked[0][0][0].content


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("x\nAnswer: **1,000.0**.", "1000"),
        ("Answer: 3\nNo.\n答案：４２", "42"),
        ("the answer: 3", ""),
        ("**Answer:** The Old Bridge", "the old bridge"),
    ],
)
def test_final_answers_are_made_comparable(text: str, result: str) -> None:
    assert final_answer(text) == result


@given(st.lists(st.sampled_from(["", "a", "b", "c"]), max_size=12))
def test_the_majority_has_most_votes(results: list[str]) -> None:
    winner, share = majority(results)
    counts = {result: results.count(result) for result in results if result}
    assert share == (max(counts.values()) / len(results) if counts else 0.0)
    assert counts.get(winner, 0) == max(counts.values(), default=0)


def test_branches_are_solved_and_merged(questions: Path, tmp_path: Path) -> None:
    def says(prompt: str, seed: int) -> str:
        if "independent parts" in prompt:
            return "1. Alone" if "bridge 0" in prompt else "1. Piers\n2. Deck\n3. Towers"
        if "only this part" in prompt:
            return f"<{prompt.rpartition(': ')[2]}>"
        assert "<Piers>" in prompt
        assert "<Deck>" in prompt
        return "Merged."

    made, _ = run("branch-solve-merge", questions, says, tmp_path / "o", branches=2)
    rows = rows_of(tmp_path / "o")
    assert made.unusable == {"no_parts": 1}
    assert (len(rows), rows[0]["metadata"]["parts"]) == (5, ["Piers", "Deck"])
    assert parse_conversation(rows[0]).messages[-1].content == "Merged."


def simple(prompt: str, seed: int) -> str:
    return f"Answer: {prompt.partition('bridge ')[2][0]}"


@pytest.mark.parametrize("parallel", [1, 3])
def test_a_killed_run_goes_on_and_ends_the_same(
    questions: Path, tmp_path: Path, parallel: int
) -> None:
    run("chain-of-thought", questions, simple, tmp_path / "whole")

    def killed(prompt: str, seed: int) -> str:
        if "bridge 3" in prompt:
            raise KeyboardInterrupt
        return simple(prompt, seed)

    folder = tmp_path / "killed"
    with pytest.raises(KeyboardInterrupt):
        run("chain-of-thought", questions, killed, folder, parallel)
    assert not (folder / ROWS).exists()
    with (folder / ITEMS).open("a") as log:
        log.write('{"key": "half a li')
    made, model = run("chain-of-thought", questions, simple, folder, parallel)
    assert (folder / ROWS).read_text() == (tmp_path / "whole" / ROWS).read_text()
    assert len(model.asked) == 3  # what was done is not done again
    assert made.counts()["tasks"] == 6
    again, model = run("chain-of-thought", questions, simple, folder, parallel)
    assert (model.asked, again.counts()) == ([], made.counts())


def test_errors_of_the_model_are_counted_and_tried_again(questions: Path, tmp_path: Path) -> None:
    def flaky(prompt: str, seed: int) -> str:
        if "bridge 4" in prompt:
            raise FledgeError("busy")
        return simple(prompt, seed)

    made, _ = run("chain-of-thought", questions, flaky, tmp_path / "o")
    assert (made.errors, made.last_error, len(rows_of(tmp_path / "o"))) == (1, "busy", 5)
    made, model = run("chain-of-thought", questions, simple, tmp_path / "o")
    assert (made.errors, len(model.asked), len(rows_of(tmp_path / "o"))) == (0, 1, 6)


def test_a_model_that_is_gone_ends_the_run(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text("".join(f'{{"prompt": "q{n}"}}\n' for n in range(MOST_FAILURES + 5)))

    def gone(prompt: str, seed: int) -> str:
        raise FledgeError("no answer")

    with pytest.raises(FledgeError, match="20 tasks in a row failed, the last: no answer"):
        run("chain-of-thought", path, gone, tmp_path / "o")


def test_a_folder_of_another_run_is_refused(questions: Path, tmp_path: Path) -> None:
    run("chain-of-thought", questions, simple, tmp_path / "o")
    with pytest.raises(InputError, match="holds a run with another votes: None, not 2"):
        run("chain-of-thought", questions, simple, tmp_path / "o", votes=2)


def test_questions_are_read_in_every_form(tmp_path: Path) -> None:
    rows = [
        {"input": "q", "target": "a"},
        {"input": [{"role": "user", "content": "q"}], "target": "a"},
        {"question": "q", "answer": "So.\n#### a"},
        {"prompt": "q", "completion": "a"},
        {"instruction": "q", "output": "a"},
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "x"}]},
        {"prompt": "q", "chosen": "x", "rejected": "y"},
    ]
    path = tmp_path / "q.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    read = read_questions([path])
    assert [one.text for one in read] == ["q"] * 7
    assert [one.target for one in read] == ["a"] * 5 + [""] * 2
    path.write_text('{"prompt": " "}')
    with pytest.raises(InputError, match=r"q.jsonl:1: nobody asks anything"):
        read_questions([path])


@given(st.text(alphabet="ab \n", max_size=300), st.integers(10, 60))
@settings(max_examples=150, deadline=None)
def test_pieces_hold_all_of_a_text_and_are_short_enough(text: str, most: int) -> None:
    found = pieces(text, most)
    assert all(piece and len(piece) <= most for piece in found)
    assert "".join("".join(found).split()) == "".join(text.split())


def test_documents_are_rows_or_plain_files(texts: Path, tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text('{"text": "One."}\n{"body": "x"}')
    with pytest.raises(InputError, match=r"d.jsonl:2: no text"):
        read_passages([path], 100)
    path.write_text('{"text": "One."}')
    assert [one.origin for one in read_passages([path, texts], 100)] == [
        f"{path}:1#1", f"{texts}#1", f"{texts}#2"
    ]  # fmt: skip
