"""A text in, the terms that say something out: without what only builds a sentence or asks.

English stop words are no terms at all; this leaves out Chinese ones, which are part of n-grams.
"""

from __future__ import annotations

from fledge.index.terms import terms

EMPTY = frozenset("的地得是者了在和与于之也就都而及或为被把由从其它他她这那即并且所以则")
"""Chinese characters that say nothing by themselves; terms are in Simplified characters."""
ASKING = frozenset("什么甚谁哪何吗呢几怎样请问多少")
"""Those that make a question."""

ASKING_WORDS = frozenset(("mani", "much", "often", "tell", "explain", "describ", "pleas"))
"""English stems that do: "how many", "tell me"."""


def telling(text: str) -> list[str]:
    """The terms of a claim that say something."""
    return [term for term in terms(text) if not EMPTY & set(term)]


def asked_for(question: str) -> list[str]:
    """The terms of a question that say what it is about; all of them if none does."""
    found = terms(question)
    silent = EMPTY | ASKING
    kept = [term for term in found if term not in ASKING_WORDS and not silent & set(term)]
    return kept or found
