"""A question and a snapshot in, an answer with checked citations out: extracted, or written."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pydantic import Field

from fledge.core.config import Config
from fledge.core.errors import InputError
from fledge.core.protocols import ChatModel, Sampling
from fledge.core.types import Message
from fledge.index.store.protocol import Snapshot
from fledge.rag.answered import Answer, Citation
from fledge.rag.cite import Checker, Claim, Claims, with_markers
from fledge.rag.evidence import Seen, measure
from fledge.rag.extract import Sentence, answering
from fledge.rag.language import prompt_language
from fledge.rag.passage import Passage, Query
from fledge.rag.prompt import (
    Counter,
    build_prompt,
    estimate_tokens,
    not_found,
    says_not_found,
)
from fledge.rag.retrieve import Retriever
from fledge.rag.support import SupportModel, support_model
from fledge.rag.tools import Tools
from fledge.rag.trace import Stage


class AnswerConfig(Config):
    """How a question is answered from passages."""

    how: Literal["extract", "generate"] = "extract"
    """extract: the sentences that answer, word for word, without a model.  generate: a language
    model writes; what it says is shown only where a passage bears it out."""
    sentences: int = Field(default=2, ge=1, le=20)
    """Of extract: the most that are shown."""
    budget: int = Field(default=2048, ge=64)
    """Of generate: tokens of the whole prompt."""
    rules: Literal["full", "short"] = "full"
    """Of generate: what the model is told.  short is for small models, which follow no rules:
    passages and question alone.  What they write is checked and cited all the same."""
    max_new_tokens: int = Field(default=256, ge=1)
    """Of generate: tokens of the answer."""
    threshold: float | None = Field(default=None, ge=0, le=1)
    """Support below which the answer is "not in your documents"; None: the calibrated one, which
    refuses 15 % of answerable questions; 0 never refuses."""


@dataclass(frozen=True, kw_only=True)
class Said:
    """A piece of an answer that was checked; ``citations`` are those new with it."""

    text: str
    citations: tuple[Citation, ...] = ()


class Answerer:
    """A retriever and what turns its passages into answers.

    ``count`` counts tokens as the model does; ``support`` are calibrated models of one's own, by
    "language" or "language:embedder"; ``sampling`` is how the model draws (default: greedily, the
    config's most tokens).
    """

    def __init__(
        self,
        retriever: Retriever | None = None,
        config: AnswerConfig | None = None,
        *,
        model: ChatModel | None = None,
        count: Counter = estimate_tokens,
        support: Mapping[str, SupportModel] | None = None,
        sampling: Sampling | None = None,
    ) -> None:
        self.retriever = retriever or Retriever()
        self.config = config or AnswerConfig()
        self.model, self.count, self.support = model, count, dict(support or {})
        self.sampling = sampling or Sampling(max_new_tokens=self.config.max_new_tokens)
        if self.config.how == "generate" and model is None:
            raise InputError("how = 'generate' needs a language model", remedy="or use 'extract'")

    def answer(self, snapshot: Snapshot, query: Query | str) -> Answer:
        """The whole answer."""
        pieces = self._pieces(snapshot, Query(text=query) if isinstance(query, str) else query)
        while True:
            try:
                next(pieces)
            except StopIteration as done:
                answer: Answer = done.value
                return answer

    def stream(self, snapshot: Snapshot, query: Query | str) -> Iterator[Said | Answer]:
        """The answer sentence by sentence, each checked before it is given; last, all of it.

        Between them come pieces without text, one for each piece that a model wrote.
        """
        asked = Query(text=query) if isinstance(query, str) else query
        answer = yield from self._pieces(snapshot, asked)
        yield answer

    def _pieces(self, snapshot: Snapshot, query: Query) -> Generator[Said, None, Answer]:
        tools = Tools(
            snapshot=snapshot,
            embedder=self.retriever.embedder,
            model=self.retriever.model,
            reranker=self.retriever.reranker,
        )
        found = self.retriever.run(query, tools)
        query = replace(query, text=found.question)
        with found.trace.stage("support") as stage:
            support, threshold = self.supports(query.text, found.passages, tools)
            stage.results = len(found.passages)
        base = Answer(
            text=not_found(query.text),
            supported=False,
            support=support,
            passages=found.passages,
            trace=found.trace,
        )
        if not found.passages or support < threshold:
            yield Said(text=base.text)
            return base
        if self.config.how == "extract":
            return (yield from self._extracted(query, base, tools))
        return (yield from self._written(query, base, snapshot))

    def supports(
        self, question: str, passages: Sequence[Passage], tools: Tools
    ) -> tuple[float, float]:
        """The probability that the passages answer, and the threshold it is compared with."""
        measures, kind = self.measures(question, passages, tools)
        language, _, embedder = kind.partition(":")
        model = support_model(language, embedder, self.support)
        threshold = self.config.threshold
        return model.probability(measures), model.threshold if threshold is None else threshold

    def measures(
        self, question: str, passages: Sequence[Passage], tools: Tools
    ) -> tuple[dict[str, float], str]:
        """The evidence, and which support model weighs it: "language" or "language:embedder"."""
        seen = [Seen(text=one.text, dense=one.scores.get("dense")) for one in passages]
        measures = measure(question, tools.rarity(question), seen)
        language = prompt_language(question)
        if tools.vectors is None or "cosine" not in measures:
            return measures, language
        return measures, f"{language}:{tools.vectors.name}"

    def _extracted(self, query: Query, base: Answer, tools: Tools) -> Generator[Said, None, Answer]:
        with base.trace.stage("extract") as stage:
            rarity = tools.rarity(query.text)
            chosen = answering(query.text, rarity, base.passages, self.config.sentences)
            cited = [_citation(i, one) for i, one in enumerate(chosen, 1)]
            kept = [one for one in cited if one.holds(tools.snapshot)]
            stage.results = len(kept)
            if len(kept) < len(cited):
                stage.notes.append("a quotation that its document lacks was left out")
        if not kept:
            yield Said(text=base.text)
            return base
        lines = [with_markers(" ".join(one.quote.split()), [one.marker]) for one in kept]
        text = "\n".join(lines)
        yield Said(text=text, citations=tuple(kept))
        return replace(base, text=text, supported=True, citations=tuple(kept))

    def _written(
        self, query: Query, base: Answer, snapshot: Snapshot
    ) -> Generator[Said, None, Answer]:
        assert self.model is not None, "checked when the answerer was made"
        prompt = build_prompt(
            query.text,
            base.passages,
            budget=self.config.budget,
            short=self.config.rules == "short",
            history=query.history,
            count=self.count,
        )
        checker = Checker(question=query.text, passages=prompt.passages, snapshot=snapshot)
        told, waiting, dropped = "", "", list[str]()
        with base.trace.stage("generate") as stage:
            stage.prompt_tokens = prompt.tokens
            if prompt.left_out:
                stage.notes.append(f"{prompt.left_out} passages did not fit into the prompt")
            if prompt.without_rules and self.config.rules == "full":
                stage.notes.append(f"{self.config.budget} tokens hold no rules: short ones")
            stage.notes += [f"orders to a model in {one}" for one in prompt.suspicious]
            for claim in self._claims(prompt.messages, stage) if prompt.passages else ():
                if claim is None:
                    yield Said(text="")  # so that others get their turn after each token
                    continue
                known = len(checker.citations)
                checked = checker.check(claim.text)
                if checked.note:
                    stage.notes.append(checked.note)
                if checked.dropped and not says_not_found(claim.text):
                    dropped.append(checked.dropped)
                if checked.text:
                    waiting += (claim.gap if told + waiting else "") + checked.text
                if checked.citations:  # what says nothing by itself waits for what does
                    told += waiting
                    yield Said(text=waiting, citations=tuple(checker.citations[known:]))
                    waiting = ""
            stage.results = len(checker.citations)
        if not told:
            yield Said(text=base.text)
            return replace(base, dropped=tuple(dropped))
        if waiting:
            yield Said(text=waiting)
        cited = tuple(checker.citations)
        return replace(
            base, text=told + waiting, supported=True, citations=cited, dropped=tuple(dropped)
        )

    def _claims(self, messages: Sequence[Message], stage: Stage) -> Iterator[Claim | None]:
        """What the model writes, sentence by sentence; None after each piece of one."""
        assert self.model is not None, "checked when the answerer was made"
        claims = Claims()
        deltas = self.model.stream(messages, self.sampling)
        try:
            for delta in deltas:
                yield from claims.feed(delta.text)
                yield None
                if delta.reply is not None:
                    stage.prompt_tokens = 0
                    stage.used(delta.reply.usage)
                    if delta.reply.finish_reason == "length":
                        stage.notes.append("the answer was cut off at its most tokens")
        finally:
            getattr(deltas, "close", lambda: None)()
        yield from claims.end()


def _citation(number: int, sentence: Sentence) -> Citation:
    span = sentence.passage.span
    first = span.start
    return Citation(
        marker=f"[{number}]",
        path=sentence.passage.path,
        span=replace(span, start=first + sentence.start, end=first + sentence.end),
        quote=sentence.text,
        place=sentence.passage.place,
        highlights=tuple((first + start, first + end) for start, end in sentence.highlights),
    )
