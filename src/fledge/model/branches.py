"""Segments that continue others in, where their heads' rows stand side by side out.

Rows of a batch hold segments end to end.  A *root* continues none; a *leaf* goes on from a root,
as if all of that stood before its own tokens: an answer from its prompt.

Letters: B batch, T time, N = B*T, H heads, K kv-heads; R roots of P tokens, the first S of which
have L leaves of A tokens each, the longest and the most there are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fledge.model.block_attention import EXPLICIT_TOKENS, score_bias

Numbers = NDArray[np.int64]


class Rows(NamedTuple):
    """Which row of another matrix each row is copied from."""

    sources: Tensor
    """(M) int64; 0 where it is copied from none."""
    empty: Tensor
    """int64: the rows that are copied from none."""

    def of(self, x: Tensor) -> Tensor:
        """x (N,d) -> (M,d), zeros where nothing is copied."""
        found = x.index_select(0, self.sources)
        return found.index_fill_(0, self.empty, 0.0) if len(self.empty) else found


class Part(NamedTuple):
    """Blocks of one shape: all the roots, (R), or all the leaves, (S,L)."""

    queries: Rows
    """(blocks*H*length) of N*H"""
    keys: Rows
    """(blocks*K*seen) of N*K"""
    blocks: int
    length: int
    """Queries of a block."""
    seen: int
    """Keys of a block."""
    mask: Tensor
    """(1 or S,1,length,seen): as of ``attend``, a bias where that is added."""


@dataclass(frozen=True)
class Branches:
    """A batch laid out for attention."""

    parts: list[Part]
    """Roots, and leaves where there are any."""
    query_slots: Rows
    """(N*H) of the parts' queries: the way back."""
    key_slots: Rows
    """(N*K) of the parts' keys, a leaf's own only."""
    positions: Tensor
    """(B,T) int64: of each token, a leaf's behind its root's."""
    root_lengths: Tensor
    """(S) int64: of the roots that have leaves."""

    @property
    def longest(self) -> int:
        """The most keys that a token may see."""
        return max(part.seen for part in self.parts)

    def within(self, window: int | None) -> Branches:
        """The same where a token sees ``window`` tokens at most, itself among them."""
        P = self.parts[0].seen
        root = torch.arange(P, device=self.positions.device)
        masks = [_near(root, root, window)[None]]
        if len(self.parts) > 1:
            leaf = torch.arange(self.parts[1].length, device=root.device)
            there = (root < self.root_lengths[:, None])[:, None]  # (S,1,P)
            behind = self.root_lengths[:, None] + leaf  # (S,A)
            seen = _near(behind, root, window) & there
            own = _near(leaf, leaf, window).expand(len(seen), -1, -1)
            masks.append(torch.cat((seen, own), -1))
        if root.device.type == "cpu" and self.longest <= EXPLICIT_TOKENS:
            masks = [score_bias(mask) for mask in masks]
        parts = [
            part._replace(mask=mask.unsqueeze(1))
            for part, mask in zip(self.parts, masks, strict=True)
        ]
        return replace(self, parts=parts)


def find_branches(segments: Tensor, continues: Tensor, heads: int, kv_heads: int) -> Branches:
    """How the segments of rows branch: both (B,T) int, -1 for padding and for "continues none".

    A segment lies in one piece; what it continues is a root of the batch.
    """
    roots, families = _families(segments.cpu().numpy(), continues.cpu().numpy())
    S, L = len(families), max(map(len, families), default=0)
    positions: Numbers = np.zeros(segments.numel(), np.int64)
    root_slots = _filled((len(roots), _longest(roots)))
    leaf_slots = _filled((S, L, _longest([leaf for family in families for leaf in family])))
    for root, run in enumerate(roots):
        root_slots[root, : run.length] = run.tokens
        positions[run.tokens] = np.arange(run.length)
    for root, family in enumerate(families):
        for leaf, run in enumerate(family):
            leaf_slots[root, leaf, : run.length] = run.tokens
            positions[run.tokens] = roots[root].length + np.arange(run.length)
    slots = [(root_slots, root_slots, root_slots)]
    if S:
        prompts = np.broadcast_to(root_slots[:S, None], (S, L, root_slots.shape[1]))
        seen = np.concatenate((prompts, leaf_slots), -1)
        own = np.concatenate((np.full_like(prompts, -1), leaf_slots), -1)
        slots.append((leaf_slots, seen, own))
    device = segments.device
    parts = [
        Part(
            queries=_rows(_of_heads(queries, heads), device),
            keys=_rows(_of_heads(keys, kv_heads), device),
            blocks=queries[..., 0].size,
            length=queries.shape[-1],
            seen=keys.shape[-1],
            mask=torch.empty(0, device=device),
        )
        for queries, keys, _ in slots
    ]
    queries = np.concatenate([_of_heads(queries, heads) for queries, _, _ in slots])
    keys = np.concatenate([_of_heads(own, kv_heads) for _, _, own in slots])
    lengths = [root.length for root in roots[:S]]
    return Branches(
        parts=parts,
        query_slots=_rows(_inverse(queries, segments.numel() * heads), device),
        key_slots=_rows(_inverse(keys, segments.numel() * kv_heads), device),
        positions=torch.from_numpy(positions).to(device).view(segments.shape),
        root_lengths=torch.tensor(lengths, dtype=torch.int64, device=device),
    )


class _Run(NamedTuple):
    """A segment: the tokens ``start`` to ``stop`` of all rows end to end."""

    start: int
    stop: int
    segment: int
    continues: int

    @property
    def length(self) -> int:
        return self.stop - self.start

    @property
    def tokens(self) -> Numbers:
        return np.arange(self.start, self.stop)


def _families(
    segments: NDArray[Any], continues: NDArray[Any]
) -> tuple[list[_Run], list[list[_Run]]]:
    """The roots, those with leaves first, and the leaves of each that has some."""
    (B, T), flat, beyond = segments.shape, segments.ravel(), continues.ravel()
    changes = np.flatnonzero((flat[1:] != flat[:-1]) | (np.arange(1, B * T) % T == 0)) + 1
    edges = [0, *changes.tolist(), B * T]
    roots: list[_Run] = []
    below: dict[int, list[_Run]] = {}
    for start, stop in pairwise(edges):
        run = _Run(start, stop, int(flat[start]), int(beyond[start]))
        if run.segment >= 0 and run.continues >= 0:
            below.setdefault(run.continues, []).append(run)
        elif run.segment >= 0:
            roots.append(run)
    roots.sort(key=lambda run: run.segment not in below)
    return roots, [below[root.segment] for root in roots[: len(below)]]


def _longest(runs: list[_Run]) -> int:
    return max((run.length for run in runs), default=0)


def _filled(shape: tuple[int, ...]) -> Numbers:
    return np.full(shape, -1, np.int64)


def _of_heads(slots: Numbers, heads: int) -> Numbers:
    """The rows of each head: slots (...,A) of tokens -> (...*heads*A), -1 where there is none."""
    rows = slots[..., None, :] * heads + np.arange(heads)[:, None]
    return np.where(slots[..., None, :] < 0, -1, rows).ravel()


def _inverse(rows: Numbers, size: int) -> Numbers:
    """Where each of ``size`` rows went, -1 for those that went nowhere."""
    back = _filled((size,))
    taken = np.flatnonzero(rows >= 0)
    back[rows[taken]] = taken
    return back


def _rows(index: Numbers, device: torch.device) -> Rows:
    empty = torch.from_numpy(np.flatnonzero(index < 0))
    return Rows(torch.from_numpy(index.clip(0)).to(device), empty.to(device))


def _near(queries: Tensor, keys: Tensor, window: int | None) -> Tensor:
    """Whether positions may see positions: (...,A) and (S) -> (...,A,S)"""
    distance = queries[..., None] - keys
    return (distance >= 0) if window is None else (distance >= 0) & (distance < window)
