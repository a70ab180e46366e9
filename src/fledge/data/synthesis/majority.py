"""Answers that end in a result in; the result of the majority out (self-consistency).

X. Wang et al., arXiv:2203.11171, section 2: of several ways of reasoning the most frequent final
answer.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from fledge.metrics.answers import normalise

_FINAL = re.compile(r"^\W*(?:answer|答案)\s*[:：]\s*(.+)$", re.IGNORECASE | re.MULTILINE)


def final_answer(text: str) -> str:
    """What stands in the last line "Answer: …", made comparable; empty when there is none."""
    found = _FINAL.findall(text)
    return normalise(found[-1]) if found else ""


def majority(results: Sequence[str]) -> tuple[str, float]:
    """(most frequent result, its share of all); the first of several, empty ones do not count."""
    counts = Counter(result for result in results if result)
    if not counts:
        return "", 0.0
    winner, votes = counts.most_common(1)[0]
    return winner, votes / len(results)
