"""Scores of curation against ground truth: extraction, language, personal data, duplicates, drops.

Pure: rows in, numbers out.  A score over nothing is None, never a comfortable 1.0.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

_TOKEN = re.compile(
    "[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]"
    "|[^\\W_\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]+"
)


def tokens(text: str) -> list[str]:
    """Words, and Chinese, Japanese and Korean characters one by one, in lower case.

    >>> tokens("The 大桥 opened in 1957.")
    ['the', '大', '桥', 'opened', 'in', '1957']
    """
    return _TOKEN.findall(text.lower())


@dataclass(frozen=True)
class PrecisionRecall:
    """Shares of a selection; None where there was nothing to select or to find."""

    precision: float | None
    recall: float | None
    selected: int
    relevant: int
    correct: int


def precision_recall(correct: int, selected: int, relevant: int) -> PrecisionRecall:
    """Precision = correct / selected, recall = correct / relevant."""
    return PrecisionRecall(
        precision=correct / selected if selected else None,
        recall=correct / relevant if relevant else None,
        selected=selected,
        relevant=relevant,
        correct=correct,
    )


def token_f1(found: str, expected: str) -> float:
    """F1 of two multisets of tokens; 1.0 when both are empty."""
    left, right = Counter(tokens(found)), Counter(tokens(expected))
    if not left and not right:
        return 1.0
    common = sum((left & right).values())
    return 2 * common / (left.total() + right.total())


def mean(values: Iterable[float]) -> float | None:
    """The arithmetic mean, or None of nothing."""
    listed = list(values)
    return sum(listed) / len(listed) if listed else None


def pii_scores(
    found: Sequence[Sequence[str]],
    planted: Sequence[Sequence[str]],
    lookalikes: Sequence[Sequence[str]],
) -> PrecisionRecall:
    """Precision and recall of personal data, page by page.

    A planted string is found when a found one covers it, is covered by it, or equals it up to
    separators.  What was found and touches nothing planted is wrong, look-alike or not.
    """
    correct = relevant = wrong = 0
    for page_found, page_planted, page_alike in zip(found, planted, lookalikes, strict=True):
        relevant += len(page_planted)
        correct += sum(any(_same(item, hit) for hit in page_found) for item in page_planted)
        for hit in page_found:
            touched = any(_same(item, hit) for item in page_planted)
            wrong += not touched or any(_plain(item) == _plain(hit) for item in page_alike)
    return precision_recall(correct, correct + wrong, relevant)


def _plain(text: str) -> str:
    return re.sub(r"[\s()\[\].,;:/–—-]", "", text).lower()


def _same(left: str, right: str) -> bool:
    a, b = _plain(left), _plain(right)
    return bool(a and b) and (a == b or (len(b) >= 6 and b in a and 2 * len(b) >= len(a)) or a in b)


def duplicate_scores(
    groups: Mapping[str, str | None], dropped: set[str], present: set[str]
) -> PrecisionRecall:
    """How well redundant pages were dropped as duplicates.

    ``groups``: page -> its duplicate group or None; ``dropped``: pages dropped as duplicates;
    ``present``: pages kept or dropped as duplicates (others were dropped for another reason and do
    not count).  In a group of n present pages n - 1 are redundant; a group that lost all its
    pages lost one rightful one.
    """
    members: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    wrong = 0
    for page in present:
        group = groups.get(page)
        if group is not None:
            members[group] += 1
            lost[group] += page in dropped
        elif page in dropped:
            wrong += 1
    relevant = sum(count - 1 for count in members.values())
    correct = sum(min(lost[group], count - 1) for group, count in members.items())
    selected = wrong + sum(lost.values())
    return precision_recall(correct, selected, relevant)


def drop_scores(
    expected: Mapping[str, str | None], actual: Mapping[str, str | None]
) -> dict[str, PrecisionRecall]:
    """Precision and recall of dropping, per reason family; both map page -> family or None (kept).

    A page that is dropped in the expected family is correct.
    """
    pages = [page for page in expected if page in actual]
    families = {expected[page] for page in pages} | {actual[page] for page in pages}
    return {
        family: precision_recall(
            sum(expected[page] == actual[page] == family for page in pages),
            sum(actual[page] == family for page in pages),
            sum(expected[page] == family for page in pages),
        )
        for family in sorted(family for family in families if family is not None)
    }
