"""Facts and a way to ask in; what a model knows of them, out.  No torch.

A model's own answers tell what it knows: the same question in several wordings, likeliest and
drawn answers, compared with the source (arXiv:2207.05221, 2; arXiv:2311.09677, 3.1).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fledge.core.errors import InputError
from fledge.core.files import read_jsonl
from fledge.core.protocols import Progress, Sampling
from fledge.core.types import Message
from fledge.engine.engine import Engine
from fledge.metrics.answers import answers as states
from fledge.metrics.declines import declines

KNOWN, UNKNOWN, SHAKY = "known", "unknown", "shaky"

Asker = Callable[[Sequence[tuple[str, Sampling]], Callable[[int], None]], list[str]]
"""(questions, each with how to draw its answer; told as answers come) -> answers in their order."""


@dataclass(frozen=True, kw_only=True)
class Fact:
    """Something to ask about, in several wordings."""

    id: str
    questions: tuple[str, ...]
    answers: tuple[str, ...]
    """What counts as right; none: nobody can know."""
    reply: str = ""
    """A sentence that says it; empty: the model's own words are taught."""
    declines: tuple[str, ...] = ()
    """Ways to say that one does not know; none: the usual ones of the language."""
    language: str = ""
    subject: str = ""
    """What it is about; facts about one thing are taught together or measured together."""
    attribute: str = ""
    rivals: tuple[str, ...] = field(default=(), repr=False)
    """Wrong values: the right ones of other facts of this attribute and language."""

    def is_right(self, question: str, answer: str) -> bool:
        """Whether ``answer`` states a right value and no other, without declining."""
        return not self.is_declined(answer) and any(
            states(answer, value, self.rivals, question) for value in self.answers
        )

    def is_declined(self, answer: str) -> bool:
        """Whether ``answer`` says that it does not know."""
        return declines(answer, self.language, self.declines)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One answer of a model."""

    question: str
    temperature: float
    answer: str
    right: bool
    declined: bool


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A fact, how it was answered, and whether the model knows it."""

    fact: Fact
    asked: tuple[Asked, ...]
    verdict: str

    def row(self) -> dict[str, Any]:
        """As it is written to JSONL."""
        return {
            "id": self.fact.id,
            "subject": self.fact.subject,
            "language": self.fact.language,
            "answers": list(self.fact.answers),
            "verdict": self.verdict,
            "right": share(one.right for one in self.asked),
            "declined": share(one.declined for one in self.asked),
            "asked": [vars(one) for one in self.asked],
        }

    @classmethod
    def of_row(cls, fact: Fact, row: dict[str, Any]) -> Probe:
        """What ``row`` wrote."""
        asked = tuple(Asked(**one) for one in row["asked"])
        return cls(fact=fact, asked=asked, verdict=row["verdict"])


def share(values: Iterable[bool]) -> float:
    """The share of what is true; 0 of nothing."""
    found = list(values)
    return round(sum(found) / len(found), 6) if found else 0.0


def verdict_of(fact: Fact, asked: Sequence[Asked], known_at: float, unknown_at: float) -> str:
    """``KNOWN``, ``UNKNOWN`` or ``SHAKY`` by the share of right answers."""
    right = share(one.right for one in asked)
    if not fact.answers or right <= unknown_at:
        return UNKNOWN
    return KNOWN if right >= known_at else SHAKY


def ask(
    facts: Sequence[Fact],
    questions: Callable[[Fact], Sequence[str]],
    samplings: Sequence[Sampling],
    asker: Asker,
    progress: Progress,
    label: str,
) -> list[tuple[Asked, ...]]:
    """The answers about each fact: each of its ``questions`` with each of ``samplings``."""
    wanted = [
        (fact, question, sampling)
        for fact in facts
        for question in questions(fact)
        for sampling in samplings
    ]
    with progress.bar(label, len(wanted), "questions") as bar:
        said = asker([(question, sampling) for _, question, sampling in wanted], bar.advance)
    answered: dict[str, list[Asked]] = defaultdict(list)
    for (fact, question, sampling), answer in zip(wanted, said, strict=True):
        answered[fact.id].append(
            Asked(
                question=question,
                temperature=sampling.temperature,
                answer=answer,
                right=fact.is_right(question, answer),
                declined=fact.is_declined(answer),
            )
        )
    return [tuple(answered[fact.id]) for fact in facts]


def engine_asker(engine: Engine) -> Asker:
    """Asks an engine, each question as a conversation of its own."""

    def prompt(question: str) -> list[int]:
        message = Message(role="user", content=question).to_openai()
        return engine.tokenizer.encode_chat([message], add_generation_prompt=True)

    def asking(asked: Sequence[tuple[str, Sampling]], advance: Callable[[int], None]) -> list[str]:
        prompts = [prompt(question) for question, _ in asked]
        longest = max(map(len, prompts), default=0)
        if longest >= engine.context:
            raise InputError(
                f"a question has {longest} tokens, the model's context holds {engine.context}",
                remedy="ask in fewer words",
            )
        said = [""] * len(prompts)
        for index, made in engine.generate_each(prompts, [how for _, how in asked]):
            said[index] = made.text.strip()
            advance(1)
        return said

    return asking


def read_facts(paths: Sequence[Path]) -> list[Fact]:
    """The facts of JSONL files; raises InputError naming file, line and key."""
    found = [
        _fact(row, f"{path}, line {line}")
        for path in paths
        for line, row in enumerate(read_jsonl(path), 1)
    ]
    if not found:
        names = ", ".join(map(str, paths)) or "no file"
        raise InputError(f"{names}: there is no fact", remedy='write {"question": …, "answer": …}')
    met: set[str] = set()
    for fact in found:
        if fact.id in met:
            raise InputError(f"two facts have the id {fact.id!r}", remedy="rename one")
        met.add(fact.id)
    return _with_rivals(found)


def _fact(row: Any, where: str) -> Fact:
    if not isinstance(row, dict):
        raise InputError(f"{where}: not an object", remedy='write {"question": …, "answer": …}')
    questions = _texts(row, "questions", "question", where)
    if not questions:
        raise InputError(f"{where}: 'questions' is empty", remedy="ask in at least one wording")
    if "answers" not in row and "answer" not in row:
        raise InputError(f"{where}: 'answers' is missing", remedy="[] where nobody can know")
    texts = {key: row.get(key, "") for key in ("reply", "language", "subject", "attribute")}
    for key, value in texts.items():
        if not isinstance(value, str):
            raise InputError(f"{where}: '{key}' must be text", remedy="mend the line")
    return Fact(
        id=str(row.get("id") or where),
        questions=questions,
        answers=_texts(row, "answers", "answer", where),
        declines=_texts(row, "declines", "decline", where),
        **{**texts, "subject": texts["subject"] or str(row.get("id") or where)},
    )


def _texts(row: dict[str, Any], key: str, single: str, where: str) -> tuple[str, ...]:
    """The texts under ``key``, or the one under ``single``; empty ones are none."""
    value = row.get(key, row.get(single))
    value = [value] if isinstance(value, str | int | float) else value or []
    if not isinstance(value, list) or not all(isinstance(one, str | int | float) for one in value):
        raise InputError(f"{where}: '{key}' must be a list of texts", remedy="mend the line")
    return tuple(str(one) for one in value if str(one).strip())


def _with_rivals(facts: Sequence[Fact]) -> list[Fact]:
    """Facts with the values of others of their attribute, so that naming many is no answer."""
    values: dict[tuple[str, str], set[str]] = defaultdict(set)
    for fact in facts:
        values[fact.attribute, fact.language].update(fact.answers)
    return [
        Fact(**{**vars(fact), "rivals": _others(values[fact.attribute, fact.language], fact)})
        if fact.attribute
        else fact
        for fact in facts
    ]


def _others(values: set[str], fact: Fact) -> tuple[str, ...]:
    own = [answer.casefold() for answer in fact.answers]
    return tuple(sorted(v for v in values if not any(v.casefold() in one for one in own)))
