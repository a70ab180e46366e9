"""Prompts in; of several answers each the best to learn, and best against worst as pairs, out.

Rejection sampling as in Llama 2 (arXiv:2307.09288, section 3.2.3) and RAFT (arXiv:2304.06767):
draw k answers, score each, keep the best.  The pair of best and worst is what DPO learns from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from fledge.core.config import Config
from fledge.core.protocols import ChatModel, Sampling
from fledge.core.types import Message
from fledge.data.preference_forms import Preference
from fledge.data.preferences import preference_row
from fledge.data.sifting import Score, ScoreError
from fledge.data.synthesis.asking import Asker, Language, UnusableError, made_row
from fledge.data.synthesis.inputs import Question
from fledge.data.synthesis.majority import final_answer, majority
from fledge.data.synthesis.run import Make, Task
from fledge.metrics.answers import answers as states
from fledge.metrics.answers import final_number_is, normalise, numbers

Scorer = Callable[[Question, Sequence[str]], list[float | None]]
"""A score for each answer to a question; None where there is none."""


class RejectionConfig(Config):
    """How many answers are drawn, and what is kept of them."""

    answers: int = Field(default=4, ge=2)
    """Answers to draw for each prompt."""

    count: int = Field(default=1000, ge=1)
    """Prompts to answer at most, drawn by the seed."""

    language: Language = "en"
    """Of the judge's instructions."""

    seed: int = 0
    """The same seed draws the same prompts and asks the model with the same seeds."""

    temperature: float = Field(default=0.8, gt=0)
    """Of the model."""

    top_p: float = Field(default=0.95, gt=0, le=1)
    """The model draws from this much probability."""

    max_new_tokens: int = Field(default=1024, ge=1)
    """Longest answer in tokens; one that is cut off does not count."""

    min_score: float | None = None
    """Least score of a best answer that is kept to learn; None: any by a judge, otherwise 1."""

    min_margin: float = Field(default=1.0, ge=0)
    """Least difference of best and worst for a pair."""


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """One answer and its score."""

    text: str
    score: float


def rejection(model: ChatModel, score: Scorer, config: RejectionConfig) -> Make:
    """Does a task whose input is a question: one row with ``best`` and, if there is, ``pair``."""

    def make(task: Task) -> list[dict[str, Any]]:
        question: Question = task.input
        asker = Asker(model, _sampling(config), config.language, f"sample/{task.key}")
        drawn = _draw(question, asker, config.answers)
        scores = score(question, drawn)
        found = [
            Sampled(text=text, score=value)
            for text, value in zip(drawn, scores, strict=True)
            if value is not None
        ]
        if not found:
            raise UnusableError("no_score")
        return [_row(question, found, model.name, config)]

    return make


def _sampling(config: RejectionConfig) -> Sampling:
    return Sampling(
        max_new_tokens=config.max_new_tokens,
        temperature=config.temperature,
        top_p=config.top_p,
        seed=config.seed,
    )


def _draw(question: Question, asker: Asker, count: int) -> list[str]:
    """The whole ones of ``count`` answers; raises UnusableError when there is none."""
    found: list[str] = []
    reason = ""
    for _ in range(count):
        try:
            found.append(asker.answer(question.messages))
        except UnusableError as error:
            reason = str(error)
    if not found:
        raise UnusableError(reason)
    return found


def _row(
    question: Question, found: Sequence[Sampled], model: str, config: RejectionConfig
) -> dict[str, Any]:
    """``best``: a conversation or null; ``pair``: a preference or null; both with their scores."""
    best = max(found, key=lambda one: one.score)
    worst = min(found, key=lambda one: one.score)
    told = {"origin": question.origin, "scores": [one.score for one in found]}
    good_enough = config.min_score is None or best.score >= config.min_score
    answers = [(Message(role="assistant", content=one.text),) for one in (best, worst)]
    pair = None
    if best.score - worst.score >= config.min_margin and best is not worst:
        margin = best.score - worst.score
        preference = Preference(
            prompt=question.messages, chosen=answers[0], rejected=answers[1], margin=margin
        )
        metadata = {"method": "sample", "model": model, "seed": config.seed, **told}
        pair = {**preference_row(preference), "metadata": metadata}
    whole = (*question.messages, *answers[0])
    return {
        "best": made_row(whole, "sample", model, config.seed, score=best.score, **told)
        if good_enough
        else None,
        "pair": pair,
    }


def by_score(score: Score) -> Scorer:
    """Scores by a function of conversation and answer: a judge, a reward model."""

    def scored(question: Question, answers: Sequence[str]) -> list[float | None]:
        found: list[float | None] = []
        for answer in answers:
            try:
                found.append(score(question.messages, answer))
            except ScoreError:
                found.append(None)
        return found

    return scored


def by_target(question: Question, answers: Sequence[str]) -> list[float | None]:
    """1 for an answer that states the known result, 0 for another; raises without one.

    Of an answer with a line "Answer: …" only that line counts.
    """
    if not question.target:
        raise UnusableError("no_target")
    a_number = numbers(normalise(question.target)) == {normalise(question.target)}
    right = final_number_is if a_number else states
    return [
        float(right(final_answer(answer) or answer, question.target, question=question.text))
        for answer in answers
    ]


def by_majority(question: Question, answers: Sequence[str]) -> list[float | None]:
    """1 for an answer whose result is the most frequent one, 0 for another (arXiv:2203.11171)."""
    results = [_result(answer) for answer in answers]
    winner, _ = majority(results)
    if not winner:
        raise UnusableError("no_final_answer")
    return [float(result == winner) for result in results]


def _result(answer: str) -> str:
    """The final answer; of an answer of one line without a mark, the line."""
    found = final_answer(answer)
    return found or (normalise(answer) if "\n" not in answer.strip() else "")
