"""Weighted phrase rules, made quick: a rule is tried only where one of its anchors stands."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Rule:
    """A pattern over lower-case text.

    Whatever the pattern matches contains at least one of ``anchors``; a plain substring search is
    far cheaper than a regular expression, and most texts hold no anchor at all.
    """

    family: str
    weight: float
    anchors: tuple[str, ...]
    pattern: re.Pattern[str]


def rule(family: str, weight: float, anchors: str, pattern: str) -> Rule:
    """A rule; ``anchors`` are separated by ``|``."""
    return Rule(family, weight, tuple(anchors.split("|")), re.compile(pattern, re.MULTILINE))


def matches(rules: Iterable[Rule], text: str) -> Iterator[tuple[Rule, set[str]]]:
    """Each rule that matches ``text``, with the different phrases it matched."""
    lowered = text.lower()
    present: dict[str, bool] = {}
    for item in rules:
        for anchor in item.anchors:
            if anchor not in present:
                present[anchor] = anchor in lowered
        if any(present[anchor] for anchor in item.anchors):
            found = {match[0] for match in item.pattern.finditer(lowered)}
            if found:
                yield item, found
