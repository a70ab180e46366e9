"""Which languages an embedder serves: measured per language, kept beside its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fledge.core.errors import InputError
from fledge.core.files import read_json, write_json
from fledge.index.embed.protocol import IndexEmbedder
from fledge.index.language import language_of

FILE = "languages.json"
"""In an embedder's folder: {"en": mean reciprocal rank, …}."""

GATE = 0.5
"""Mean reciprocal rank below which an embedder is not listened to.  Beside a good lexical search
one of 0.44 cost 3 to 12 points of hit@1, though weighed by that rank; beside a weak one it gained
nothing (benchmarks/embedder_trust.py)."""

DEPTH = 10
"""Places that are looked at; what is further down counts 0."""


@dataclass(frozen=True, kw_only=True)
class LanguageScore:
    """How well questions of a language find their passage."""

    mrr: float
    """Mean reciprocal rank among the passages of the language, up to place 10."""
    questions: int
    passages: int


def measure_languages(
    embedder: IndexEmbedder, pairs: Sequence[tuple[str, str]]
) -> dict[str, LanguageScore]:
    """The score of each language of the questions.  ``pairs``: (question, passage that answers).

    A question is ranked against the passages of all questions in its language; some hundreds make
    the figure meaningful.
    """
    asked: dict[str, list[tuple[str, str]]] = {}
    for question, passage in pairs:
        asked.setdefault(language_of(question), []).append((question, passage))
    return {language: _score(embedder, group) for language, group in sorted(asked.items())}


def _score(embedder: IndexEmbedder, pairs: Sequence[tuple[str, str]]) -> LanguageScore:
    passages = list(dict.fromkeys(passage for _, passage in pairs))
    numbers = {passage: number for number, passage in enumerate(passages)}
    right = np.array([numbers[passage] for _, passage in pairs])
    stored = embedder.embed(passages)  # (N,D)
    vectors = embedder.embed_queries([question for question, _ in pairs])
    total = 0.0
    for start in range(0, len(pairs), 512):
        wanted = right[start : start + 512]
        scores = vectors[start : start + 512] @ stored.T  # (B,N)
        own = np.take_along_axis(scores, wanted[:, None], axis=1)
        ranks = 1 + (scores > own).sum(axis=1)
        total += float((1 / ranks[ranks <= DEPTH]).sum())
    return LanguageScore(mrr=total / len(pairs), questions=len(pairs), passages=len(passages))


def trust(measured: Mapping[str, float], language: str) -> float:
    """0 to 1: the measured figure of ``language``, 0 below ``GATE`` and where none was measured.

    "zh" is the worse of its two scripts, a script without a figure has that of "zh" or of the
    other one.  A text in no known language is taken for English.
    """
    if language == "und":
        language = "en"
    base = language.partition("-")[0]
    near = [value for key, value in measured.items() if key.partition("-")[0] == base]
    figure = measured.get(language, measured.get(base, min(near, default=0.0)))
    return figure if figure >= GATE else 0.0


def read_languages(folder: Path) -> dict[str, float] | None:
    """What ``languages.json`` in ``folder`` says; None without one."""
    path = folder / FILE
    if not path.is_file():
        return None
    values = read_json(path)
    numbers = isinstance(values, dict) and all(
        isinstance(value, int | float) and 0 <= value <= 1 for value in values.values()
    )
    if not numbers:
        raise InputError(f"{path}: not an object of numbers from 0 to 1", remedy="mend the file")
    return {str(key): float(value) for key, value in values.items()}


def write_languages(folder: Path, scores: Mapping[str, LanguageScore]) -> None:
    """Keep what ``measure_languages`` found beside the weights it belongs to."""
    write_json(folder / FILE, {key: round(score.mrr, 4) for key, score in sorted(scores.items())})
