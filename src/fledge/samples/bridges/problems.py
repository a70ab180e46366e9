"""Calculations about bridges: bridges and a seed in, exact problems and their words out."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from typing import Any

from fledge.samples.bridges.chrome import word_table
from fledge.samples.bridges.facts import Bridge, say, spoken_name, value
from fledge.samples.bridges.phrases import fill, load_phrases, placeholders

GIVEN = (
    "given_gap", "given_age", "given_later", "given_span", "given_sum", "given_ratio",
    "given_kilometres",
)  # fmt: skip
"""Kinds whose question tells its numbers: arithmetic apart from memory."""

REMEMBERED = ("opened_gap", "span_gap", "age", "length_gap")
"""Kinds whose numbers the model has to know."""

SHORTEST = 3
"""Sentences, the shortest of an attribute, in which facts are recalled: a context is short."""

_NUMBERS = {
    "opened_gap": "opened", "span_gap": "main_span_m", "length_gap": "length_m",
    "given_gap": "opened", "given_span": "main_span_m", "given_sum": "length_m",
    "given_ratio": "length_m",
}  # fmt: skip
_SIGNS = {"given_later": "+", "given_sum": "+", "given_ratio": "/", "given_kilometres": "/"}


@dataclass(frozen=True, kw_only=True)
class Problem:
    """``a`` and ``b`` joined by the sign of ``key``; ``upper`` is the bridge of ``a``."""

    key: str
    """one of ``GIVEN`` or ``REMEMBERED``"""
    upper: Bridge | None
    """None where ``a`` is a year to count to, or a number of the one bridge"""
    lower: Bridge
    a: int
    b: int
    result: str = field(init=False)
    """exact, without exponent or trailing zeros"""

    def __post_init__(self) -> None:
        object.__setattr__(self, "result", _computed(self.a, self.sign, self.b))

    @property
    def sign(self) -> str:
        return _SIGNS.get(self.key, "-")

    @property
    def expression(self) -> str:
        """As people write it."""
        return f"{self.a} {self.sign} {self.b}"

    def call(self, wording: str) -> str:
        """What a calculator is given when the question has this ``wording``.

        Numbers come in the order of the question and a difference is taken without its sign: a
        small model copies well and compares ill.
        """
        if self.sign == "/":
            return self.expression
        first, second = sorted(("a", "b"), key=lambda key: _place(wording, key))
        told = f"{getattr(self, first)} {self.sign} {getattr(self, second)}"
        return f"abs({told})" if self.sign == "-" else told

    @property
    def given(self) -> bool:
        """Whether the question tells the numbers."""
        return self.key in GIVEN

    @property
    def bridge_ids(self) -> str:
        """Ids of its bridges, joined by '+'."""
        return "+".join(bridge.id for bridge in (self.upper, self.lower) if bridge)

    def wordings(self, who: str, language: str) -> tuple[str, ...]:
        """Wordings of the question for ``who``: "sft", "rl" or "eval".

        Where the model has to know the numbers, "rl" has no wordings of its own.
        """
        if self.given:
            return tuple(given_words(language)[self.key][who])
        who = "sft" if who == "rl" else who
        return tuple(getattr(load_phrases(language).calculations[self.key], who))

    def ask(self, wording: str, language: str) -> str:
        """The question in words."""
        fields = self._fields(language)
        return fill(wording, language, {key: fields[key] for key in placeholders(wording)})

    def recalled(self, wording: str, language: str, rng: random.Random) -> str:
        """The facts to be known, in sentences that answer questions about them alone and in the
        order in which the question names the bridges; empty where it tells the numbers.

        Two facts in a row are beyond a small model's single step; stated, each is one.
        """
        if self.given:
            return ""
        attribute = _NUMBERS.get(self.key, "opened")
        told = sorted(load_phrases(language).attributes[attribute].answer, key=len)[:SHORTEST]
        named = {"a": self.upper, "b": self.lower}
        order = sorted(named, key=lambda key: _place(wording, key))
        bridges = [bridge for key in order if (bridge := named[key])]
        said = [say(rng.choice(told), bridge, language, attribute) for bridge in bridges]
        return (" " if language == "en" else "").join(said)

    def answer(self, language: str, rng: random.Random) -> str:
        """A short sentence with the result."""
        key = self.key if self.given else _ANSWERED_AS[self.key]
        wording = rng.choice(given_words(language)[key]["answer"])
        return fill(wording, language, {"d": self.result})

    def worked(self, language: str, rng: random.Random) -> str:
        """An answer that shows its working."""
        if not self.given:
            wording = rng.choice(load_phrases(language).calculations[self.key].answer)
            return fill(wording, language, self._fields(language))
        end = " " if language == "en" else ""
        mark = "." if language == "en" else "。"
        return f"{self.expression} = {self.result}{mark}{end}{self.answer(language, rng)}"

    def _fields(self, language: str) -> dict[str, str]:
        fields = {"a": str(self.a), "b": str(self.b), "d": self.result}
        fields["name_b"] = spoken_name(self.lower, language)
        if self.upper:
            fields["name_a"] = spoken_name(self.upper, language)
        return fields


def _place(wording: str, key: str) -> int:
    """Where a wording tells a number, or else names the bridge whose number it is."""
    told = wording.find(f"{{{key}}}")
    return told if told >= 0 else wording.find(f"{{name_{key}}}")


_ANSWERED_AS = {
    "opened_gap": "given_gap", "span_gap": "given_span", "length_gap": "given_span",
    "age": "given_age",
}  # fmt: skip


@cache
def given_words(language: str) -> Mapping[str, Any]:
    """The wordings of ``words/calculations.toml`` in one language, checked.

    Raises ValueError naming the kind that says what it must not, or leaves out what it must.
    """
    table = word_table("calculations")[language]
    for key in GIVEN:
        needed = {"a", "name_b"} if key == "given_kilometres" else {"a", "b", "name_b"}
        needed |= {"name_a"} if key in _NUMBERS else set()
        for wording in (*table[key]["sft"], *table[key]["rl"], *table[key]["eval"]):
            if placeholders(wording) != needed:
                raise ValueError(f"calculations.toml: {key} {wording!r} wants {sorted(needed)}")
        for wording in table[key]["answer"]:
            if placeholders(wording) != {"d"}:
                raise ValueError(f"calculations.toml: {key} {wording!r} wants d alone")
    return dict(table)


def draw_problem(
    bridge: Bridge,
    others: Sequence[Bridge],
    number: int,
    rng: random.Random,
    kinds: Sequence[str] = REMEMBERED,
) -> Problem | None:
    """The ``number``-th of ``kinds`` about ``bridge``; None where its numbers are unknown."""
    turn = number % len(kinds)
    for key in (*kinds[turn:], *kinds[:turn]):
        found = _alone(key, bridge, rng) or _between(key, bridge, others, rng)
        if found is not None:
            return found
    return None


def _alone(key: str, bridge: Bridge, rng: random.Random) -> Problem | None:
    """A problem about one bridge."""
    if key in ("age", "given_age") and _recent(bridge):
        year = rng.randrange(max(1900, _whole(bridge, "opened") + 5), 2026)
        return Problem(key=key, upper=None, lower=bridge, a=year, b=_whole(bridge, "opened"))
    if key == "given_later" and _recent(bridge):
        years = rng.randrange(5, 180)
        return Problem(key=key, upper=None, lower=bridge, a=_whole(bridge, "opened"), b=years)
    if key == "given_kilometres" and _usable(bridge, "length_m"):
        return Problem(key=key, upper=None, lower=bridge, a=_whole(bridge, "length_m"), b=1000)
    return None


def _between(
    key: str, bridge: Bridge, others: Sequence[Bridge], rng: random.Random
) -> Problem | None:
    """A problem about two bridges."""
    if key not in _NUMBERS:
        return None
    attribute = _NUMBERS[key]
    partners = [other for other in others if _comparable(bridge, other, attribute)]
    if key == "given_ratio":
        partners = [other for other in partners if _short_ratio(bridge, other, attribute)]
    if not partners:
        return None
    low, high = sorted((bridge, rng.choice(partners)), key=lambda b: _whole(b, attribute))
    return Problem(
        key=key, upper=high, lower=low, a=_whole(high, attribute), b=_whole(low, attribute)
    )


def _short_ratio(one: Bridge, two: Bridge, attribute: str) -> bool:
    """Whether the quotient is exact with three decimals at most."""
    small, large = sorted((_whole(one, attribute), _whole(two, attribute)))
    return large * 1000 % small == 0


def _recent(bridge: Bridge) -> bool:
    return bridge.opened is not None and 1000 < bridge.opened < 2010


def _usable(bridge: Bridge, attribute: str) -> bool:
    """Whether the number is known, whole, positive and below 10,000."""
    text = value(bridge, attribute, "en")
    return text is not None and text.isdigit() and len(text) <= 4


def _comparable(one: Bridge, two: Bridge, attribute: str) -> bool:
    """Whether both numbers are usable and different."""
    usable = _usable(one, attribute) and _usable(two, attribute)
    return one.id != two.id and usable and _whole(one, attribute) != _whole(two, attribute)


def _whole(bridge: Bridge, attribute: str) -> int:
    """A number that is known to be whole."""
    return int(getattr(bridge, attribute))


def _computed(a: int, sign: str, b: int) -> str:
    """The exact value as people write it."""
    if sign == "+":
        return str(a + b)
    if sign == "-":
        return str(a - b)
    text = f"{Decimal(a) / Decimal(b):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
