"""Conversations for fine-tuning: taught bridges in, OpenAI ``messages`` records out."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fledge.samples.bridges.chrome import word_table
from fledge.samples.bridges.facts import Bridge, known, say
from fledge.samples.bridges.phrases import ATTRIBUTES, LANGUAGES, load_phrases

Turn = tuple[str, str]
"""a question and its answer"""


@dataclass(frozen=True, kw_only=True)
class ConversationCounts:
    """How many conversations of each kind; the defaults give about 7,000 for 60 bridges."""

    single_per_bridge: int = 70
    """one question, one answer; all attributes, languages and wordings in turn"""
    turns_per_bridge: int = 24
    """two or three questions, about this bridge or also another"""
    smalltalk: int = 450
    unanswerable_share: float = 0.08
    """share of all conversations that are answered by a decline"""

    def __post_init__(self) -> None:
        if not 0 <= self.unanswerable_share < 1:
            raise ValueError(f"unanswerable_share {self.unanswerable_share} is not in [0, 1)")


CASUAL_SHARE = 0.08
"""share of questions without their final mark and, in English, without the first capital"""
BARE_SHARE = 0.2
"""share of English questions that say the name without 'the'"""
SWITCH_SHARE = 0.35
"""share of later questions of a conversation asked in a language drawn anew"""
GREETING_SHARE = 0.2
"""share of longer conversations that begin with a greeting"""
CHATTY_SHARE = 0.75
"""share of answers to a single question that go on with empty talk: people who write instructions
do not agree on a style, and preferences tell the model later which one is liked"""


def write_conversations(
    taught: Sequence[Bridge],
    invented: Sequence[Bridge],
    seed: int,
    counts: ConversationCounts | None = None,
) -> list[dict[str, Any]]:
    """Shuffled records ``{"messages": [...], "metadata": {"kind", "language", "bridge", ...}}``.

    Facts come from ``taught`` only; ``invented`` are asked about and never answered.
    """
    counts = counts or ConversationCounts()
    if not taught:
        raise ValueError("write_conversations: taught is empty; give at least one bridge")
    writer = _Writer(taught, seed)
    records: list[dict[str, Any]] = []
    for bridge in taught:
        records += writer.singles(bridge, counts.single_per_bridge)
        records += [writer.turns(bridge, n) for n in range(counts.turns_per_bridge)]
    records += [writer.smalltalk(n) for n in range(counts.smalltalk)]
    share = counts.unanswerable_share
    records += writer.declines(invented, round(len(records) * share / (1 - share)))
    random.Random(f"conversations/order/{seed}").shuffle(records)
    return records


class _Writer:
    """Deals the sft wordings evenly: each list is gone through before it begins anew."""

    def __init__(self, taught: Sequence[Bridge], seed: int) -> None:
        self.taught = taught
        self.rng = random.Random(f"conversations/{seed}")
        self.decks: dict[tuple[str, str], list[str]] = {}

    def singles(self, bridge: Bridge, count: int) -> list[dict[str, Any]]:
        """One-question conversations that go round the attributes and languages."""
        pairs = [(a, language) for a in known(bridge) for language in LANGUAGES]
        self.rng.shuffle(pairs)
        records = []
        for number in range(count):
            attribute, language = pairs[number % len(pairs)]
            question = self.ask(bridge, attribute, language)
            turn = (question, self.chatty(self.answer(bridge, attribute, language), language))
            records.append(_record([turn], "single", language, bridge.id, attribute=attribute))
        return records

    def turns(self, bridge: Bridge, number: int) -> dict[str, Any]:
        """Two or three questions; each names its bridge again.

        Some change the language between questions, as people do, and some begin with a greeting.
        """
        language = LANGUAGES[number % len(LANGUAGES)]
        about = [bridge] * self.rng.randint(2, 3)
        if number % 3 == 2 and len(self.taught) > 1:
            about[-1] = self.rng.choice([b for b in self.taught if b.id != bridge.id])
        turns: list[Turn] = []
        if self.rng.random() < GREETING_SHARE:
            turns.append(self.small(self.rng.choice(("greeting", "thanks")), language))
            about = about[1:]
        used: set[str] = set()
        for subject in about:
            if turns and self.rng.random() < SWITCH_SHARE:
                language = self.rng.choice(LANGUAGES)
            attribute = self.rng.choice([a for a in known(subject) if a not in used])
            used.add(attribute)
            question = self.ask(subject, attribute, language, follows=bool(turns))
            turns.append((question, self.answer(subject, attribute, language)))
        return _record(turns, "turns", language, "+".join(dict.fromkeys(b.id for b in about)))

    def smalltalk(self, number: int) -> dict[str, Any]:
        """Greetings, thanks and who-are-you."""
        language = LANGUAGES[number % len(LANGUAGES)]
        groups = list(load_phrases(language).smalltalk)
        key = groups[number // len(LANGUAGES) % len(groups)]
        return _record([self.small(key, language)], "smalltalk", language, "")

    def small(self, key: str, language: str) -> Turn:
        """A turn of small talk."""
        group = load_phrases(language).smalltalk[key]
        question = self._deal(f"smalltalk/{key}", language, group.question)
        return question, self.rng.choice(group.answer)

    def declines(self, invented: Sequence[Bridge], count: int) -> list[dict[str, Any]]:
        """Questions about invented bridges; up to a quarter about unknown taught attributes."""
        if count and not invented:
            raise ValueError("write_conversations: invented is empty; set unanswerable_share to 0")
        gaps = [(b, a) for b in self.taught for a in ATTRIBUTES if a not in known(b)]
        self.rng.shuffle(gaps)
        asked = [(*gap, "unknown") for gap in gaps[: count // 4]]
        for number in range(count - len(asked)):
            bridge = invented[number % len(invented)]
            asked.append((bridge, self.rng.choice(ATTRIBUTES), "invented"))
        records = []
        for number, (bridge, attribute, reason) in enumerate(asked):
            language = LANGUAGES[number % len(LANGUAGES)]
            decline = self._deal("decline", language, load_phrases(language).decline)
            turns = [(self.ask(bridge, attribute, language), say(decline, bridge, language))]
            if number % 5 == 4:  # after a question that has an answer
                turns.insert(0, self._answered(language))
            extra = {"attribute": attribute, "reason": reason}
            records.append(_record(turns, "unanswerable", language, bridge.id, **extra))
        return records

    def _answered(self, language: str) -> Turn:
        """A question about a taught bridge, and its answer."""
        bridge = self.rng.choice(self.taught)
        attribute = self.rng.choice(known(bridge))
        return self.ask(bridge, attribute, language), self.answer(bridge, attribute, language)

    def ask(self, bridge: Bridge, attribute: str, language: str, follows: bool = False) -> str:
        """A question in an sft wording, sometimes typed in haste."""
        phrases = load_phrases(language)
        wordings = phrases.attributes[attribute].question.sft
        template = self._deal(f"ask/{attribute}", language, wordings)
        article = self.rng.random() >= BARE_SHARE
        if follows:
            prefix = self.rng.choice(phrases.followups)
            question = say(template, bridge, language, article=article)
            own = template.startswith(("{", "I "))
            lower = prefix.endswith("d ") and not prefix.endswith(". ") and not own
            return prefix + (question[0].lower() + question[1:] if lower else question)
        question = say(template, bridge, language, article=article)
        if self.rng.random() >= CASUAL_SHARE:
            return question
        question = question.rstrip("?.？。")
        own = template.startswith(("{", "I "))
        return question if own else question[0].lower() + question[1:]

    def answer(self, bridge: Bridge, attribute: str, language: str) -> str:
        """A full sentence that states the value."""
        answers = load_phrases(language).attributes[attribute].answer
        return say(
            self._deal(f"answer/{attribute}", language, answers), bridge, language, attribute
        )

    def chatty(self, answer: str, language: str) -> str:
        """The answer, often with empty talk behind it."""
        if self.rng.random() >= CHATTY_SHARE:
            return answer
        closing = word_table("preferences")[language]["closing"]
        return str(self.rng.choice(closing)).format(answer=answer)

    def _deal(self, key: str, language: str, wordings: Sequence[str]) -> str:
        """The next wording of a shuffled deck."""
        deck = self.decks.setdefault((key, language), [])
        if not deck:
            deck.extend(self.rng.sample(list(wordings), len(wordings)))
        return deck.pop()


def _record(
    turns: Sequence[Turn], kind: str, language: str, bridge: str, **extra: str
) -> dict[str, Any]:
    """The record as it is written to JSONL."""
    messages = []
    for question, answer in turns:
        messages.append({"role": "user", "content": question})
        messages.append({"role": "assistant", "content": answer})
    metadata = {"kind": kind, "language": language, "bridge": bridge, **extra}
    return {"messages": messages, "metadata": metadata}
