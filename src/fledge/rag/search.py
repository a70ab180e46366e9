"""Questions in, candidates out: the lexical and the dense search, weighed by language."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fledge.index.language import language_of
from fledge.index.store.filters import Filter
from fledge.index.store.protocol import Hit, Vectors
from fledge.index.terms import terms
from fledge.rag.fusion import Candidate, Ranked, reciprocal_ranks, weighted_scores
from fledge.rag.language import prompt_language
from fledge.rag.rarity import coverage
from fledge.rag.retrieval_config import LegWeights, RetrievalConfig
from fledge.rag.tools import Tools
from fledge.rag.trace import Trace

LEXICAL, DENSE = 0.65, 0.35
"""Weights beside an embedder that is fully trusted: the best on English validation sets."""
FULL_TRUST = 0.5
"""Share of a question that its best lexical hit must hold for the lexical search to count fully.

Below it the words of the question are hardly there, as when it is asked in another language than
the documents are written in."""


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One thing to search for; ``passage``: what the embedder reads instead, as a passage."""

    text: str
    weight: float = 1.0
    passage: str = ""


def search(
    asks: Sequence[Ask], where: Filter | None, config: RetrievalConfig, tools: Tools, trace: Trace
) -> list[list[Candidate]]:
    """Candidates of each ask, best first."""
    weights = [leg_weights(ask.text, config, tools) for ask in asks]
    with trace.stage("embed") as stage:
        vectors = _vectors(asks, weights, tools)
        stage.results = len(vectors)
        idle = {
            prompt_language(ask.text) for ask, w in zip(asks, weights, strict=True) if not w.dense
        }
        if tools.vectors is not None and config.legs == "hybrid" and idle:
            names = ", ".join(sorted(idle))
            stage.notes.append(f"{tools.vectors.name} is not used for questions in {names}")
    with trace.stage("dense") as stage:
        near = {i: tools.snapshot.nearest(v, config.depth, where) for i, v in vectors.items()}
        stage.results = sum(map(len, near.values()))
    with trace.stage("lexical") as stage:
        stage.asked = tuple(ask.text for ask in asks)
        words = {
            i: tools.snapshot.matching(terms(ask.text), config.depth, where)
            for i, ask in enumerate(asks)
            if weights[i].lexical
        }
        stage.results = sum(map(len, words.values()))
    with trace.stage("fuse") as stage:
        groups = [
            _fused(ask, words.get(i, []), near.get(i, []), weights[i], config, tools)
            for i, ask in enumerate(asks)
        ]
        stage.results = len({one.chunk for group in groups for one in group})
    return groups


def leg_weights(question: str, config: RetrievalConfig, tools: Tools) -> LegWeights:
    """How much each search counts for a question, by its language."""
    if config.legs == "lexical" or tools.vectors is None:
        return LegWeights(dense=0, lexical=1)
    if config.legs == "dense":
        return LegWeights(dense=1, lexical=0)
    language = prompt_language(question)
    if language in config.fusion.weights:
        return config.fusion.weights[language]
    trust = tools.vectors.serves(language_of(question))
    return LegWeights(dense=DENSE * trust, lexical=LEXICAL)


def _vectors(
    asks: Sequence[Ask], weights: Sequence[LegWeights], tools: Tools
) -> dict[int, Vectors]:
    """The vectors (D,) of the asks for which the dense search counts, by their places."""
    used = [i for i, weight in enumerate(weights) if weight.dense > 0]
    if tools.vectors is None or not used:
        return {}
    plain = [i for i in used if not asks[i].passage]
    written = [i for i in used if asks[i].passage]
    found: dict[int, Vectors] = {}
    if plain:
        rows = tools.vectors.embed_queries([asks[i].text for i in plain])
        found |= dict(zip(plain, rows, strict=True))
    if written:
        rows = tools.vectors.embed([asks[i].passage for i in written])
        found |= dict(zip(written, rows, strict=True))
    return found


def _fused(
    ask: Ask,
    words: Sequence[Hit],
    near: Sequence[Hit],
    weights: LegWeights,
    config: RetrievalConfig,
    tools: Tools,
) -> list[Candidate]:
    """One ranking of the two."""
    trust = _trust(ask.text, words, tools) if words and near else 1.0
    lists = [
        Ranked(name="lexical", hits=words, weight=weights.lexical * trust),
        Ranked(name="dense", hits=near, weight=weights.dense),
    ]
    lists = [one for one in lists if one.hits and one.weight > 0]
    if config.fusion.how == "ranks":
        return reciprocal_ranks(lists, config.fusion.constant)
    return weighted_scores(lists)


def _trust(question: str, words: Sequence[Hit], tools: Tools) -> float:
    """How much the lexical search knows of a question: 1 when its best hit holds half of it."""
    best = tools.snapshot.chunks([words[0].chunk])[0]
    return min(1.0, coverage(tools.rarity(question), terms(best.text)) / FULL_TRUST)
