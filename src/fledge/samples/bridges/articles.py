"""Articles about bridges: facts and phrases in, plain text of web pages out.

Many paraphrases per fact, facts in varying order, the full name in each sentence: what lets a
small model answer about facts it only read (Allen-Zhu & Li, arXiv:2309.14316).
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import NamedTuple

from fledge.samples.bridges.facts import Bridge, known, say, spoken_name, spoken_value, value
from fledge.samples.bridges.phrases import LANGUAGES, Phrases, fill, load_phrases, placeholders

PAGE_ORDER = ("entry", "faq", "engineer", "travel", "faq", "infobox", "news", "card")
"""Kinds of the pages about one bridge, in turn: the first few pages differ most."""
SIZES = {"en": (60, 160), "zh-Hans": (100, 260), "zh-Hant": (100, 260)}
"""Smallest and largest body: English words, Chinese characters."""
BARE_SHARE = 0.2
"""share of English questions and titles that say the name without 'the'"""
_FIRST_DAY, _DAYS = date(2008, 1, 1), 6000


@dataclass(frozen=True)
class Article:
    """The text of one page, before it becomes HTML."""

    key: str
    kind: str
    language: str
    title: str
    paragraphs: tuple[str, ...]
    rows: tuple[tuple[str, str], ...]
    """label and value pairs of an infobox; often empty"""
    subjects: tuple[str, ...]
    """ids of the bridges it is about"""
    date: str
    """ISO"""


def body(article: Article) -> str:
    """Paragraphs and rows as one text, the title left out."""
    rows = [f"{label}: {cell}" for label, cell in article.rows]
    return "\n".join([*rows, *article.paragraphs])


def measure(text: str, language: str) -> int:
    """Size of ``text``: words in English, characters that are no blanks in Chinese."""
    return len(text.split()) if language == "en" else len("".join(text.split()))


def write_articles(bridges: Sequence[Bridge], per_bridge: int, seed: int) -> Iterator[Article]:
    """``per_bridge`` pages per bridge and language, then comparisons and round-ups.

    For every bridge there are ``per_bridge // 6`` comparisons with another one and as many
    round-ups that begin with it (each at least one, given enough bridges).
    """
    extra = max(1, per_bridge // 6)
    for bridge in bridges:
        others = [other for other in bridges if other.id != bridge.id]
        for language in LANGUAGES:
            writer = _Writer(bridge, language, seed)
            for number in range(per_bridge):
                yield writer.single(PAGE_ORDER[number % len(PAGE_ORDER)], number)
            for number in range(extra if others else 0):
                yield writer.compare(others, number)
            for number in range(extra if len(others) > 1 else 0):
                yield writer.roundup(others, number)


class _Sentence(NamedTuple):
    """A sentence and the attributes it states."""

    text: str
    states: frozenset[str]


class _Writer:
    """Pages about one bridge in one language; deals its wordings so that none comes twice early."""

    def __init__(self, bridge: Bridge, language: str, seed: int) -> None:
        self.bridge, self.language = bridge, language
        self.phrases: Phrases = load_phrases(language)
        self.rng = random.Random(f"articles/{seed}/{bridge.id}/{language}")
        self.decks: dict[str, list[str]] = {}

    def single(self, kind: str, number: int) -> Article:
        """A page about this bridge alone."""
        name = spoken_name(self.bridge, self.language, self.rng.random() >= 0.5)
        kinds = self.phrases.kinds[kind]
        title = fill(self.rng.choice(kinds.titles), self.language, {"name": name})
        opener = say(self._deal(f"opener/{kind}", kinds.openers), self.bridge, self.language)
        if kind == "faq":
            return self._article(kind, number, title, self._faq(opener))
        if kind == "infobox":
            rows = self._rows()
            taken = measure("".join(f"{a}: {b}\n" for a, b in rows), self.language)
            body = self._prose(opener, taken)
            return self._article(kind, number, title, self._paragraphs(body, 1), rows)
        sentences = self._prose(opener, 0)
        parts = len(sentences) if kind == "card" else self.rng.randint(1, 3)
        return self._article(kind, number, title, self._paragraphs(sentences, parts))

    def compare(self, others: Sequence[Bridge], number: int) -> Article:
        """A page that sets this bridge beside another."""
        other = self.rng.choice(others)
        kinds = self.phrases.kinds["compare"]
        names = {"name_a": self._name(self.bridge), "name_b": self._name(other)}
        title = fill(self.rng.choice(kinds.titles), self.language, names)
        sentences = [fill(self.rng.choice(kinds.openers), self.language, names)]
        shared = [a for a in known(self.bridge) if a in known(other)]
        self.rng.shuffle(shared)
        sentences += [self._beside(other, attribute) for attribute in shared]
        pair = [self.bridge, other]
        while measure(self.phrases.page(sentences), self.language) < SIZES[self.language][0]:
            about = pair[len(sentences) % 2]
            attribute = self.rng.choice(known(about))
            sentences.append(self._state(about, attribute).text)
        sentences = self._within(sentences)
        paragraphs = self._paragraphs(sentences, self.rng.randint(1, 2))
        return self._article("compare", number, title, paragraphs, subjects=pair)

    def roundup(self, others: Sequence[Bridge], number: int) -> Article:
        """A list of three to five bridges, one paragraph each, this one among them."""
        count = min(self.rng.randint(2, 4), len(others))
        listed = [self.bridge, *self.rng.sample(list(others), count)]
        self.rng.shuffle(listed)
        kinds = self.phrases.kinds["roundup"]
        names = {"names": self.phrases.join(self._name(bridge) for bridge in listed)}
        title = fill(self.rng.choice(kinds.titles), self.language, names)
        lines = [[self._combine(bridge).text] for bridge in listed]
        low, high = SIZES[self.language]
        goal = self.rng.uniform(low + 10, (low + high) / 1.6)
        turn = 0
        while measure("".join(map(self.phrases.page, lines)), self.language) < goal:
            about = listed[turn % len(listed)]
            lines[turn % len(lines)].append(self._state(about, self._pick(about)).text)
            turn += 1
        paragraphs = [self.rng.choice(kinds.openers), *map(self.phrases.page, lines)]
        paragraphs = self._within([p for p in paragraphs if p])
        return self._article("roundup", number, title, paragraphs, subjects=listed)

    def _article(
        self,
        kind: str,
        number: int,
        title: str,
        paragraphs: Sequence[str],
        rows: Sequence[tuple[str, str]] = (),
        subjects: Sequence[Bridge] = (),
    ) -> Article:
        """The finished page with its key and date."""
        day = _FIRST_DAY + timedelta(days=self.rng.randrange(_DAYS))
        return Article(
            key=f"{self.bridge.id}-{self.language.lower()}-{kind}-{number}",
            kind=kind,
            language=self.language,
            title=title,
            paragraphs=tuple(paragraphs),
            rows=tuple(rows),
            subjects=tuple(bridge.id for bridge in subjects or [self.bridge]),
            date=day.isoformat(),
        )

    def _prose(self, opener: str, taken: int) -> list[str]:
        """Sentences that state every known attribute, some twice, shuffled, within the size."""
        low, high = SIZES[self.language]
        goal = self.rng.uniform(low * 1.1, high * 0.8) - taken
        facts = [self._combine(self.bridge) for _ in range(self.rng.randint(1, 3))]
        stated = frozenset[str]().union(*(fact.states for fact in facts))
        facts += [self._state(self.bridge, a) for a in known(self.bridge) if a not in stated]
        size = taken + measure(opener + " ".join(f.text for f in facts), self.language)
        while size < goal + taken or size < low:
            fact = self._state(self.bridge, self._pick(self.bridge))
            if fact not in facts:
                facts.append(fact)
                size += measure(fact.text, self.language)
        self.rng.shuffle(facts)
        while size > high:
            gone = facts.pop(_most_repeated(facts))
            size -= measure(gone.text, self.language)
        return [s for s in (opener, *(fact.text for fact in facts)) if s]

    def _faq(self, opener: str) -> list[str]:
        """Question and answer paragraphs in turn."""
        low, high = SIZES[self.language]
        goal = self.rng.uniform(low * 1.5, high * 0.95)
        mark_q, mark_a = self.rng.choice(self.phrases.faq_marks)
        attributes = list(known(self.bridge))
        self.rng.shuffle(attributes)
        paragraphs = [opener] if opener else []
        size = measure(opener, self.language)
        for attribute in attributes * 3:
            wordings = self.phrases.attributes[attribute].question.web
            question = self._deal(f"web/{attribute}", wordings)
            article = self.rng.random() >= BARE_SHARE
            pair = [
                mark_q + say(question, self.bridge, self.language, article=article),
                mark_a + self._reply(attribute),
            ]
            added = sum(measure(text, self.language) for text in pair)
            if size > goal:
                break
            if size + added > high:
                continue
            paragraphs += pair
            size += added
        return paragraphs

    def _reply(self, attribute: str) -> str:
        """The answer on a FAQ page: mostly in the form that conversations use."""
        if self.rng.random() < 0.4:
            return self._state(self.bridge, attribute).text
        answers = self.phrases.attributes[attribute].answer
        template = self._deal(f"answer/{attribute}", answers)
        return say(template, self.bridge, self.language, attribute)

    def _rows(self) -> list[tuple[str, str]]:
        """The infobox."""
        attributes = list(known(self.bridge))
        self.rng.shuffle(attributes)
        rows = []
        for attribute in attributes:
            wordings = self.phrases.attributes[attribute]
            text = value(self.bridge, attribute, self.language) or ""
            rows.append((self.rng.choice(wordings.labels), wordings.cell.format(value=text)))
        return rows

    def _state(self, bridge: Bridge, attribute: str) -> _Sentence:
        """One statement; the answer forms of conversations come twice as often as others."""
        wordings = self.phrases.attributes[attribute]
        template = self._deal(attribute, wordings.statement + wordings.answer * 2)
        return _Sentence(say(template, bridge, self.language, attribute), frozenset({attribute}))

    def _combine(self, bridge: Bridge) -> _Sentence:
        """One sentence of two or more attributes, all known."""
        sayable = frozenset(known(bridge)) | {"name"}
        usable = [t for t in self.phrases.combined if placeholders(t) <= sayable]
        city_state = bridge.place[self.language] == (bridge.country or {}).get(self.language)
        if city_state:  # not 'in Singapore, Singapore'
            usable = [t for t in usable if not {"place", "country"} <= placeholders(t)]
        template = self._deal(f"combined/{sorted(sayable)}/{city_state}", usable)
        states = placeholders(template) - {"name"}
        return _Sentence(say(template, bridge, self.language), states)

    def _beside(self, other: Bridge, attribute: str) -> str:
        """A sentence on both bridges; the older or larger one is a, equal ones are only named."""
        first, second = self.bridge, other
        wordings = self.phrases.comparison[attribute]
        if attribute in ("main_span_m", "length_m", "opened"):
            numbers = [getattr(first, attribute), getattr(second, attribute)]
            if numbers[0] == numbers[1]:
                wordings = wordings[1:2]
            elif (numbers[0] > numbers[1]) == (attribute == "opened"):
                first, second = second, first
        fields = {
            "name_a": self._name(first),
            "name_b": self._name(second),
            "a": spoken_value(first, attribute, self.language) or "",
            "b": spoken_value(second, attribute, self.language) or "",
        }
        return fill(self._deal(f"beside/{attribute}", wordings), self.language, fields)

    def _paragraphs(self, sentences: Sequence[str], parts: int) -> list[str]:
        """``sentences`` dealt in order into about ``parts`` paragraphs."""
        size = max(1, -(-len(sentences) // max(1, parts)))
        chunks = [sentences[at : at + size] for at in range(0, len(sentences), size)]
        return [self.phrases.page(chunk) for chunk in chunks]

    def _within(self, texts: list[str]) -> list[str]:
        """``texts`` without the last ones that pass the largest size."""
        while measure(" ".join(texts), self.language) > SIZES[self.language][1]:
            texts = texts[:-1]
        return [text for text in texts if text]

    def _name(self, bridge: Bridge) -> str:
        """The name inside a sentence."""
        return spoken_name(bridge, self.language)

    def _pick(self, bridge: Bridge) -> str:
        """An attribute by chance."""
        return self.rng.choice(known(bridge))

    def _deal(self, key: str, wordings: Sequence[str]) -> str:
        """The next wording of a shuffled deck, which is shuffled anew when it is used up."""
        deck = self.decks.setdefault(key, [])
        if not deck:
            deck.extend(self.rng.sample(list(wordings), len(wordings)))
        return deck.pop()


def _most_repeated(facts: Sequence[_Sentence]) -> int:
    """Index of the sentence whose facts the others state most often, so least is lost."""

    def cover(index: int) -> int:
        others = [fact.states for at, fact in enumerate(facts) if at != index]
        return min(sum(state in states for states in others) for state in facts[index].states)

    return max(range(len(facts)), key=cover)
