"""What is dropped has its reason and evidence; what is kept stays as it was."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fledge.core.errors import FledgeError
from fledge.core.protocols import Sampling, Silent
from fledge.core.types import Message
from fledge.data.contamination import Contamination, evaluation_texts
from fledge.data.json_rows import Row
from fledge.data.sifting import Checks, ScoreError, Sifted, sift, write_sifted
from fledge.data.sifting_config import SiftingConfig

STORY = (
    "The old stone bridge over the river was opened in the spring of 1871 and still carries "
    "two lanes of traffic, a tramway and a footpath on its eastern side, which is lit at night."
)


def chat(question: str, answer: str) -> dict[str, Any]:
    return {"instruction": question, "output": answer}


STRICT = {"refusals": True}


def turns(*roles: str) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": role} for role in roles]}


def sifted(values: Sequence[Any], kind: Any = "sft", checks: Checks | None = None,
           **config: Any) -> Sifted:  # fmt: skip
    rows = [Row(origin=f"f:{n}", value=value) for n, value in enumerate(values, 1)]
    return sift(rows, kind, SiftingConfig(**config), checks or Checks(), Silent())


def reasons(found: Sifted) -> list[str | None]:
    return [item.verdict.reason if item.verdict else None for item in found.items]


@pytest.mark.parametrize(
    ("row", "reason", "config"),
    [
        (chat("When was it opened?", "In 1871."), None, {}),
        ({"text": "x"}, "read.fault", {}),
        (chat("When?", " "), "rule.empty", {}),
        ({"messages": [{"role": "user", "content": "q"}]}, "rule.no_answer", {}),
        (turns("user", "assistant", "user"), None, {}),
        (turns("user", "user", "assistant"), "rule.roles", {}),
        (chat("When?", "Yes."), "rule.too_short", {"min_answer": 5}),
        (chat("When?", "In 1871."), "rule.too_long", {"max_characters": 10}),
        (chat("Describe it.", "It is a bridge of stone.\n" * 4), "rule.repeated", {}),
        (chat("Describe it.", "}\n)\n}\n)\nNo.\nNo.\n" * 4), None, {}),
        (chat("What is it?", "I'm sorry, but I can't help with that."), "rule.refusal", STRICT),
        (chat("这是什么？", "抱歉，我无法回答这个问题。"), "rule.refusal", STRICT),
        (chat("這是什麼？", "作為一個人工智慧，我沒有資料。"), "rule.refusal", STRICT),
        (chat("What is it?", "I'm sorry, but I can't help with that."), None, {}),
        (chat("What is it?", f"{STORY} The mayor said: I can't help it."), None, STRICT),
        (chat("这座桥是什么时候建成的？请回答。", STORY), "rule.language", {}),
        (chat("这座桥是什么时候建成的？请用英文回答。", STORY), None, {}),
        (chat("这座桥是什么时候建成的？请回答。", STORY), None, {"languages_agree": False}),
        (chat("這座橋是什麼時候建成的？", "这座桥于1871年春天建成，至今在用。"), None, {}),
    ],
)  # fmt: skip
def test_rules(row: dict[str, Any], reason: str | None, config: dict[str, Any]) -> None:
    found = sifted([row], **config)
    assert reasons(found) == [reason]
    assert all(item.verdict.evidence for item in found.items if item.verdict)


def test_pairs_and_judgements_have_rules_of_their_own() -> None:
    same = {"prompt": "q", "chosen": "a", "rejected": "a"}
    rude = {"prompt": "q", "chosen": "a", "rejected": "I'm sorry, but I can't help with that."}
    assert reasons(sifted([same, rude], "preference", refusals=True)) == ["pair.same_answers", None]
    judged = [
        {"prompt": "q", "completion": "So it goes, on and on.\n" * 5, "label": good}
        for good in (True, False)
    ]
    assert reasons(sifted(judged, "judged")) == ["rule.repeated", None]


def test_exact_and_near_duplicates_are_dropped_and_the_first_kept() -> None:
    changed = STORY.replace("night", "dusk")
    rows = [
        chat("Tell.", STORY),
        chat("tell!", STORY.upper()),
        chat("Tell.", changed),
        chat("a", "b"),
    ]
    found = sifted(rows)
    assert reasons(found) == [None, "duplicate.exact", "duplicate.near", None]
    assert found.items[1].verdict is not None
    assert found.items[1].verdict.evidence == "like f:1"
    assert reasons(sifted(rows, near=False))[2] is None
    tools = [{**rows[0], "tools": [{"name": name}]} for name in ("f", "g")]
    assert reasons(sifted(tools, near=False)) == [None, None]
    both = [{"prompt": "q", "completion": "a", "label": good} for good in (True, False, True)]
    assert reasons(sifted(both, "judged")) == [None, None, "duplicate.exact"]


def test_of_near_duplicates_the_best_score_is_kept() -> None:
    rows = [chat("Tell.", STORY), chat("Tell.", STORY.replace("night", "dusk"))]
    checks = Checks(score=lambda messages, answer: float("dusk" in answer))
    found = sifted(rows, checks=checks)
    assert reasons(found) == ["duplicate.near", None]
    low = sifted(rows, checks=checks, min_score=0.5)
    assert reasons(low) == ["score.low", None]


def test_scores_drop_pairs_in_the_wrong_order_and_what_has_none() -> None:
    def score(messages: Sequence[Message], answer: str) -> float:
        if answer == "?":
            raise ScoreError("judge: no_score")
        return float(len(answer))

    pairs = [
        {"prompt": "q", "chosen": chosen, "rejected": "bb"} for chosen in ("a", "cc", "ccc", "?")
    ]
    found = sifted(pairs, "preference", Checks(score=score))
    assert reasons(found) == ["score.order", "score.order", None, "score.none"]


def test_evaluation_items_are_found_wherever_they_stand(tmp_path: Path) -> None:
    items = [
        {"id": STORY, "input": STORY, "target": "1871", "metadata": {"note": "x" * 50}},
        {"input": [{"role": "system", "content": "Answer all questions as briefly as you can, in "
                    "one word or one number, and never explain anything at all to anyone."},
                   {"role": "user", "content": "Who built the bridge?"}]},
        {"question": "这座桥是由哪一位工程师在什么时候设计建造的？"},
    ]  # fmt: skip
    path = tmp_path / "eval.jsonl"
    path.write_text("\n".join(json.dumps(item) for item in items))
    held = Contamination(evaluation_texts([path]), 13)
    system = {"role": "system", "content": items[1]["input"][0]["content"]}  # type: ignore[index]
    rows = [
        chat("Tell.", f"It is said: {STORY.upper()}"),
        chat("Tell.", " ".join(STORY.split()[4:16])),  # 12 words
        chat("who built the  BRIDGE", "Nobody."),
        chat("Tell.", "Who built the bridge?"),
        chat("请问，这座桥是由哪一位工程师在什么时候设计的？", "不知道。"),
        {"messages": [system, {"role": "user", "content": "Hi"},
                      {"role": "assistant", "content": "Hello"}]},
    ]  # fmt: skip
    found = sifted(rows, checks=Checks(contamination=held))
    dropped = "contamination.evaluation"
    assert reasons(found) == [dropped, None, dropped, None, dropped, None]
    assert found.items[0].verdict is not None
    assert found.items[0].verdict.evidence.startswith(f"{path}:1: the old stone bridge over the")
    assert len(found.items[0].verdict.evidence.split(": ", 1)[1].split()) == 13


@given(
    words=st.lists(st.sampled_from("abcdefgh桥年"), min_size=0, max_size=40), n=st.integers(5, 13)
)
@settings(max_examples=150, deadline=None)
def test_a_shared_run_is_found_if_and_only_if_there_is_one(words: list[str], n: int) -> None:
    item = [*"abcdefghacegbdfh"]
    held = Contamination([("item", " ".join(item))], n)
    runs = {tuple(item[i : i + n]) for i in range(len(item) - n + 1)}
    shared = any(tuple(words[i : i + n]) in runs for i in range(len(words) - n + 1))
    assert (held.verdict([" ".join(words)]) is not None) == shared


def test_rows_are_written_as_they_were(tmp_path: Path) -> None:
    rows = [{**chat("a", "b"), "metadata": {"model": "m"}}, chat("c", ""),
            {"instruction": "q", "instances": [{"output": "1"}, {"output": ""}]}]  # fmt: skip
    found = sifted(rows)
    write_sifted(found, tmp_path / "out", found.counts())
    kept = [json.loads(line) for line in (tmp_path / "out/kept.jsonl").read_text().splitlines()]
    assert kept[0] == rows[0]
    assert kept[1]["messages"][1]["content"] == "1"
    dropped = [
        json.loads(line) for line in (tmp_path / "out/dropped.jsonl").read_text().splitlines()
    ]
    assert [row["reason"] for row in dropped] == ["rule.empty", "rule.empty"]
    assert dropped[0]["row"] == rows[1]
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report == {"rows": 4, "kept": 2, "dropped": {"rule.empty": 2}}


def test_a_judge_scores_by_its_last_line() -> None:
    from fledge.data.synthesis.judge import judge_score, read_score

    assert read_score("Score: 3? No.\n**Score: 8**") == 8.0
    assert read_score("不足：太短。\n分数：10") == 10.0

    class Judge:
        name = "judge"

        def __init__(self, says: str) -> None:
            self.says = says

        def chat(self, messages: Sequence[Message], sampling: Sampling) -> Any:
            from fledge.core.protocols import Reply, Usage

            if self.says == "fail":
                raise FledgeError("gone")
            assert "user: When?" in messages[0].content
            assert "In 1871." in messages[0].content
            usage = Usage(prompt_tokens=1, completion_tokens=1)
            return Reply(text=self.says, finish_reason="stop", usage=usage)

    asked = [Message(role="user", content="When?")]
    for says, message in (("fine", "no_score"), ("Score: 11", "no_score"), ("fail", "gone")):
        score = judge_score(Judge(says), Sampling(), "en")  # type: ignore[arg-type]
        with pytest.raises(ScoreError, match=message):
            score(asked, "In 1871.")
    assert judge_score(Judge("分數：7"), Sampling(), "zh-Hant")(asked, "In 1871.") == 7.0  # type: ignore[arg-type]
