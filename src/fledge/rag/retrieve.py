"""A question and a snapshot in, passages out: a config becomes a plan of steps, run in order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date

from fledge.core.errors import FledgeError, InputError
from fledge.core.protocols import ChatModel
from fledge.index.embed.protocol import IndexEmbedder
from fledge.index.store.protocol import Found, Snapshot
from fledge.rag.expand import answered, reworded, standing_alone, step_by_step
from fledge.rag.fusion import Candidate, Ranked, added, pooled, reciprocal_ranks
from fledge.rag.language import Language
from fledge.rag.order import aged, diverse, reordered, term_scores
from fledge.rag.passage import Passage, Query
from fledge.rag.retrieval_config import LegWeights, RetrievalConfig
from fledge.rag.search import Ask, search
from fledge.rag.tools import Reranker, Tools
from fledge.rag.trace import Trace
from fledge.rag.widen import widened

SPARE = 4
"""Candidates for each passage that is wanted: later steps join, drop and reorder them."""


@dataclass(frozen=True, kw_only=True)
class State:
    """What the steps hand on."""

    query: Query
    asks: tuple[Ask, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    found: Mapping[int, Found] = field(default_factory=dict)
    """The chunks of the candidates."""
    passages: tuple[Passage, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Retrieved:
    """Passages, best first, and how they were found."""

    passages: tuple[Passage, ...]
    trace: Trace
    question: str = ""
    """As it stands alone: what a model wrote out of a follow-up question, or the question."""


Step = Callable[[State, RetrievalConfig, Tools, Trace], State]


def plan(config: RetrievalConfig) -> tuple[Step, ...]:
    """The steps of a config, in their order."""
    steps: list[Step] = [_ask]
    if config.expand.how in ("multi_query", "fusion"):
        steps.append(_reword)
    if config.expand.how == "hyde":
        steps.append(_answer_first)
    steps.append(_search_by_steps if config.expand.how == "decompose" else _search)
    steps.append(_read)
    if config.rerank.how != "none":
        steps.append(_rerank)
    if config.half_life is not None:
        steps.append(_age)
    if config.diversity:
        steps.append(_diversify)
    return (*steps, _widen)


class Retriever:
    """A config with what it needs; raises InputError when something is missing."""

    def __init__(
        self,
        config: RetrievalConfig | None = None,
        *,
        embedder: IndexEmbedder | None = None,
        model: ChatModel | None = None,
        reranker: Reranker | None = None,
    ) -> None:
        self.config = config or RetrievalConfig()
        self.embedder, self.model, self.reranker = embedder, model, reranker
        self.steps = plan(self.config)
        if self.config.needs_model and model is None:
            names = ", ".join(self.config.needs_model)
            raise InputError(f"{names} needs a language model", remedy="give one, or turn it off")
        if self.config.rerank.how == "model" and reranker is None:
            raise InputError(
                "rerank.how = 'model' needs a reranker",
                remedy="give the folder of a cross-encoder or a /v1/rerank URL, or use 'terms'",
            )
        if self.config.legs == "dense" and (embedder is None or not embedder.dimensions):
            raise InputError("legs = 'dense' needs an embedder", remedy="use 'hybrid' or 'lexical'")

    def with_weights(self, weights: Mapping[Language, LegWeights]) -> Retriever:
        """The same with other weights of the searches for questions in these languages."""
        merged = {**self.config.fusion.weights, **weights}
        fusion = self.config.fusion.model_copy(update={"weights": merged})
        return Retriever(
            self.config.model_copy(update={"fusion": fusion}),
            embedder=self.embedder,
            model=self.model,
            reranker=self.reranker,
        )

    def retrieve(
        self, snapshot: Snapshot, query: Query | str, *, today: date | None = None
    ) -> Retrieved:
        """The passages for a question.  ``today`` decides how old documents are."""
        asked = Query(text=query) if isinstance(query, str) else query
        tools = Tools(
            snapshot=snapshot,
            embedder=self.embedder,
            model=self.model,
            reranker=self.reranker,
            today=today or date.today(),
        )
        return self.run(asked, tools)

    def run(self, query: Query, tools: Tools) -> Retrieved:
        """The same with tools at hand."""
        state, trace = State(query=query), Trace()
        for step in self.steps:
            state = step(state, self.config, tools, trace)
        return Retrieved(passages=state.passages, trace=trace, question=state.asks[0].text)


def _ask(state: State, config: RetrievalConfig, tools: Tools, trace: Trace) -> State:
    asks = standing_alone(state.query, config.expand.history, tools.model, trace)
    return replace(state, asks=tuple(asks))


def _reword(state: State, config: RetrievalConfig, tools: Tools, trace: Trace) -> State:
    assert tools.model is not None, "checked when the retriever was made"
    asks = reworded(state.asks, config.expand.count, tools.model, trace)
    return replace(state, asks=tuple(asks))


def _answer_first(state: State, config: RetrievalConfig, tools: Tools, trace: Trace) -> State:
    assert tools.model is not None, "checked when the retriever was made"
    return replace(state, asks=tuple(answered(state.asks, tools.model, trace)))


def _search(state: State, config: RetrievalConfig, tools: Tools, trace: Trace) -> State:
    groups = search(state.asks, state.query.where, config, tools, trace)
    weights = [ask.weight for ask in state.asks]
    if len(groups) == 1:
        found = groups[0]
    elif config.expand.how == "fusion":
        found = _summed(groups, weights, config.fusion.constant)
    elif config.expand.how == "multi_query":
        found = pooled(groups, weights)
    else:  # the question and those before it in the conversation
        found = added(groups, weights)
    return replace(state, candidates=tuple(found))


def _summed(
    groups: list[list[Candidate]], weights: list[float], constant: float
) -> list[Candidate]:
    """RAG-fusion (arXiv:2402.03367): reciprocal ranks over the questions; their scores stay."""
    lists = [
        Ranked(name=f"question {i}", hits=[one.hit for one in group], weight=weight)
        for i, (group, weight) in enumerate(zip(groups, weights, strict=True), 1)
    ]
    own = {one.chunk: one.scores for group in reversed(groups) for one in group}
    summed = reciprocal_ranks(lists, constant)
    return [replace(one, scores={**own[one.chunk], "fused": one.score}) for one in summed]


def _search_by_steps(state: State, config: RetrievalConfig, tools: Tools, trace: Trace) -> State:
    """The question and each further one that the model asks; best score of each chunk."""
    assert tools.model is not None, "checked when the retriever was made"
    groups = search(state.asks, state.query.where, config, tools, trace)
    weights = [ask.weight for ask in state.asks]

    def look_up(ask: Ask) -> str:
        found = search([ask], state.query.where, config, tools, trace)[0]
        groups.append(found)
        weights.append(ask.weight)
        return tools.snapshot.chunks([found[0].chunk])[0].text if found else "-"

    asks = step_by_step(state.asks[0], config.expand.count, tools.model, trace, look_up)
    return replace(state, asks=(*state.asks, *asks), candidates=tuple(pooled(groups, weights)))


def _read(state: State, config: RetrievalConfig, tools: Tools, trace: Trace) -> State:
    """Keep as many candidates as later steps look at, and read them."""
    most = max(SPARE * config.k, config.rerank.depth if config.rerank.how != "none" else 0)
    kept = state.candidates[:most]
    with trace.stage("read") as stage:
        chunks = tools.snapshot.chunks([one.chunk for one in kept])
        stage.results = len(chunks)
    return replace(state, candidates=kept, found={chunk.chunk: chunk for chunk in chunks})


def _rerank(state: State, config: RetrievalConfig, tools: Tools, trace: Trace) -> State:
    """By the first question: what further ones found competes for it."""
    question = state.asks[0].text
    seen = state.candidates[: config.rerank.depth]
    texts = [state.found[one.chunk].text for one in seen]
    with trace.stage("rerank") as stage:
        if config.rerank.how == "terms":
            scores = term_scores(question, tools.rarity(question), seen, texts)
        else:
            assert tools.reranker is not None, "checked when the retriever was made"
            try:
                scores = tools.reranker.scores(question, texts)
            except FledgeError as error:
                stage.notes.append(f"{tools.reranker.name} failed: {error}; the order stays")
                return state
        stage.results = len(scores)
    return replace(state, candidates=tuple(reordered(state.candidates, scores, "rerank")))


def _age(state: State, config: RetrievalConfig, tools: Tools, trace: Trace) -> State:
    assert config.half_life is not None, "the plan has this step only then"
    with trace.stage("age") as stage:
        dates = [state.found[one.chunk].date for one in state.candidates]
        found = aged(state.candidates, dates, config.half_life, tools.today)
        stage.results = len(found)
    return replace(state, candidates=tuple(found))


def _diversify(state: State, config: RetrievalConfig, tools: Tools, trace: Trace) -> State:
    with trace.stage("diversify") as stage:
        texts = [state.found[one.chunk].text for one in state.candidates]
        found = diverse(state.candidates, texts, config.diversity, config.k * SPARE // 2)
        stage.results = len(found)
    return replace(state, candidates=tuple(found))


def _widen(state: State, config: RetrievalConfig, tools: Tools, trace: Trace) -> State:
    with trace.stage("widen") as stage:
        kept = state.candidates
        if config.widen.how not in ("merge", "parent"):
            kept = kept[: config.k]
        chunks = [state.found[one.chunk] for one in kept]
        flat = bool(chunks) and all(chunk.parent is None for chunk in chunks)
        if flat and config.widen.how in ("merge", "parent"):
            stage.notes.append("this index has no larger chunks: split it hierarchically")
        passages = widened(kept, chunks, config.widen, tools.snapshot)[: config.k]
        stage.results = len(passages)
    return replace(state, passages=tuple(passages))
