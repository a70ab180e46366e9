"""A question and the passages found for it in, measures of whether they answer it out.

No model judges here: the measures are cheap, and a tiny logistic model (support.py) weighs them.
They see whether the words of the question stand together somewhere, not whether a plausible
answer is the right one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from fledge.index.terms import terms
from fledge.rag.cues import kind_of, new_values
from fledge.rag.parts import parts
from fledge.rag.rarity import coverage

LOOKED_AT = 5
"""Passages that are measured."""
FEATURES = (
    "passage", "sentence", "pair", "rest", "order", "rarest", "second_rarest", "cue", "spread",
    "unknown",
)  # fmt: skip
DENSE_FEATURES = ("cosine",)
AGAINST = frozenset({"spread", "unknown"})
"""Measures that speak against an answer; all others speak for one."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A passage as it is measured; ``dense`` is its cosine, where the embedder was used."""

    text: str
    dense: float | None = None


def measure(
    question: str, rarity: Mapping[str, float], passages: Sequence[Seen]
) -> dict[str, float]:
    """The features by name, each about 0 to 1; those of the embedder only when it was used.

    passage, sentence, pair: the share of the question (weighted by rarity) in the best passage,
    sentence, two neighbouring sentences.  rest: the same share when the rarest third is left out.
    order: pairs of neighbouring terms of the question that are neighbours in a passage.  rarest,
    second_rarest: whether the best pair holds these terms.  spread: what all passages together
    hold beyond the best one.  cue: whether the best pair holds a value of the kind that is asked
    for and not in the question.  unknown: the share of the question nowhere found.

    BM25's margin over the second hit would tell more on public sets, whose questions were written
    for one passage; in documents that say a thing twice it would tell the opposite.
    """
    passages = passages[:LOOKED_AT]
    asked = terms(question)
    if not passages or not rarity:
        return dict.fromkeys(FEATURES, 0.0) | {"unknown": 1.0}
    bags = [{term for part in parts(one.text) for term in part.terms} for one in passages]
    best, best_text, sentence = _best_pair(rarity, passages)
    whole = [coverage(rarity, bag) for bag in bags]
    ranked = sorted(rarity, key=lambda term: -rarity[term])
    common = {term: rarity[term] for term in ranked[len(ranked) // 3 :]}
    together = set().union(*bags)
    kind = kind_of(question)
    found = {
        "passage": max(whole),
        "sentence": sentence,
        "pair": coverage(rarity, best),
        "rest": coverage(common, best),
        "order": max(_order(asked, one.text) for one in passages),
        "rarest": float(ranked[0] in best),
        "second_rarest": float(ranked[min(1, len(ranked) - 1)] in best),
        "spread": coverage(rarity, together) - max(whole),
        "cue": 0.5 if kind == "other" else float(bool(new_values(kind, question, best_text))),
        "unknown": 1.0 - coverage(rarity, together),
    }
    near = sorted((one.dense for one in passages if one.dense is not None), reverse=True)
    if near:
        found["cosine"] = near[0]
    return found


def _best_pair(
    rarity: Mapping[str, float], passages: Sequence[Seen]
) -> tuple[set[str], str, float]:
    """Terms and text of the two neighbouring sentences that hold most; the best one's share."""
    best, best_text, best_share, single = set[str](), "", -1.0, 0.0
    for one in passages:
        split = parts(one.text)
        bags = [set(part.terms) for part in split]
        single = max([single, *(coverage(rarity, bag) for bag in bags)])
        for i, bag in enumerate(bags):
            last = min(i + 1, len(bags) - 1)
            both = bag | bags[last]
            share = coverage(rarity, both)
            if share > best_share:
                text = one.text[split[i].start : split[last].end]
                best, best_text, best_share = both, text, share
    return best, best_text, single


def _order(asked: Sequence[str], text: str) -> float:
    pairs = set(pairwise(asked))
    held = {pair for part in parts(text) for pair in pairwise(part.terms)}
    if len(asked) == 1:  # one term has no order: it is there or not
        return float(any(asked[0] in part.terms for part in parts(text)))
    return len(pairs & held) / len(pairs) if pairs else 0.0
