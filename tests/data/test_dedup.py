"""MinHash duplicates: the estimate, the verification, what is kept."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from web_pages import prose

from fledge.data.dedup import (
    candidate_pairs,
    fingerprint,
    jaccard,
    near_duplicates,
    shingles,
    signature,
    token_hashes,
)
from fledge.metrics.curation import tokens

WORDS = st.lists(
    st.sampled_from(("alpha", "beta", "gamma", "桥", "梁", "1957", "été")), max_size=40
)


@given(WORDS, WORDS)
def test_jaccard_equals_that_of_token_ngrams(left: list[str], right: list[str]) -> None:
    def grams(words: list[str]) -> set[tuple[str, ...]]:
        n = min(5, len(words))
        return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)} if words else set()

    a, b = " ".join(left), " ".join(right)
    x, y = grams(tokens(a)), grams(tokens(b))
    expected = len(x & y) / len(x | y) if x | y else 0.0
    assert jaccard(shingles(a), shingles(b)) == expected


@given(st.text(max_size=200))
def test_tokens_are_hashed_one_by_one(text: str) -> None:
    hashes = token_hashes(text)
    assert len(np.unique(hashes)) <= len(hashes)
    assert np.array_equal(token_hashes(f"  {text}\n"), hashes)


def test_exact_hash_ignores_case_space_and_punctuation_only() -> None:
    base = fingerprint("The bridge, built in 1957.", 8)[0]
    assert fingerprint("the  bridge built (in 1957)", 8)[0] == base
    assert fingerprint("The bridge, built in 1958.", 8)[0] != base
    assert fingerprint("built The bridge in 1957", 8)[0] != base
    assert fingerprint("!!!", 8)[0] != fingerprint("???", 8)[0]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(0, 60))
def test_signatures_estimate_jaccard(seed: int, changed: int) -> None:
    rng = np.random.default_rng(seed)
    left = np.unique(rng.integers(0, 2**63, 300, dtype=np.uint64))
    right = left.copy()
    right[:changed] = rng.integers(0, 2**63, changed, dtype=np.uint64)
    right = np.unique(right)
    estimate = (signature(left, 2000) == signature(right, 2000)).mean()
    assert abs(estimate - jaccard(left, right)) < 0.06


def find(texts: list[str], threshold: float = 0.65) -> dict[int, int]:
    sets = [shingles(text) for text in texts]
    signatures = np.stack([signature(s, 150) for s in sets])
    order = sorted(range(len(texts)), key=lambda i: (-len(texts[i]), i))
    found = near_duplicates(
        signatures, order, lambda i: sets[i], bands=30, rows=5, threshold=threshold
    )
    return {document: kept for document, (kept, _) in found.items()}


def test_near_duplicates_point_at_the_longest() -> None:
    base = prose(1, 20)
    texts = [prose(2, 20), base, base.replace("granite", "marble", 1), base + " Updated in May."]
    assert find(texts) == {1: 3, 2: 3}


def test_unlike_candidates_are_not_joined() -> None:
    """Everything lands in one bucket (one row per band), and still only likes are joined."""
    sets = [shingles(prose(seed, 20)) for seed in range(12)]
    signatures = np.zeros((12, 4), dtype=np.uint32)
    assert len(candidate_pairs(signatures, 4, 1)) == 66
    found = near_duplicates(
        signatures, range(12), lambda i: sets[i], bands=4, rows=1, threshold=0.5
    )
    assert found == {}


def test_a_chain_of_changes_does_not_swallow_its_far_end() -> None:
    words = prose(5, 30).split()
    chain = [" ".join(words[40 * i : 40 * i + 200]) for i in range(6)]
    kept = set(range(6)) - set(find(chain, 0.6))
    assert len(kept) >= 2
    for document, other in find(chain, 0.6).items():
        assert other in kept
        assert jaccard(shingles(chain[document]), shingles(chain[other])) >= 0.6


def test_a_crowd_of_equals_keeps_one() -> None:
    texts = [prose(7, 20) + f" Copy {i}." for i in range(120)]
    assert len(find(texts)) == 119
