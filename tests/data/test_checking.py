"""A check names every faulty row and every odd one, once, and counts what it saw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fledge.core.errors import InputError
from fledge.data.checking import Limits, check_rows
from fledge.data.examples import kind_of_file, kind_of_files
from fledge.data.json_rows import Row


def rows_of(*values: Any) -> list[Row]:
    return [Row(origin=f"f:{n}", value=value) for n, value in enumerate(values, 1)]


def chat(*turns: tuple[str, str]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": text} for role, text in turns]}


ASK, SAY = ("user", "When?"), ("assistant", "In 1937.")
CALL = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f"}}]}
RESULT = {"role": "tool", "content": "1937"}
OPEN, SAID = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}


def test_all_faults_are_counted_and_the_first_named() -> None:
    good = chat(ASK, SAY)
    rows = [*rows_of(good, {"text": "x"}, [], good), Row(origin="f:5", fault="not JSON: x")]
    found = check_rows(rows, "sft", Limits(), listed=2)
    assert (found.rows, found.examples, found.faulty) == (5, 2, 3)
    assert [one.origin for one in found.faults] == ["f:2", "f:3"]
    assert check_rows(rows, "sft", Limits(), listed=9).faults[2].what == "not JSON: x"


@pytest.mark.parametrize(
    ("row", "warned"),
    [
        (chat(ASK, SAY), []),
        (chat(("system", "Be brief."), ASK, SAY, ASK, SAY), []),
        ({"messages": [OPEN, CALL, RESULT, RESULT, SAID]}, []),
        (chat(ASK, ("assistant", " ")), ["empty_answer"]),
        ({"messages": [OPEN, CALL]}, []),
        (chat(("user", "\n"), SAY), ["empty_question"]),
        (chat(ASK, SAY, ASK), ["no_last_answer"]),
        (chat(ASK, ASK, SAY), ["roles"]),
        (chat(SAY, ASK, SAY), ["roles"]),
        (chat(ASK, ("system", "x"), SAY), ["roles"]),
        (chat(ASK, ("tool", "x"), SAY), ["roles"]),
        ({"messages": [OPEN, CALL, SAID]}, ["roles"]),
        (chat(ASK, ("assistant", "x" * 100)), ["long"]),
    ],
)  # fmt: skip
def test_odd_conversations_are_warned_of(row: dict[str, Any], warned: list[str]) -> None:
    found = check_rows(rows_of(row), "sft", Limits(longest=90), listed=9)
    assert sorted(found.warned) == warned
    assert not found.faulty


def test_odd_pairs_and_duplicates_are_warned_of() -> None:
    same = {"prompt": "q", "chosen": "a", "rejected": "a"}
    other = {"prompt": "q", "chosen": "a", "rejected": ""}
    found = check_rows(rows_of(same, other, same, same), "preference", Limits(), listed=1)
    assert found.warned == {"same_answers": 3, "empty_answer": 1, "duplicate": 2}
    assert [one.origin for one in found.warnings["duplicate"]] == ["f:3"]


def test_lengths_are_in_tokens_when_they_can_be_counted() -> None:
    def words(messages: Any, tools: Any) -> int | None:
        count = sum(len(message.content.split()) for message in messages)
        return None if count == 3 else count

    rows = rows_of(chat(("user", "a b"), ("assistant", "c d")), chat(("user", "a"), SAY))
    limits = Limits(longest=3, length=words)
    found = check_rows(rows, "sft", limits, listed=9)
    assert (limits.unit, found.warned) == ("tokens", {"long": 1, "template": 1})
    assert found.statistics.result()["lengths"]["whole"]["most"] == 4


def test_statistics_say_what_there_is() -> None:
    chinese = {
        "prompt": "这座桥建于哪一年？请回答。",
        "chosen": "这座桥于1937年建成。",
        "rejected": "不知道。",
    }
    english = {
        "prompt": [{"role": "system", "content": "You answer questions about old bridges."},
                   {"role": "user", "content": "When was the bridge over the river opened?"}],
        "chosen": "It was", "rejected": "The bridge was opened in the year 1937.",
        "margin": 2, "tools": [{"name": "f"}],
    }  # fmt: skip
    told = check_rows(rows_of(chinese, english), "preference", Limits(), 1).statistics.result()
    assert told["languages"] == {"zh-Hans": 1, "en": 1}
    assert told["shares"] == {
        "system": 0.5, "tools": 0.5, "several_turns": 0.0, "chosen_longer": 0.5, "margin": 0.5
    }  # fmt: skip
    assert told["lengths"]["turns"] == {"least": 2, "median": 2, "95 %": 3, "most": 3}
    assert told["lengths"]["rejected_characters"]["least"] == 4
    judged = [{"prompt": "q", "completion": "a", "label": good} for good in (True, False, True)]
    told = check_rows(rows_of(*judged), "judged", Limits(), 1).statistics.result()
    assert told["shares"]["good"] == 0.6667


def test_the_kind_is_found_by_the_first_row(tmp_path: Path) -> None:
    files = {
        "preference": '{"prompt": "q", "chosen": "a", "rejected": "b"}',
        "judged": '{"prompt": "q", "completion": "a", "label": false}',
        "sft": "broken\n" + '{"prompt": "q", "completion": "a"}',
    }
    paths = []
    for kind, text in files.items():
        paths.append(tmp_path / kind)
        paths[-1].write_text(text)
        assert kind_of_file(paths[-1]) == kind
    with pytest.raises(InputError, match="files of several kinds"):
        kind_of_files(paths)
    (tmp_path / "none").write_text("3\n[]")
    with pytest.raises(InputError, match="holds no JSON object"):
        kind_of_file(tmp_path / "none")
