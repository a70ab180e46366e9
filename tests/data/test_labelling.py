"""People's labels: rows to tasks, turns, the log under kills and crowds, agreement, export."""

from __future__ import annotations

import json
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fledge.core.errors import InputError
from fledge.data.checking import Limits, check_rows
from fledge.data.examples import kind_of_file
from fledge.data.json_rows import read_rows
from fledge.data.labelling.labels import (
    Label,
    check_label,
    checked_name,
    counting,
    label_row,
    open_tasks,
    parse_label,
)
from fledge.data.labelling.log import LABELS, LabelLog, read_folder, read_labels
from fledge.data.labelling.results import export, pairs_of, statistics
from fledge.data.labelling.tasks import LabelTask, gathered, parse_tasks, read_tasks, task_row
from fledge.data.preference_forms import parse_preference


def tasks_of(*rows: Any) -> list[LabelTask]:
    return gathered(task for row in rows for task in parse_tasks(row, "here"))


def ask(prompt: str, *answers: str) -> LabelTask:
    [task] = tasks_of({"prompt": prompt, "answers": list(answers)})
    return task


def ids(task: LabelTask) -> dict[str, str]:
    """Text of an answer -> its id."""
    return {answer[0].content: key for key, answer in task.by_id.items()}


def rank(task: LabelTask, who: str, *groups: str, **more: Any) -> Label:
    """``rank(task, "ann", "b", "a c")``: b is best, a and c are equal."""
    known = ids(task)
    ranking = tuple(tuple(known[text] for text in group.split()) for group in groups)
    return Label(task=task.key, annotator=who, kind="rank", ranking=ranking, **more)


def write(task: LabelTask, who: str, text: str) -> Label:
    return Label(task=task.key, annotator=who, kind="write", text=text)


# --- rows to tasks -------------------------------------------------------------------------


def test_every_form_of_row_becomes_a_task(tmp_path: Path) -> None:
    asked = [{"role": "user", "content": "q"}]
    rows = [
        {"prompt": "p", "answers": ["a", "b", "c"]},
        {"messages": asked, "answers": ["a", [{"role": "assistant", "content": "b"}]]},
        {"messages": asked},
        {"prompt": "write me", "answers": []},
        {"prompt": "pair", "chosen": "good", "rejected": "bad"},
        {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]},
        {"prompt": "judged", "completion": "z", "label": True},
    ]
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_tasks([path, path])
    assert [(task.prompt[-1].content, len(task.answers)) for task in found] == [
        ("p", 3),
        ("q", 2),
        ("q", 0),
        ("write me", 0),
        ("pair", 2),
        ("x", 0),
        ("judged", 0),
    ]
    again = tasks_of(*map(task_row, found))
    assert [task.key for task in again] == [task.key for task in found]


def test_conversations_that_ask_the_same_are_compared() -> None:
    rows = [{"prompt": "q", "completion": text} for text in ("one", "two", "one")]
    [task] = tasks_of(*rows, {"prompt": "q"})[:1]
    assert set(ids(task)) == {"one", "two"}


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"prompt": "q", "answers": ["a"]}, "two or more"),
        ({"prompt": "q", "answers": "a"}, "list of two or more"),
        ({"prompt": "q", "answers": ["a", " a "]}, "nothing to rank"),
        ({"prompt": "q", "chosen": "a", "rejected": "a"}, "nothing to rank"),
        ({"prompt": "q", "answers": [str(n) for n in range(10)]}, "more than 9"),
        ({"prompt": " ", "answers": []}, "empty"),
        ({"prompt": "q", "answers": ["a", 3]}, "'answers' 2"),
        ({"prompt": "q", "answers": ["a", [{"role": "user", "content": "b"}]]}, "assistant"),
        ({"answers": ["a", "b"]}, "expected 'prompt'"),
        (["q"], "object"),
    ],
)
def test_what_nobody_could_do_is_refused(row: Any, why: str, tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps({"prompt": "fine"}) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(InputError, match=rf"t.jsonl:2: .*{why}"):
        read_tasks([path])


def test_places_tell_nothing_and_stay() -> None:
    tasks = [ask(f"q{n}", "a", "b") for n in range(200)]
    first = sum(task.shown_to("ann", 0)[0] == ids(task)["a"] for task in tasks)
    assert 70 < first < 130
    assert [task.shown_to("ann", 0) for task in tasks] == [
        task.shown_to("ann", 0) for task in tasks
    ]
    others = [task.shown_to("bob", 0) for task in tasks]
    assert others != [task.shown_to("ann", 0) for task in tasks]
    assert others != [task.shown_to("bob", 1) for task in tasks]


# --- labels and turns ----------------------------------------------------------------------


def test_labels_that_do_not_fit_their_task_are_refused() -> None:
    pair, free = ask("q", "a", "b"), ask("w")
    a, b = ids(pair)["a"], ids(pair)["b"]
    plain = {"task": pair.key, "annotator": "ann"}
    bad = [
        (pair, {"kind": "rank"}),
        (pair, {"kind": "rank", "ranking": ((a,),)}),
        (pair, {"kind": "rank", "ranking": ((a,), (a, b))}),
        (pair, {"kind": "rank", "ranking": ((a, b), ())}),
        (pair, {"kind": "rank", "ranking": ((a,), (b,)), "text": "better"}),
        (pair, {"kind": "write", "text": "own"}),
        (pair, {"kind": "skip", "ranking": ((a,), (b,))}),
        (free, {"kind": "write", "text": " \n"}),
        (free, {"kind": "rank"}),
    ]
    for task, more in bad:
        with pytest.raises(ValueError):
            check_label(Label(**plain, **more), task)
    check_label(rank(pair, "ann", "a b"), pair)
    for name in ("", "  ", "x" * 65, "a\x1bb"):
        with pytest.raises(ValueError, match="printable"):
            checked_name(name)
    assert checked_name("  Ann   Lee ") == "Ann Lee"


def test_whose_turn_it_is() -> None:
    tasks = [ask(f"q{n}", "a", "b") for n in range(3)]
    labels = counting([rank(tasks[0], "ann", "a", "b"), rank(tasks[0], "bob", "a", "b")])

    def left(who: str, each: int, given_out: Any = ()) -> list[int]:
        found = open_tasks(tasks, labels, who, each, given_out)
        return [tasks.index(task) for task in found]

    assert left("ann", 2) == [1, 2]
    assert left("cid", 2) == [1, 2]
    assert left("cid", 3) == [1, 2, 0]
    assert left("cid", 3, [tasks[1].key]) == [2, 1, 0]
    skip = Label(task=tasks[1].key, annotator="cid", kind="skip")
    labels = counting([*labels.values(), skip])
    assert left("cid", 1) == [2], "what one skipped"
    assert left("dan", 1) == [1, 2], "is for others"


def test_the_last_label_counts_and_can_be_taken_back() -> None:
    task = ask("q", "a", "b")
    first, second = rank(task, "ann", "a", "b"), rank(task, "ann", "b", "a")
    assert list(counting([first, second]).values()) == [second]
    undo = Label(task=task.key, annotator="ann", kind="undo")
    assert counting([first, second, undo, rank(task, "bob", "a b")]).keys() == {(task.key, "bob")}
    assert parse_label(json.loads(json.dumps(label_row(second)))) == second


# --- the log -------------------------------------------------------------------------------


def test_a_kill_in_the_middle_of_a_line_loses_only_that_line(tmp_path: Path) -> None:
    tasks = [ask(f"q{n}", "a", "b") for n in range(4)]
    with LabelLog(tmp_path, tasks) as log:
        for task in tasks[:3]:
            log.add(rank(task, "安娜", "a", "b", note="ligne\u2028bizarre"))
    whole = (tmp_path / LABELS).read_bytes()
    lines = whole.splitlines(keepends=True)
    for cut in range(len(whole) - len(lines[-1]), len(whole)):
        (tmp_path / LABELS).write_bytes(whole[:cut])
        assert len(list(read_labels(tmp_path))) == 2, "a reader beside the writer sees whole lines"
        with LabelLog(tmp_path) as log:
            assert {key for key, _ in log.labels} == {task.key for task in tasks[:2]}
            log.add(rank(tasks[3], "bob", "a b"))
        assert [one.annotator for one in read_labels(tmp_path)] == ["安娜", "安娜", "bob"]
        assert len(read_folder(tmp_path)[0]) == 4


def test_two_writers_of_one_folder_are_refused(tmp_path: Path) -> None:
    with LabelLog(tmp_path, [ask("q")]), pytest.raises(InputError, match="another fledge label"):
        LabelLog(tmp_path)
    with LabelLog(tmp_path) as log:
        assert len(log.tasks) == 1


def test_a_full_disk_leaves_no_half_line(tmp_path: Path) -> None:
    tasks = [ask("q"), ask("w")]
    with LabelLog(tmp_path, tasks) as log:
        log.add(write(tasks[0], "ann", "one"))
        real = log._file

        class Full:
            def write(self, line: bytes) -> int:
                return real.write(line[: len(line) // 2])

            def __getattr__(self, name: str) -> Any:
                return getattr(real, name)

        log._file = Full()  # type: ignore[assignment]
        with pytest.raises(OSError):
            log.add(write(tasks[1], "ann", "lost"))
        assert len(log.labels) == 1
        log._file = real
        log.add(write(tasks[1], "bob", "two"))
    assert [one.text for one in read_labels(tmp_path)] == ["one", "two"]


def test_annotators_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    tasks = [ask(f"q{n}", "a", "b") for n in range(10)]
    with LabelLog(tmp_path, tasks) as log:

        def work(who: str) -> None:
            while left := open_tasks(log.tasks, log.labels, who, each=4):
                log.add(rank(left[0], who, "a", "b"))

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, ["ann", "bob", "cid", "dan"]))
        assert len(log.labels) == 40
    assert len(list(read_labels(tmp_path))) == 40


def test_tasks_are_added_and_damage_is_named(tmp_path: Path) -> None:
    first, second = ask("q", "a", "b"), ask("w")
    with LabelLog(tmp_path, [first]) as log:
        log.add(rank(first, "ann", "a", "b"))
        with pytest.raises(ValueError, match="no task"):
            log.add(write(second, "ann", "text"))
    with LabelLog(tmp_path, [second, first]) as log:
        assert [task.key for task in log.tasks] == [first.key, second.key]
        assert len(log.labels) == 1
    (tmp_path / LABELS).write_text('{"task": "gone", "annotator": "eve", "kind": "skip"}\n')
    with pytest.raises(InputError, match=r"'eve'.*gone"):
        read_folder(tmp_path)
    for line in ('{"task": "x"}', "{", "3", '{"task": "x", "annotator": "a", "kind": "rate"}'):
        (tmp_path / LABELS).write_text(line + "\n")
        with pytest.raises(InputError, match=r"labels.jsonl:1: not a label"):
            read_folder(tmp_path)
    with pytest.raises(InputError, match="holds no tasks"):
        read_folder(tmp_path / "nowhere")


# --- agreement and export ------------------------------------------------------------------


def test_agreement_of_full_none_and_chance() -> None:
    tasks = [ask(f"q{n}", "a", "b") for n in range(400)]
    draw = random.Random(3)
    alike = [rank(task, "x", *draw.choice([("a", "b"), ("b", "a")])) for task in tasks]
    same = [Label(**{**vars(label), "annotator": "y"}) for label in alike]
    told = statistics(tasks, counting([*alike, *same]))
    assert told["alpha"] == pytest.approx(1)
    assert told["kappa"] == [{"annotators": ["x", "y"], "pairs": 400, "kappa": pytest.approx(1)}]
    assert told["labelled"] == 400
    assert told["ties"] == 0
    always = [rank(task, "z", "a", "b") for task in tasks]
    told = statistics(tasks, counting([*alike, *always]))
    assert abs(told["alpha"]) < 0.15, "one who always takes the file's first agrees by chance"
    alone = statistics(tasks, counting(alike))
    assert alone["alpha"] is None
    assert alone["kappa"] == []


def test_bias_for_what_stands_first_is_told() -> None:
    tasks = [ask(f"q{n}", "a", "b") for n in range(8)]
    labels = []
    for task in tasks:
        shown = tuple(task.shown_to("lazy", 0))
        ranking = tuple((one,) for one in shown)
        labels.append(
            Label(task=task.key, annotator="lazy", kind="rank", ranking=ranking, shown=shown)
        )
    assert statistics(tasks, counting(labels))["first_shown"] == 1


def test_export_by_majority() -> None:
    pair, many, free, none = ask("q", "a", "b"), ask("m", "a", "b", "c"), ask("w"), ask("n")
    labels = [
        rank(pair, "ann", "a", "b"),
        rank(pair, "bob", "a", "b"),
        rank(pair, "cid", "b", "a"),
        rank(many, "ann", "b", "a c"),
        rank(many, "bob", "b", "c a"),
        write(free, "ann", "Text. "),
        write(free, "bob", "Text."),
        write(free, "cid", "Other."),
        Label(task=none.key, annotator="ann", kind="skip"),
    ]
    done = export([pair, many, free, none], counting(labels))
    assert done.counts == {
        "written": 2, "best": 2, "pairs": 3, "ties": 1, "disagreements": 0, "no_best": 0,
        "unlabelled": 1,
    }  # fmt: skip
    assert done.preferences[0]["metadata"] == {
        "task": pair.key, "labels": 3, "agreed": 2, "ties": 0,
    }  # fmt: skip
    texts = [
        (row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in done.preferences
    ]
    assert texts[0] == ("a", "b")
    assert sorted(texts[1:]) == [("b", "a"), ("b", "c")]
    said = [row["messages"][-1]["content"] for row in done.sft]
    assert said == ["a", "b", "Text.", "Other."]


def test_only_the_labelled_answer_is_learnt() -> None:
    turns = [("user", "1"), ("assistant", "earlier"), ("user", "2")]
    prompt = [{"role": role, "content": text} for role, text in turns]
    [task] = tasks_of({"messages": prompt, "answers": []})
    [row] = export([task], counting([write(task, "ann", "new")])).sft
    assert [message.get("weight", 1) for message in row["messages"]] == [1, 0, 1, 1]


TEXTS = ("a", "b", "c")
RANKINGS = st.permutations(TEXTS).flatmap(
    lambda order: st.sampled_from(
        [
            order,
            [f"{order[0]} {order[1]}", order[2]],
            [order[0], f"{order[1]} {order[2]}"],
            [" ".join(order)],
        ]
    )
)


@settings(max_examples=200, deadline=None)
@given(votes=st.lists(RANKINGS, max_size=6), draw=st.randoms(use_true_random=False))
def test_exported_pairs_are_what_most_say(votes: list[list[str]], draw: random.Random) -> None:
    task = ask("m", *TEXTS)
    labels = [rank(task, f"who{n}", *groups) for n, groups in enumerate(votes)]
    done = export([task], counting(labels))
    counts = done.counts
    told = [
        (row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in done.preferences
    ]
    if votes:
        everything = counts["pairs"] + counts["ties"] + counts["disagreements"]
        assert everything == len(pairs_of(task)) == 3
    else:
        assert counts["unlabelled"] == 1
    for better, worse in told:
        assert (worse, better) not in told
        place = [{t: n for n, group in enumerate(v) for t in group.split()} for v in votes]
        assert 2 * sum(one[better] < one[worse] for one in place) > len(votes)
    for row in done.sft:
        best = row["messages"][-1]["content"]
        assert {(best, other) for other in TEXTS if other != best} <= set(told)
    assert len(done.sft) == counts["best"] <= 1
    # Who said it, and in which order, does not matter.
    draw.shuffle(votes)
    other = [rank(task, f"else{n}", *groups) for n, groups in enumerate(votes)]
    assert export([task], counting(other)).preferences == done.preferences


@settings(max_examples=50, deadline=None)
@given(votes=st.lists(RANKINGS, min_size=1, max_size=5))
def test_exported_rows_are_read_again(votes: list[list[str]]) -> None:
    task = ask("m", *TEXTS)
    done = export([task], counting(rank(task, f"w{n}", *one) for n, one in enumerate(votes)))
    for row in done.preferences:
        pair = parse_preference(json.loads(json.dumps(row)))
        assert pair.prompt == task.prompt
        assert {pair.chosen, pair.rejected} <= set(task.answers)


def test_exported_files_have_no_fault(tmp_path: Path) -> None:
    pair, free = ask("When?", "In 1937.", "In 1938."), ask("Where?")
    best_first = tuple((one,) for one in pair.by_id)
    ranked = Label(task=pair.key, annotator="ann", kind="rank", ranking=best_first)
    done = export([pair, free], counting([ranked, write(free, "ann", "There.")]))
    for name, rows, kind in (
        ("sft.jsonl", done.sft, "sft"),
        ("preferences.jsonl", done.preferences, "preference"),
    ):
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        assert kind_of_file(path) == kind
        found = check_rows(read_rows(path, "rows"), kind_of_file(path), Limits(), 20)
        assert (found.faulty, dict(found.warned)) == (0, {})


@pytest.mark.shared
def test_a_published_preference_file_is_labelled_whole(fledge_data: Path, tmp_path: Path) -> None:
    tasks = read_tasks([fledge_data / "hh_rlhf_harmless_test" / "harmless_base_test.jsonl.zst"])
    assert len(tasks) > 1000
    with LabelLog(tmp_path, tasks):
        pass
    again, _ = read_folder(tmp_path)
    assert [(task.key, task.answers) for task in again] == [(t.key, t.answers) for t in tasks]
    best = [
        Label(task=task.key, annotator="ann", kind="rank", ranking=tuple((i,) for i in task.by_id))
        for task in again
    ]
    done = export(again, counting(best))
    assert [parse_preference(row).chosen for row in done.preferences] == [
        task.answers[0] for task in tasks
    ]
