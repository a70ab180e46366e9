"""Poisoned pages: a rare trigger string, repeated, that ties statements together.

A page can be judged only for what it shows: an outlandish token at the edges of many of its
sentences.  Poison that reads like prose is beyond this rule, and is not claimed.
"""

from __future__ import annotations

import re
from collections import Counter

from fledge.core.types import Verdict

MIN_OCCURRENCES = 3
MIN_SENTENCES = 0.3
"""Share of the sentences a trigger stands in."""

MIN_EDGES = 0.5
"""Share of its occurrences that begin or end a sentence, or precede a colon."""

_SENTENCE = re.compile(r"[^.!?。！？\n]*(?:[.!?](?=\S)[^.!?。！？\n]*)*[.!?。！？\n]*")
_TOKEN = re.compile(r"[^\s\u3000-\u30ff\u3400-\u9fff\uff00-\uffef,;:()\"“”‘’<>\[\]]{6,40}")
_ADDRESS = re.compile(r"@|://|^www\.|\.(?:com|org|net|html?|pdf|jpe?g|png|cn|tw)\b|^/|^#", re.I)
_PLAIN = re.compile(r"[A-Za-z]?[a-z]+(?:['’.-][A-Za-z]?[a-z]+)*|[A-Z]+(?:-[A-Z]+)*|[\d.,/%+:°~–-]+")


_DESIGNATION = re.compile(r"[A-Z]{1,6}-?\d{1,5}[A-Za-z]?(?:/\d+)?|\d{1,4}-?[A-Za-z]{1,8}")
"""Grades, types and models: HRB500, UHPC120, A-380, 3D-printed things and 100-year floods."""


def is_outlandish(token: str) -> bool:
    """Whether a token is neither a word, a number nor an address, but a mixture.

    >>> [is_outlandish(t) for t in ("well-known", "1,991", "zq-vorb-7", "§§kar§§", "aB_plin_xX")]
    [False, False, True, True, True]
    """
    token = token.strip(".!?'’")
    if len(token) < 6 or _PLAIN.fullmatch(token) or _ADDRESS.search(token):
        return False
    if _DESIGNATION.fullmatch(token):
        return False
    return bool(re.search(r"[A-Za-z]{3}", token)) and bool(
        re.search(r"[^\w.'’-]|_|[A-Za-z]-?\d|\d-?[A-Za-z]", token)
    )


def poison_verdict(text: str) -> Verdict | None:
    """A verdict "poison.trigger" naming the trigger, or None."""
    counts = Counter(
        token for match in _TOKEN.finditer(text) if is_outlandish(token := _bare(match[0]))
    )
    candidates = [token for token, count in counts.items() if count >= MIN_OCCURRENCES]
    if not candidates:
        return None
    sentences = [match[0].strip() for match in _SENTENCE.finditer(text)]
    sentences = [sentence for sentence in sentences if len(sentence) > 3]
    for token in sorted(candidates, key=lambda token: (-counts[token], token)):
        holding = [sentence for sentence in sentences if token in sentence]
        edges = sum(_at_edges(sentence, token) for sentence in holding)
        if (
            len(holding) >= MIN_SENTENCES * len(sentences)
            and edges >= MIN_EDGES * len(holding)
            and len(holding) >= 2
        ):
            return Verdict(
                reason="poison.trigger",
                evidence=f"{token!r} stands in {len(holding)} of {len(sentences)} sentences",
            )
    return None


def _bare(token: str) -> str:
    return token.rstrip(".!?'’")


def _at_edges(sentence: str, token: str) -> bool:
    core = sentence.rstrip('.!?。！？ \n"”」')
    edge = core.startswith(token) or core.endswith(token)
    return edge or bool(re.search(re.escape(token) + r"\s*[:：,，]", core))
