"""Exact and near duplicates: MinHash with verified candidates (Broder 1997).

A. Broder, "On the resemblance and containment of documents", 1997: the share of equal minima of
random hash functions over two shingle sets estimates their Jaccard similarity |A∩B| / |A∪B|.
Candidates come from banding; each is checked by its true similarity before it counts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

U64 = NDArray[np.uint64]

SHINGLE = 5
"""Tokens (words, or Chinese characters) per shingle."""

_BASE = np.uint64(0x9E3779B97F4A7C15)
_SEED = 20_240_229
_BLOCK = 2048
_LARGE_BUCKET = 24


def fingerprint(text: str, size: int) -> tuple[str, bytes]:
    """(hash of all tokens in order, MinHash signature of ``size`` little-endian uint32).

    Case, punctuation and white space do not count: texts that only differ there are equal.
    """
    hashes = token_hashes(text)
    data = hashes.tobytes() if len(hashes) else text.encode("utf-8", "replace")
    exact = hashlib.sha256(data).hexdigest()[:32]
    return exact, signature(_grams(hashes), size).astype("<u4").tobytes()


def shingles(text: str) -> U64:
    """The set of hashed 5-grams of ``text``, sorted, (S,); empty for a text without a token."""
    return _grams(token_hashes(text))


def _grams(hashes: U64) -> U64:
    """The set of n-grams, n = SHINGLE or all there are, of token hashes (T,) -> (S,)."""
    if len(hashes) == 0:
        return hashes
    return np.unique(ngrams(hashes, min(SHINGLE, len(hashes))))


def ngrams(hashes: U64, n: int) -> U64:
    """The hash of each run of ``n`` tokens, in order, (T,) -> (T - n + 1,); none if T < n."""
    count = max(len(hashes) - n + 1, 0)
    grams = np.zeros(count, dtype=np.uint64)
    for offset in range(n):
        grams = _mix(grams * _BASE + hashes[offset : offset + count])
    return grams


def token_hashes(text: str) -> U64:
    """One hash per word or Chinese, Japanese, Korean character, (T,)."""
    return hashed_tokens(text)[0]


def hashed_tokens(text: str) -> tuple[U64, NDArray[np.int64]]:
    """(one hash per token, where each begins in ``text.lower()``), both (T,)."""
    points = np.frombuffer(text.lower().encode("utf-32-le", "replace"), dtype=np.uint32)
    kind = _kinds()[np.minimum(points, _TABLE - 1)]
    starts = np.flatnonzero((kind == 2) | ((kind == 1) & (np.concatenate([[0], kind[:-1]]) != 1)))
    if len(starts) == 0:
        return np.zeros(0, dtype=np.uint64), starts
    first = np.zeros(len(points), dtype=np.int64)
    first[starts] = starts
    place = np.arange(len(points)) - np.maximum.accumulate(first)
    values = _mix((points.astype(np.uint64) << np.uint64(16)) + place.astype(np.uint64))
    values[kind == 0] = 0
    return _mix(np.add.reduceat(values, starts)), starts


_TABLE = 0x20000
"""Code points with a kind of their own; all above are rare Chinese characters."""


@cache
def _kinds() -> NDArray[np.uint8]:
    """For each code point: 0 separates tokens, 1 is part of a word, 2 is a token by itself."""
    table = np.array([chr(point).isalnum() for point in range(_TABLE)], dtype=np.uint8)
    for low, high in ((0x3040, 0x30FF), (0x3400, 0x9FFF), (0xAC00, 0xD7AF), (0xF900, 0xFAFF)):
        table[low : high + 1] *= 2
    table[-1] = 2
    return table


def _mix(values: U64) -> U64:
    """A 64-bit finalizer (splitmix64): every input bit changes every output bit."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def signature(grams: U64, size: int) -> NDArray[np.uint32]:
    """MinHash signature (size,) of a shingle set (S,); all ones for an empty set."""
    keys = _keys(size)
    best = np.full(size, np.iinfo(np.uint64).max, dtype=np.uint64)
    for start in range(0, len(grams), _BLOCK):
        block = grams[start : start + _BLOCK]
        hashed = _mix((block[None, :] ^ keys[:, None]) * _BASE)  # (size, block)
        best = np.minimum(best, hashed.min(axis=1))
    return (best >> np.uint64(32)).astype(np.uint32)


@cache
def _keys(size: int) -> U64:
    """One random key per hash function, (size,)."""
    return np.random.default_rng(_SEED).integers(1, 2**63, size, dtype=np.uint64)


def jaccard(left: U64, right: U64) -> float:
    """|A∩B| / |A∪B| of two sorted sets; 0 when both are empty."""
    common = len(np.intersect1d(left, right, assume_unique=True))
    union = len(left) + len(right) - common
    return common / union if union else 0.0


def candidate_pairs(signatures: NDArray[np.uint32], bands: int, rows: int) -> list[tuple[int, int]]:
    """Pairs (i < j) that agree in all rows of a band; signatures (N, bands * rows)."""
    pairs: set[tuple[int, int]] = set()
    for band in range(bands):
        part = signatures[:, band * rows : (band + 1) * rows].astype(np.uint64)
        keys = np.zeros(len(part), dtype=np.uint64)
        for column in range(rows):
            keys = _mix(keys * _BASE + part[:, column])
        order = np.argsort(keys, kind="stable")
        borders = np.flatnonzero(np.diff(keys[order])) + 1
        for bucket in np.split(order, borders):
            if len(bucket) > 1:
                pairs.update(_pairs(bucket.tolist()))
    return sorted(pairs)


def _pairs(bucket: list[int]) -> Iterator[tuple[int, int]]:
    """All pairs of a small bucket; of a large one, each member with the first and the nearest.

    The first members rank best: in a crowd of likes they are the ones that are kept.
    """
    for place, right in enumerate(bucket):
        if place <= _LARGE_BUCKET:
            near = bucket[:place]
        else:
            near = [*bucket[: _LARGE_BUCKET // 2], *bucket[place - _LARGE_BUCKET // 2 : place]]
        yield from ((left, right) for left in near)


def near_duplicates(
    signatures: NDArray[np.uint32],
    order: Sequence[int],
    shingles_of: Callable[[int], U64],
    *,
    bands: int,
    rows: int,
    threshold: float,
) -> dict[int, tuple[int, float]]:
    """Redundant documents -> (the kept document they repeat, their similarity).

    ``order`` ranks documents, best to keep first: each is kept unless it is similar to one kept
    before.  So every redundant document has a kept one truly like it, which the transitive groups
    of a union-find do not promise: there a chain of small changes swallows unlike documents.
    """
    ranked = signatures[np.asarray(order, dtype=np.int64)]
    better: dict[int, list[int]] = {}
    for left, right in candidate_pairs(ranked, bands, rows):
        better.setdefault(right, []).append(left)
    kept: set[int] = set()
    redundant: dict[int, tuple[int, float]] = {}
    for rank, document in enumerate(order):
        mine = shingles_of(document) if rank in better else None
        best, value = -1, 0.0
        for other in better.get(rank, ()):
            if mine is None or other not in kept:
                continue
            similarity = jaccard(mine, shingles_of(order[other]))
            if similarity > value:
                best, value = other, similarity
        if value >= threshold:
            redundant[document] = (order[best], value)
        else:
            kept.add(rank)
    return redundant
