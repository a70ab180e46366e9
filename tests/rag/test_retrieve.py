"""Retrieval: every strategy gives spans of documents, to the character, and says what it did."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_store import HashEmbedder, MemorySnapshot, entry, family, sentence_chunks, shelf

from fledge.client.echo import Echo
from fledge.core.errors import FledgeError, InputError
from fledge.core.types import Document, Message
from fledge.index.loaded import Place
from fledge.index.store.filters import Compare
from fledge.rag.passage import Query
from fledge.rag.retrieval_config import RetrievalConfig
from fledge.rag.retrieve import Retriever

BRIDGES = {
    "golden": "The Golden Gate Bridge opened in 1937. Its main span is 1,280 metres long."
    " It is painted orange. Fog often hides it.",
    "humber": "The Humber Bridge opened in 1981. Its main span is 1,410 metres long."
    " Toll booths stand at its northern end. The estuary is muddy.",
    "zhaozhou": "赵州桥建于隋朝。它的主拱跨度为37米。桥由李春设计。河水清澈。",
    "lugou": "盧溝橋建於1192年。橋上有許多石獅子。馬可波羅寫過它。",
}
PIECES = st.sampled_from(
    ["桥很长。", "橋很長。", "The bridge is long. ", "It opened in 1937. ", "\n\n", "跨度為37米！",
     "Again. Again. ", "Dr. Li said “no”. ", "🌉 ", "- item\n", "  "]
)  # fmt: skip
TEXTS = st.lists(PIECES, min_size=1, max_size=25).map("".join)


def config(**changes: object) -> RetrievalConfig:
    return RetrievalConfig.model_validate(changes)


STRATEGIES: list[dict[str, object]] = [
    {"legs": legs, "widen": {"how": how, "window": 1}, "fusion": {"how": fusion}, **more}
    for legs in ("hybrid", "dense", "lexical")
    for how in ("none", "window", "merge", "parent")
    for fusion, more in (("scores", {}), ("ranks", {"diversity": 0.5, "half_life": 100.0}))
] + [
    {"expand": {"how": how, "history": "rewrite"}, "widen": {"how": "window"}}
    for how in ("multi_query", "fusion", "hyde", "decompose")
]


@pytest.mark.parametrize("changes", STRATEGIES, ids=str)
@settings(max_examples=15, deadline=None)
@given(
    texts=st.lists(TEXTS, min_size=1, max_size=3),
    question=st.sampled_from(["When did the bridge open?", "桥有多长", "橋跨度", "???", "1937"]),
)
def test_passages_are_spans_of_their_documents(
    changes: dict[str, object], texts: list[str], question: str
) -> None:
    embedder = HashEmbedder()
    documents = [Document(id=f"d{i}", text=text) for i, text in enumerate(texts)]
    snapshot = MemorySnapshot(entry(one, family(one.text), embedder) for one in documents)
    model = Echo(lambda messages: "1. long bridge\n2. 桥 跨度")
    retriever = Retriever(config(k=4, **changes), embedder=embedder, model=model)
    history = (Message(role="user", content="The bridge?"),)
    found = retriever.retrieve(snapshot, Query(text=question, history=history))
    by_id = {one.id: one for one in documents}
    assert len(found.passages) <= 4
    for passage in found.passages:
        assert passage.text == passage.span.quote(by_id[passage.span.document])
        assert passage.text
        assert passage.found
    spans = [(p.span.document, p.span.start, p.span.end) for p in found.passages]
    assert len(set(spans)) == len(spans)


@pytest.mark.parametrize(
    ("question", "start"),
    [
        ("How long is the main span of the Humber Bridge?", "Its main span is 1,410"),
        ("When did the Golden Gate Bridge open?", "The Golden Gate Bridge opened"),
        ("赵州桥是谁设计的？", "桥由李春设计"),
        ("卢沟桥建于哪一年？", "盧溝橋建於1192年"),
    ],
)
def test_the_right_document_comes_first(question: str, start: str) -> None:
    embedder = HashEmbedder()
    snapshot = shelf(BRIDGES, embedder, per=4)
    found = Retriever(embedder=embedder).retrieve(snapshot, question)
    assert start in found.passages[0].text
    assert found.passages[0].scores.keys() >= {"lexical", "dense", "fused", "rerank"}
    assert {stage.name for stage in found.trace} >= {"embed", "dense", "lexical", "fuse", "read"}
    assert found.trace.seconds > 0


def test_an_embedder_is_not_asked_in_a_language_it_does_not_serve() -> None:
    embedder = HashEmbedder(languages=("en",))
    snapshot = shelf(BRIDGES, embedder)
    found = Retriever(embedder=embedder).retrieve(snapshot, "赵州桥是谁设计的？")
    assert all("dense" not in passage.scores for passage in found.passages)
    assert found.trace.notes == ["embed: hash is not used for questions in zh"]
    english = Retriever(embedder=embedder).retrieve(snapshot, "Who painted the bridge orange?")
    assert any("dense" in passage.scores for passage in english.passages)
    assert english.trace.notes == []


def test_a_question_in_another_language_leaves_the_ranking_to_the_embedder() -> None:
    class Bilingual(HashEmbedder):
        """Chinese questions near the English sentence on orange paint, by decree."""

        def embed_queries(self, texts: list[str]) -> object:  # type: ignore[override]
            return self.embed(["It is painted orange."] * len(texts))

    embedder = Bilingual()
    english = {id: text for id, text in BRIDGES.items() if id in ("golden", "humber")}
    snapshot = shelf({**english, "noise": "在線 1937 年表。"}, embedder)
    found = Retriever(embedder=embedder).retrieve(
        snapshot, "金门大桥漆成什么颜色？有人在1937年说过吗"
    )
    assert found.passages[0].text == "It is painted orange."


def test_filters_hold_for_both_searches() -> None:
    embedder = HashEmbedder()
    snapshot = shelf(BRIDGES, embedder)
    where = Compare(field="path", op="=", value="humber.txt")
    found = Retriever(embedder=embedder).retrieve(
        snapshot, Query(text="When did the Golden Gate Bridge open?", where=where)
    )
    assert {passage.path for passage in found.passages} == {"humber.txt"}


def test_a_window_adds_whole_sentences_on_each_side() -> None:
    snapshot = shelf(BRIDGES)
    found = Retriever(config(k=1, widen={"how": "window", "window": 1})).retrieve(
        snapshot, "main span 1,410 metres"
    )
    assert found.passages[0].text == (
        "The Humber Bridge opened in 1981. Its main span is 1,410 metres long."
        " Toll booths stand at its northern end."
    )
    chinese = Retriever(config(k=1, widen={"how": "window", "window": 1})).retrieve(
        snapshot, "李春设计"
    )
    assert chinese.passages[0].text == "它的主拱跨度为37米。桥由李春设计。河水清澈。"


def test_children_found_together_become_their_parent() -> None:
    text = "Steel was used. Steel is strong. Steel rusts. Fog came. Rain came. Snow came."
    document = Document(id="d", text=text)
    snapshot = MemorySnapshot([entry(document, family(text))])
    merged = Retriever(config(k=1, widen={"how": "merge", "share": 0.6})).retrieve(
        snapshot, "steel"
    )
    assert merged.passages[0].text == "Steel was used. Steel is strong. Steel rusts."
    assert len(merged.passages[0].found) == 3
    single = Retriever(config(k=1, widen={"how": "merge", "share": 0.6})).retrieve(snapshot, "snow")
    assert single.passages[0].text == "Snow came."
    parent = Retriever(config(k=1, widen={"how": "parent"})).retrieve(snapshot, "snow")
    assert parent.passages[0].text == "Fog came. Rain came. Snow came."


def test_windows_that_meet_become_one_passage_with_the_place_where_it_begins() -> None:
    text = "Page one ends here. The pier is round. The pier is stone. The deck is flat."
    places = [
        Place(start=0, end=19, label="page 1"),
        Place(start=19, end=len(text), label="page 2"),
    ]
    one = entry(Document(id="d", text=text), sentence_chunks(text), places=places)
    found = Retriever(config(k=3, widen={"how": "window", "window": 1})).retrieve(
        MemorySnapshot([one]), "pier"
    )
    assert [passage.text for passage in found.passages] == [text]
    assert found.passages[0].place == "page 1"
    assert len(found.passages[0].found) == 2


def test_new_documents_come_before_old_ones_of_the_same_words() -> None:
    texts = {
        "old": ("2001-05-01", "The toll is 2 pounds."),
        "new": ("2025", "The toll is 3 pounds."),
    }
    entries = [
        entry(Document(id=id, text=text, date=day), sentence_chunks(text))
        for id, (day, text) in texts.items()
    ]
    aged = Retriever(config(half_life=365.0)).retrieve(
        MemorySnapshot(entries), "toll pounds", today=date(2026, 1, 1)
    )
    assert [passage.span.document for passage in aged.passages] == ["new", "old"]
    assert aged.passages[0].scores["age"] > 100 * aged.passages[1].scores["age"]


def test_diversity_puts_a_repetition_behind_something_new() -> None:
    texts = {"a": "The toll is two pounds.", "b": "The toll is two pounds!", "c": "The toll fell."}
    plain = Retriever(config(k=2)).retrieve(shelf(texts), "toll two pounds")
    mixed = Retriever(config(k=2, diversity=0.6)).retrieve(shelf(texts), "toll two pounds")
    assert [p.span.document for p in plain.passages] == ["a", "b"]
    assert [p.span.document for p in mixed.passages] == ["a", "c"]


def test_a_follow_up_question_is_searched_with_the_earlier_one() -> None:
    history = (
        Message(role="user", content="Tell me about the Humber Bridge"),
        Message(role="assistant", content="It is in England."),
    )
    query = Query(text="When did it open?", history=history)
    found = Retriever(config(k=1)).retrieve(shelf(BRIDGES), query)
    assert found.passages[0].span.document == "humber"
    model = Echo(["When did the Golden Gate Bridge open?"])
    rewritten = Retriever(config(k=1, expand={"history": "rewrite"}), model=model).retrieve(
        shelf(BRIDGES), query
    )
    assert rewritten.passages[0].span.document == "golden"
    assert rewritten.question == "When did the Golden Gate Bridge open?"
    stage = next(stage for stage in rewritten.trace if stage.name == "history")
    assert stage.asked == ("When did the Golden Gate Bridge open?",)
    assert stage.prompt_tokens > 0
    assert stage.completion_tokens == 7


def test_an_index_without_larger_chunks_says_so() -> None:
    found = Retriever(config(k=1, widen={"how": "merge"})).retrieve(shelf(BRIDGES), "muddy estuary")
    assert found.passages[0].text == "The estuary is muddy."
    assert found.trace.notes == ["widen: this index has no larger chunks: split it hierarchically"]


@pytest.mark.parametrize("how", ["multi_query", "fusion"])
def test_other_wordings_find_what_the_question_does_not(how: str) -> None:
    model = Echo(["Here are some:\n1. 'painted orange'\n2) painted ORANGE\n- fog"])
    found = Retriever(config(k=3, expand={"how": how}), model=model).retrieve(
        shelf(BRIDGES), "Which colour has it?"
    )
    assert {"It is painted orange.", "Fog often hides it."} <= {p.text for p in found.passages}
    stage = next(stage for stage in found.trace if stage.name == "reword")
    assert stage.asked == ("painted orange", "fog")


def test_hyde_gives_the_embedder_a_made_up_passage() -> None:
    embedder = HashEmbedder()
    model = Echo(["<think>well</think>The estuary below is muddy."])
    found = Retriever(
        config(k=1, legs="dense", expand={"how": "hyde"}, rerank={"how": "none"}),
        embedder=embedder,
        model=model,
    ).retrieve(shelf(BRIDGES, embedder), "What is the water like?")
    assert found.passages[0].text == "The estuary is muddy."


def test_decomposition_goes_step_by_step_and_ends_when_the_model_is_done() -> None:
    seen: list[str] = []

    def script(messages: list[Message]) -> str:
        seen.append(messages[-1].content)
        return ["Who designed 赵州桥?", "Which bridge is painted orange?", "DONE"][len(seen) - 1]

    chosen = config(k=4, expand={"how": "decompose", "count": 5})
    found = Retriever(chosen, model=Echo(script)).retrieve(shelf(BRIDGES), "Compare the two")
    assert len(seen) == 3
    assert "painted orange" in seen[2]
    assert "painted orange" not in seen[1]
    assert "It is painted orange." in {p.text for p in found.passages}


class Broken(Echo):
    def chat(self, messages: object, sampling: object) -> object:  # type: ignore[override]
        raise FledgeError("the server is gone")


@pytest.mark.parametrize("how", ["multi_query", "fusion", "hyde", "decompose"])
@pytest.mark.parametrize("reply", ["", "...", "Here you go:", "<think>never ends", None])
def test_a_model_that_writes_nonsense_is_reported_and_done_without(
    how: str, reply: str | None
) -> None:
    model = Broken() if reply is None else Echo(lambda messages: reply)
    embedder = HashEmbedder()
    question = "When did the Humber Bridge open?"
    history = (Message(role="user", content="Bridges"),)
    found = Retriever(
        config(k=1, expand={"how": how, "history": "rewrite"}), embedder=embedder, model=model
    ).retrieve(shelf(BRIDGES, embedder), Query(text=question, history=history))
    assert found.passages[0].text.startswith("The Humber Bridge opened")
    assert any("history" in note for note in found.trace.notes)
    own = {"hyde": "hyde", "decompose": "next step"}.get(how, "reword")
    if how != "hyde" or reply in ("", None, "<think>never ends"):
        assert any(note.startswith(f"{own}: ") for note in found.trace.notes)


class Backwards:
    """Likes the shortest text; or fails."""

    name = "backwards"

    def __init__(self, fails: bool = False) -> None:
        self.fails = fails

    def scores(self, question: str, texts: list[str]) -> list[float]:
        if self.fails:
            raise FledgeError("no such model")
        return [1 / (1 + len(text)) for text in texts]


def test_a_reranker_decides_the_order_and_may_fail() -> None:
    chosen = config(rerank={"how": "model"})
    question = "The Humber Bridge opened, its main span, the estuary"
    found = Retriever(chosen, reranker=Backwards()).retrieve(shelf(BRIDGES), question)
    lengths = [len(passage.text) for passage in found.passages]
    assert lengths == sorted(lengths)
    failed = Retriever(chosen, reranker=Backwards(fails=True)).retrieve(shelf(BRIDGES), question)
    assert failed.trace.notes == ["rerank: backwards failed: no such model; the order stays"]
    assert failed.passages


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"expand": {"how": "hyde"}}, "hyde needs a language model"),
        ({"expand": {"history": "rewrite"}}, "rewrite needs a language model"),
        ({"rerank": {"how": "model"}}, "needs a reranker"),
        ({"legs": "dense"}, "needs an embedder"),
    ],
)
def test_what_is_missing_is_said_before_anything_runs(
    changes: dict[str, object], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        Retriever(config(**changes))


def test_nothing_to_find_gives_nothing() -> None:
    assert Retriever().retrieve(MemorySnapshot([]), "Anything?").passages == ()
    assert Retriever().retrieve(shelf(BRIDGES), "").passages == ()
    assert Retriever().retrieve(shelf(BRIDGES), "quantum").passages == ()
