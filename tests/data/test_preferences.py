"""Preference pairs and judged answers: every form is read alike, faults are named, rows return."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from fledge.core.errors import InputError
from fledge.core.types import Message, ToolCall
from fledge.data.chat_forms import Conversation, parse_conversation, parse_conversations
from fledge.data.json_rows import read_rows
from fledge.data.preference_forms import (
    is_judged,
    is_preference,
    parse_judged,
    parse_preference,
)
from fledge.data.preferences import (
    Judged,
    Preference,
    conversation_row,
    judged_row,
    preference_row,
    read_judged,
    read_preferences,
)


def user(text: str) -> Message:
    return Message(role="user", content=text)


def says(text: str) -> Message:
    return Message(role="assistant", content=text)


ASKED = (user("When?"),)
PAIR = Preference(prompt=ASKED, chosen=(says("In 1937."),), rejected=(says("Dunno."),))
OPEN = {"role": "user", "content": "When?"}
GOOD, BAD = ({"role": "assistant", "content": text} for text in ("In 1937.", "Dunno."))
HEARD = {"from": "human", "value": "When?"}
SAID, MEANT = ({"from": "gpt", "value": text} for text in ("In 1937.", "Dunno."))


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "When?", "chosen": " In 1937.", "rejected": " Dunno."},
        {"prompt": [OPEN], "chosen": [GOOD], "rejected": [BAD]},
        {"prompt": [OPEN], "chosen": GOOD, "rejected": BAD},
        {"prompt": "When?", "chosen": [OPEN, GOOD], "rejected": [OPEN, BAD]},
        {"chosen": [OPEN, GOOD], "rejected": [OPEN, BAD]},
        {"chosen_messages": [OPEN, GOOD], "rejected_messages": [OPEN, BAD]},
        {"messages": [OPEN], "chosen": GOOD, "rejected": BAD},
        {"conversations": [HEARD], "chosen": SAID, "rejected": MEANT},
        {"conversations": [HEARD], "chosen": "In 1937.", "rejected": "Dunno."},
        {"instruction": "When?", "input": "", "chosen": "In 1937.", "rejected": "Dunno."},
        {
            "instruction": "When?",
            "input": "",
            "output": "In 1937!",
            "chosen": "In 1937.",
            "rejected": "Dunno.",
        },
        {
            "system": "",
            "history": [],
            "question": "When?",
            "response_chosen": "In 1937.",
            "response_rejected": "Dunno.",
        },
        {
            "chosen": "\n\nHuman: When?\n\nAssistant: In 1937.",
            "rejected": "\n\nHuman: When?\n\nAssistant: Dunno.",
        },
        {
            "prompt": "\n\nHuman: When?\n\nAssistant:",
            "chosen": " In 1937.",
            "rejected": " Dunno.",
        },
    ],
)
def test_every_form_gives_the_same_pair(row: dict[str, Any]) -> None:
    assert is_preference(row)
    assert parse_preference(row) == PAIR


def test_history_and_system_come_before_the_question() -> None:
    row = {
        "system": "Be brief.",
        "history": [["Hello", "Hi"]],
        "question": "When?",
        "response_chosen": "In 1937.",
        "response_rejected": "Dunno.",
    }
    asked = (Message(role="system", content="Be brief."), user("Hello"), says("Hi"), user("When?"))
    assert parse_preference(row).prompt == asked


def test_whole_conversations_part_where_they_first_differ() -> None:
    more = [OPEN, GOOD, {"role": "user", "content": "Sure?"}]
    row = {
        "chosen": [*more, {"role": "assistant", "content": "Yes."}],
        "rejected": [*more, {"role": "assistant", "content": "No."}],
    }
    pair = parse_preference(row)
    assert pair.prompt == (*ASKED, says("In 1937."), user("Sure?"))
    assert (pair.chosen, pair.rejected) == ((says("Yes."),), (says("No."),))


def test_equal_conversations_keep_their_last_answer_as_both() -> None:
    pair = parse_preference({"chosen": [OPEN, GOOD], "rejected": [OPEN, GOOD]})
    assert pair.prompt == ASKED
    assert pair.chosen == pair.rejected == (says("In 1937."),)


def test_an_answer_that_quotes_a_dialogue_is_one_answer() -> None:
    quoted = "Human: When?\n\nAssistant: In 1937."
    row = {"prompt": "Write a dialogue.", "chosen": quoted, "rejected": "No."}
    assert parse_preference(row).chosen == (says(quoted),)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([], "must be a JSON object"),
        ({"text": "x"}, "found text"),
        ({"prompt": "When?", "chosen": "a"}, "expected 'chosen' and 'rejected'"),
        ({"prompt": "When?", "chosen": "a", "rejected": None}, "'rejected' must be text, a mes"),
        ({"prompt": "When?", "chosen": "a", "rejected": []}, "'rejected' must be a list with at"),
        ({"prompt": 3, "chosen": "a", "rejected": "b"}, "'prompt' must be text or a list"),
        ({"prompt": [], "chosen": "a", "rejected": "b"}, "'prompt' must be a list with at least"),
        ({"prompt": [OPEN], "chosen": [GOOD, OPEN], "rejected": [BAD]}, "'chosen' ends with role"),
        (
            {"prompt": [OPEN], "chosen": [{"role": "assistant", "content": 1}], "rejected": [BAD]},
            "'chosen', message 1: content must be",
        ),
        ({"chosen": "The sky is blue.", "rejected": "The sky is green."}, "there is no 'prompt'"),
        ({"chosen": [OPEN, GOOD], "rejected": [BAD]}, "'rejected' does not begin with one"),
        (
            {"chosen": [OPEN, GOOD], "rejected": [{"role": "user", "content": "Who?"}, BAD]},
            "part at message 1, where 'chosen' has a message of role user",
        ),
        (
            {"prompt": "Who?", "chosen": [OPEN, GOOD], "rejected": [OPEN, BAD]},
            "'prompt' is not how",
        ),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "margin": "2"}, "'margin' is '2', not"),
        (
            {"prompt": "q", "chosen": "a", "rejected": "b", "margin": float("nan")},
            "not a finite number",
        ),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "tools": "["}, "'tools' is not JSON"),
        (
            {"conversations": [{"from": "alien", "value": "x"}], "chosen": "a", "rejected": "b"},
            "turn 1: 'from' is 'alien'",
        ),
    ],
)
def test_faulty_pairs_are_named(row: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_preference(row)


def test_scores_tell_the_margin() -> None:
    row = {"prompt": "q", "chosen": "a", "rejected": "b", "score_chosen": 8.5, "score_rejected": 6}
    assert parse_preference(row).margin == 2.5
    assert parse_preference({**row, "margin": -1}).margin == -1.0


ONE = Judged(prompt=ASKED, completion=(says("In 1937."),), good=True)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "When?", "completion": "In 1937.", "label": True},
        {"prompt": [OPEN], "completion": [GOOD], "label": True},
        {"messages": [OPEN, GOOD], "label": True},
        {"conversations": [HEARD, SAID], "kto_tag": True},
        {"instruction": "When?", "output": "In 1937.", "kto_tag": True},
    ],
)
def test_every_form_gives_the_same_judgement(row: dict[str, Any]) -> None:
    assert is_judged(row)
    assert parse_judged(row) == ONE
    label = "label" if "label" in row else "kto_tag"
    assert not parse_judged({**row, label: 0}).good
    with pytest.raises(ValueError, match="KTO"):
        parse_conversations(row)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "q", "completion": "a"}, "expected 'label'"),
        ({"prompt": "q", "completion": "a", "label": "yes"}, "'label' is 'yes', neither"),
        ({"completion": "a", "label": True}, "expected 'prompt'"),
        ({"text": "a", "label": True}, "expected 'prompt' and 'completion'"),
        ({"messages": [OPEN], "label": True}, "'messages' holds no answer"),
        ({"messages": [GOOD], "label": True}, "the prompt is empty"),
    ],
)
def test_faulty_judgements_are_named(row: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_judged(row)


def test_a_label_that_is_no_judgement_leaves_a_conversation() -> None:
    assert not is_judged({"instruction": "q", "output": "a", "label": "maths"})


@pytest.mark.parametrize("packing", ["plain", "gzip", "zstandard", "array"])
def test_files_are_read_packed_or_not(tmp_path: Path, packing: str) -> None:
    rows = [preference_row(PAIR)] * 3
    text = json.dumps(rows) if packing == "array" else "\n".join(map(json.dumps, rows))
    pack = {"gzip": gzip.compress, "zstandard": zstandard.compress}.get(packing, bytes)
    path = tmp_path / "pairs"
    path.write_bytes(pack(text.encode()))
    read = list(read_preferences(path))
    assert [one.chosen for one in read] == [PAIR.chosen] * 3
    assert read[1].origin == (f"{path}, item 2" if packing == "array" else f"{path}:2")


def test_the_file_and_line_of_a_fault_are_named(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps(preference_row(PAIR)) + '\n\n{"chosen": 1, "rejected": 2}\n{')
    rows = read_preferences(path)
    next(rows)
    with pytest.raises(InputError, match=r"pairs.jsonl:3: 'chosen' must be text.*mend that line"):
        next(rows)
    origins = [(row.origin.rsplit(":")[-1], bool(row.fault)) for row in read_rows(path, "rows")]
    assert origins == [("1", False), ("3", False), ("4", True)]  # those after a fault, too
    with pytest.raises(InputError, match=r"judged answers .* is not a file"):
        list(read_judged(tmp_path))


words = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
calls = st.builds(ToolCall, id=words, name=words, arguments=words)


def assistant(draw_calls: st.SearchStrategy[Any]) -> st.SearchStrategy[Message]:
    return st.builds(Message, role=st.just("assistant"), content=words, tool_calls=draw_calls)


results = st.builds(Message, role=st.just("tool"), content=words, tool_call_id=st.none() | words)
answers = st.builds(
    lambda first, last: (*first, last),
    st.just(()) | st.tuples(assistant(st.lists(calls, min_size=1, max_size=2).map(tuple)), results),
    assistant(st.just(())),
)
prompts = st.lists(
    st.builds(Message, role=st.sampled_from(["system", "user", "assistant"]), content=words),
    min_size=1,
    max_size=4,
).map(tuple)
tools = st.lists(
    st.builds(lambda name: {"type": "function", "function": {"name": name}}, words), max_size=2
).map(tuple)
margins = st.none() | st.floats(allow_nan=False, allow_infinity=False)


def through_json(row: dict[str, Any]) -> Any:
    return json.loads(json.dumps(row, ensure_ascii=False))


@given(pair=st.builds(Preference, prompt=prompts, chosen=answers, rejected=answers, tools=tools,
                      margin=margins))  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_pairs_return_from_their_rows(pair: Preference) -> None:
    assert parse_preference(through_json(preference_row(pair))) == pair


@given(one=st.builds(Judged, prompt=prompts, completion=answers, good=st.booleans(), tools=tools))
@settings(max_examples=100, deadline=None)
def test_judged_answers_return_from_their_rows(one: Judged) -> None:
    assert parse_judged(through_json(judged_row(one))) == one


@given(prompt=prompts, answer=answers, tools=tools, data=st.data())
@settings(max_examples=100, deadline=None)
def test_conversations_return_from_their_rows(
    prompt: tuple[Message, ...],
    answer: tuple[Message, ...],
    tools: tuple[dict[str, Any], ...],
    data: st.DataObject,
) -> None:
    messages = (*prompt, *answer)
    untaught = data.draw(st.frozensets(st.integers(0, len(messages) - 1)))
    one = Conversation(messages=messages, tools=tools, untaught=untaught)
    assert parse_conversation(through_json(conversation_row(one))) == one


REAL = {
    "llamafactory_demo": {
        "alpaca_en_demo": {"conversations": 999},
        "alpaca_zh_demo": {"conversations": 1000},
        "c4_demo": {"refused": 300},
        "dpo_en_demo": {"preferences": 300},
        "dpo_zh_demo": {"preferences": 143},
        "glaive_toolcall_en_demo": {"conversations": 300},
        "glaive_toolcall_zh_demo": {"conversations": 300},
        "identity": {"conversations": 91},
        "kto_en_demo": {"judged": 300},
        "reason_tool_use_demo_50": {"conversations": 50},
        "v1_dpo_demo": {"preferences": 10},
        "v1_sft_demo": {"conversations": 500},
    },
    "medicalgpt_zh": {
        "dpo_zh_500": {"preferences": 249},
        "medical_sft_1K": {"conversations": 1000},
        "sharegpt_zh_1K": {"conversations": 1000},
    },
    "hh_rlhf_harmless_test": {"harmless_base_test": {"preferences": 1130}},
    "rasbt_instruction": {
        "instruction-data": {"conversations": 1100},
        "instruction-data-with-preference": {"preferences": 1100},
    },
}


@pytest.mark.shared
@pytest.mark.parametrize("folder", REAL)
def test_every_real_row_is_read_or_refused_with_a_reason(fledge_data: Path, folder: str) -> None:
    found: dict[str, Counter[str]] = {}
    for path in sorted((fledge_data / folder).glob("*.jsonl.zst")):
        counts = found.setdefault(path.name.removesuffix(".jsonl.zst"), Counter())
        for row in read_rows(path, "rows"):
            try:
                counts[_read(row.value)] += 1
            except ValueError as error:
                counts["refused" if "found text" in str(error) else str(error)] += 1
    assert found == REAL[folder]


def _read(value: Any) -> str:
    if is_preference(value):
        pair = parse_preference(value)
        assert pair.chosen[0].role == pair.rejected[0].role == "assistant"
        return "preferences"
    if is_judged(value):
        assert parse_judged(value).completion[-1].role == "assistant"
        return "judged"
    parse_conversations(value)
    return "conversations"
