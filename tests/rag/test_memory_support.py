"""Memory, support and rerankers: what is kept, how sure an answer is, what servers say."""

from __future__ import annotations

import json
import random
from typing import Any

import httpx
import numpy as np
import pytest

from fledge.client.echo import Echo
from fledge.core.errors import FledgeError, InputError
from fledge.core.types import Message
from fledge.rag.cues import kind_of, new_values
from fledge.rag.evidence import Seen, measure
from fledge.rag.memory import BufferMemory, RetrievedMemory, SummaryMemory
from fledge.rag.rerankers import EncoderReranker, UrlReranker, open_reranker
from fledge.rag.support import fit, models_from, operating_curve, shipped, support_model
from fledge.rag.telling import asked_for


def talk(*pairs: tuple[str, str]) -> list[Message]:
    return [
        message
        for question, answer in pairs
        for message in (
            Message(role="user", content=question),
            Message(role="assistant", content=answer),
        )
    ]


TALK = talk(
    ("How long is the Humber Bridge?", "It is 2,220 metres long."),
    ("赵州桥是谁设计的？", "李春。"),
    ("What is the toll?", "Two pounds."),
    ("Is there fog?", "Often."),
)


def words(text: str) -> int:
    return len(text.split())


def test_a_buffer_keeps_the_latest_turns_that_fit() -> None:
    memory = BufferMemory(budget=9, count=words)
    for message in TALK:
        memory.add(message)
    assert [one.content for one in memory.recall("?")] == [
        "What is the toll?", "Two pounds.", "Is there fog?", "Often.",
    ][1:]  # fmt: skip
    assert sum(words(one.content) for one in memory.recall("?")) <= 9


def test_a_summary_takes_the_place_of_older_turns() -> None:
    seen: list[str] = []

    def script(messages: list[Message]) -> str:
        seen.append(messages[-1].content)
        return f"summary {len(seen)}"

    memory = SummaryMemory(Echo(script), budget=9, count=words)
    for message in TALK:
        memory.add(message)
    first, *rest = memory.recall("?")
    assert first == Message(role="system", content=f"summary {len(seen)}")
    assert "Humber" in seen[0]
    assert "summary 1" in seen[1]
    assert rest[-1].content == "Often."
    assert memory.notes == []


def test_a_summary_that_fails_is_noted() -> None:
    memory = SummaryMemory(Echo(lambda messages: ""), budget=8, count=words)
    for message in TALK:
        memory.add(message)
    assert memory.recall("?")[-1].content == "Often."
    assert any("forgotten" in note for note in memory.notes)


def test_turns_are_recalled_by_their_words() -> None:
    memory = RetrievedMemory(exchanges=2)
    for message in TALK:
        memory.add(message)
    recalled = [one.content for one in memory.recall("And who built the Humber one?")]
    assert recalled == ["How long is the Humber Bridge?", "It is 2,220 metres long.",
                        "Is there fog?", "Often."]  # fmt: skip
    chinese = [one.content for one in memory.recall("趙州橋還在嗎")]
    assert chinese[:2] == ["赵州桥是谁设计的？", "李春。"]
    assert RetrievedMemory().recall("anything") == ()


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ("When did it open?", "date"),
        ("In what year was it built?", "date"),
        ("How many piers are there?", "number"),
        ("How long is it?", "number"),
        ("Who built it?", "person"),
        ("Where is it?", "place"),
        ("Why did it fall?", "reason"),
        ("Is it grey?", "other"),
        ("桥建于何时？", "date"),
        ("哪一年建成？", "date"),
        ("有多少个桥墩？", "number"),
        ("主跨有多長？", "number"),
        ("是谁设计的？", "person"),
        ("這座橋在哪裡？", "place"),
        ("为什么倒塌？", "reason"),
        ("桥是灰色的吗？", "other"),
    ],
)
def test_what_a_question_asks_for(question: str, kind: str) -> None:
    assert kind_of(question) == kind


def test_values_that_the_question_has_are_no_answer() -> None:
    text = "In 1937 the bridge of 1,280 metres opened."
    found = new_values("number", "How long is the bridge of 1937?", text)
    assert [text[start:end] for start, end in found] == ["1,280"]


def test_measures_tell_a_passage_that_holds_the_question_from_one_that_does_not() -> None:
    rarity = {"humber": 5.0, "bridg": 1.0, "open": 2.0}
    question = "When did the Humber Bridge open?"
    good = measure(question, rarity, [Seen(text="The Humber Bridge opened in 1981.")])
    bad = measure(question, rarity, [Seen(text="A bridge was closed.")])
    assert good["pair"] == good["passage"] == good["cue"] == 1.0
    assert bad["pair"] == pytest.approx(1 / 8)
    assert bad["cue"] == 0.0
    assert good["unknown"] == 0 < bad["unknown"]
    assert measure(question, rarity, [])["unknown"] == 1.0
    for language in ("en", "zh"):
        model = support_model(language)
        assert model.probability(good) > model.threshold > model.probability(bad)


def test_a_fit_finds_what_tells_and_keeps_its_promise_on_refusals() -> None:
    rng = random.Random(3)
    rows = []
    for i in range(600):
        answered = i % 2 == 0
        pair = min(max(rng.gauss(0.8 if answered else 0.4, 0.15), 0), 1)
        rows.append(({"pair": pair, "cue": rng.random(), "unknown": 0.1 + pair / 9}, answered))
    model = fit(rows[:300], most_wrong=0.1)
    assert model.weights["pair"] > 5 * abs(model.weights.get("cue", 0.0))
    assert "unknown" not in model.weights  # here more of it would mean more support
    present = [model.probability(row) for row, answered in rows[300:] if answered]
    absent = [model.probability(row) for row, answered in rows[300:] if not answered]
    assert sum(p < model.threshold for p in present) / len(present) < 0.2
    assert sum(p < model.threshold for p in absent) / len(absent) > 0.75
    curve = operating_curve(present, absent)
    assert all(one.wrong_refusals <= share + 1e-9 for one, share in zip(
        curve, (0.02, 0.05, 0.1, 0.15, 0.2, 0.3), strict=True))  # fmt: skip
    assert [one.right_refusals for one in curve] == sorted(one.right_refusals for one in curve)
    with pytest.raises(InputError, match="both kinds"):
        fit([({"pair": 1.0}, True)])


def test_the_shipped_models_are_read_and_others_refused() -> None:
    assert {"en", "zh"} <= shipped().keys()
    again = models_from({name: model.to_json() for name, model in shipped().items()})
    assert again["en"].threshold == pytest.approx(shipped()["en"].threshold, abs=1e-4)
    with pytest.raises(InputError, match="no weights"):
        models_from({"en": {"bias": 1}})
    own = {"zh": again["en"]}
    assert support_model("zh", "any", own) is again["en"]


def reranker(answer: object, status: int = 200) -> UrlReranker:
    def respond(request: httpx.Request) -> httpx.Response:
        asked = json.loads(request.content)
        assert request.url.path == "/v1/rerank"
        assert asked["documents"] == ["one", "two"]
        return httpx.Response(status, json=answer)

    return UrlReranker("http://host/v1", transport=httpx.MockTransport(respond))


def test_a_reranking_server_is_asked_and_its_order_undone() -> None:
    rows = [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.2}]
    assert reranker({"results": rows}).scores("?", ["one", "two"]) == [0.2, 0.9]
    logits = [{"index": 1, "relevance_score": 3.0}, {"index": 0, "relevance_score": -3.0}]
    low, high = reranker({"results": logits}).scores("?", ["one", "two"])
    assert 0 < low < 0.5 < high < 1


@pytest.mark.parametrize(
    ("answer", "status"),
    [({"results": []}, 200), ({"data": 1}, 200), ([1], 200), ({"error": "no"}, 500)],
)
def test_a_server_that_answers_otherwise_is_an_error(answer: object, status: int) -> None:
    with pytest.raises(FledgeError, match="/v1/rerank"):
        reranker(answer, status).scores("?", ["one", "two"])


class Scorer:
    """Logits by a table."""

    def __init__(self, classes: int) -> None:
        self.classes = classes

    def logits(self, pairs: list[tuple[str, str]]) -> np.ndarray[Any, Any]:
        rows = [[0.0] * (self.classes - 1) + [float(len(text) - 4)] for _, text in pairs]
        return np.array(rows, dtype=np.float32)


@pytest.mark.parametrize("classes", [1, 2])
def test_a_cross_encoders_logits_become_probabilities(classes: int) -> None:
    found = EncoderReranker(Scorer(classes), "pico").scores("?", ["four", "longer", "no"])  # type: ignore[arg-type]
    assert found[0] == pytest.approx(0.5)
    assert 0 < found[2] < found[0] < found[1] < 1


def test_what_is_no_reranker_is_refused() -> None:
    with pytest.raises(InputError, match="no such folder"):
        open_reranker("/nowhere/at/all")


@pytest.mark.parametrize(
    ("question", "about"),
    [
        ("How many coins are there?", ["coin"]),
        ("Tell me about the bridge", ["bridg"]),
        ("how much", ["much"]),
        ("桥有多少？", ["桥"]),
        ("請問橋有多長", ["桥", "有", "长", "桥有"]),
    ],
)
def test_what_only_asks_says_nothing(question: str, about: list[str]) -> None:
    found = asked_for(question)
    assert set(about) <= set(found)
    assert not {"mani", "tell", "多", "少", "请问"} & set(found)
