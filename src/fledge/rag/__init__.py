"""Answers from an index: retrieve, answer, cite, remember.  See docs/grounding-answers.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fledge.core.lazy import facade

if TYPE_CHECKING:
    from fledge.rag.answer import AnswerConfig as AnswerConfig
    from fledge.rag.answer import Answerer as Answerer
    from fledge.rag.answered import Answer as Answer
    from fledge.rag.answered import Citation as Citation
    from fledge.rag.grounding import opened as opened
    from fledge.rag.passage import Passage as Passage
    from fledge.rag.passage import Query as Query
    from fledge.rag.retrieval_config import RetrievalConfig as RetrievalConfig
    from fledge.rag.retrieve import Retriever as Retriever

__all__ = [
    "Answer",
    "AnswerConfig",
    "Answerer",
    "Citation",
    "Passage",
    "Query",
    "RetrievalConfig",
    "Retriever",
    "opened",
]

__getattr__ = facade(
    __name__,
    {
        "Answer": "answered",
        "AnswerConfig": "answer",
        "Answerer": "answer",
        "Citation": "answered",
        "Passage": "passage",
        "Query": "passage",
        "RetrievalConfig": "retrieval_config",
        "Retriever": "retrieve",
        "opened": "grounding",
    },
)
