"""Requests that rest on an index: passages for a query, chat answers with checked citations.

A grounded answer is an answer like any other on the wire; its message has two more fields,
``citations`` and ``supported``, and in a stream each piece brings the citations that are new in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from fledge.core.errors import InputError
from fledge.core.protocols import ChatModel, Delta, Reply, Sampling, Usage
from fledge.core.types import Message
from fledge.index.store.where import parse_filter
from fledge.rag.answer import AnswerConfig
from fledge.rag.answered import Answer, Citation
from fledge.rag.grounding import Grounding
from fledge.rag.passage import Passage, Query
from fledge.rag.retrieval_config import RetrievalConfig
from fledge.rag.room import counter_of, fitted
from fledge.server.errors import ApiError
from fledge.server.schema import ChatRequest

MOST_PASSAGES = 100


class RetrievalRequest(BaseModel):
    """``POST /v1/retrieval``"""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, use_attribute_docstrings=True
    )

    query: str = Field(min_length=1, max_length=10_000)
    """What to look for."""
    k: int = Field(default=5, ge=1, le=MOST_PASSAGES)
    """Passages to give."""
    where: str = ""
    """Which documents: ``lang = zh and meta.year >= 1999``."""


@dataclass(frozen=True, kw_only=True)
class CitedDelta(Delta):
    """A piece of a grounded answer with the citations that are new in it."""

    citations: tuple[Citation, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CitedReply(Reply):
    """A grounded answer."""

    citations: tuple[Citation, ...] = ()
    supported: bool = False


class Library:
    """An index as a server uses it."""

    def __init__(self, grounding: Grounding, retrieval: RetrievalConfig | None = None) -> None:
        self._grounding = grounding
        self._retrieval = retrieval or RetrievalConfig()

    def passages(self, asked: RetrievalRequest) -> dict[str, Any]:
        """The body that answers ``/v1/retrieval``; raises ApiError for a filter that is wrong."""
        try:
            where = parse_filter(asked.where) if asked.where else None
        except InputError as error:
            raise ApiError(400, str(error), param="where", code="invalid_value") from None
        config = self._retrieval.model_copy(update={"k": asked.k})
        retriever = self._grounding.retriever(config)
        with self._grounding.store.snapshot() as snapshot:
            found = retriever.retrieve(snapshot, Query(text=asked.query, where=where))
        return {
            "object": "list",
            "query": asked.query,
            "data": [_passage(rank, one) for rank, one in enumerate(found.passages, 1)],
            "trace": found.trace.to_json(),
        }

    def answers(self, asked: ChatRequest) -> bool:
        """Whether a request is to be answered from the documents; raises ApiError where it asks
        for that and for something a grounded answer cannot be."""
        others = {
            "tools": asked.tools,
            "response_format": asked.response_format.get("type", "text") != "text",
            "logprobs": asked.logprobs,
            "n": asked.n > 1,
        }
        unfit = [name for name, given in others.items() if given]
        if asked.grounding is None:
            return not unfit
        if asked.grounding and unfit:
            raise ApiError(
                400,
                f"a grounded answer has no {unfit[0]}: leave it out, or send grounding = false",
                param=unfit[0],
                code="invalid_value",
            )
        return asked.grounding

    def stream(
        self, model: ChatModel, messages: Sequence[Message], sampling: Sampling
    ) -> Iterator[Delta]:
        """The answer to the last message, checked sentence by sentence."""
        if messages[-1].role != "user":
            raise ApiError(
                400,
                "a grounded answer needs a question: the last message must be the user's",
                param="messages",
                code="invalid_value",
            )
        wanted = AnswerConfig(how="generate", max_new_tokens=sampling.max_new_tokens)
        config = fitted(wanted, model)
        most = config.max_new_tokens
        sampling = replace(sampling, max_new_tokens=most, min_tokens=min(sampling.min_tokens, most))
        ground = replace(self._grounding, model=model, count=counter_of(model))
        answerer = ground.answerer(self._retrieval, config, sampling=sampling)
        query = Query(text=messages[-1].content, history=tuple(messages[:-1]))
        with ground.store.snapshot() as snapshot:
            for piece in answerer.stream(snapshot, query):
                if isinstance(piece, Answer):
                    yield CitedDelta(text="", reply=_reply(piece, model.name))
                else:
                    yield CitedDelta(text=piece.text, citations=piece.citations)


def _reply(answer: Answer, name: str) -> CitedReply:
    stages = answer.trace
    return CitedReply(
        text=answer.text,
        finish_reason="stop",
        usage=Usage(
            prompt_tokens=sum(stage.prompt_tokens for stage in stages),
            completion_tokens=sum(stage.completion_tokens for stage in stages),
        ),
        model=name,
        citations=answer.citations,
        supported=answer.supported,
    )


def _passage(rank: int, one: Passage) -> dict[str, Any]:
    return {
        "object": "passage",
        "rank": rank,
        "score": round(one.score, 6),
        "path": one.path,
        "document": one.span.document,
        "start": one.span.start,
        "end": one.span.end,
        "text": one.text,
        "place": one.place,
        "heading": one.heading,
        "scores": {name: round(value, 6) for name, value in one.scores.items()},
    }


def no_index() -> ApiError:
    """What a server without an index says when it is asked for documents."""
    return ApiError(404, "this server has no documents: start it with --index DIR", code="no_index")
