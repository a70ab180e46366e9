"""A scheduler with a runner that remembers what it wrote, and everything that must hold."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from random import Random

from fledge.engine.scheduler import Scheduler
from fledge.engine.step import Piece, Step


def extend(chain: list[int], scope: tuple[str, ...], tokens: list[int]) -> list[int]:
    """What a position holds depends on all tokens up to it and on the scope, like real values."""
    chain = list(chain)
    for token in tokens:
        chain.append(hash((chain[-1] if chain else scope, token)))
    return chain


class Memory:
    """A runner: the "value" of a position is a hash of what it reads before it and its token."""

    def __init__(self, blocks: int, size: int) -> None:
        self.size = size
        self.slots: list[list[int | None]] = [[None] * size for _ in range(blocks)]

    def read(self, piece: Piece, position: int) -> int | None:
        return self.slots[piece.blocks[position // self.size]][position % self.size]

    def step(self, step: Step, scopes: dict[int, tuple[str, ...]]) -> list[list[int]]:
        """The "logits" of each piece: the values after the tokens it wants them for."""
        for source, target in step.copies:
            self.slots[target] = list(self.slots[source])
        written: set[tuple[int, int]] = set()
        for piece in step.pieces:
            value: object = scopes[piece.sequence]
            if piece.start:
                value = self.read(piece, piece.start - 1)
            for position, token in enumerate(piece.tokens, piece.start):
                value = hash((value, token))
                place = piece.blocks[position // self.size], position % self.size
                assert place not in written, "two pieces write the same slot"
                written.add(place)
                self.slots[place[0]][place[1]] = value
        rows = []
        for piece in step.pieces:
            end = piece.start + len(piece.tokens)
            rows.append([self.read(piece, end - piece.rows + i) for i in range(piece.rows)])
        return rows


@dataclass
class Wish:
    """What a test knows of a sequence, apart from the scheduler."""

    tokens: list[int]
    limit: int
    client: str
    scope: tuple[str, ...]
    next_row: int
    chain: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.chain = extend([], self.scope, self.tokens)


class World:
    """Requests, a scheduler and a memory; every method leaves all invariants checked."""

    def __init__(self, blocks: int, size: int, budget: int, most: int) -> None:
        self.scheduler = Scheduler(blocks, size, budget=budget, max_sequences=most)
        self.memory = Memory(blocks, size)
        self.positions = blocks * size
        self.wishes: dict[int, Wish] = {}
        self.step: Step | None = None
        self.asked: dict[int, Piece] = {}
        self.steps = 0

    def submit(
        self,
        tokens: list[int],
        limit: int,
        client: str = "",
        scope: tuple[str, ...] = (),
        logits_from: int = -1,
    ) -> int:
        number = self.scheduler.submit(
            tokens, limit=limit, client=client, scope=scope, logits_from=logits_from
        )
        row = logits_from % len(tokens)
        self.wishes[number] = Wish(list(tokens), limit, client, scope, row)
        return number

    def fork(self, parent: int, keep: int, tokens: list[int]) -> int:
        wish = self.wishes[parent]
        number = self.scheduler.fork(parent, keep, tokens)
        mine = [*wish.tokens[:keep], *tokens]
        self.wishes[number] = Wish(mine, wish.limit, wish.client, wish.scope, len(mine) - 1)
        return number

    def cancel(self, number: int) -> None:
        self.scheduler.cancel(number)
        del self.wishes[number]

    def plan(self) -> bool:
        """Plan a step, compute it, and see that every sequence read its own text."""
        self.step = self.scheduler.plan()
        assert (self.step is None) == (not self.wishes), "live sequences, but nothing to do"
        if self.step is None:
            return False
        self.steps += 1
        pieces = self.step.pieces
        assert self.scheduler.running <= self.scheduler.max_sequences
        assert sum(len(piece.tokens) for piece in pieces) <= self.scheduler.budget
        assert len({piece.sequence for piece in pieces}) == len(pieces) <= self.scheduler.running
        self._check_writes(pieces)
        scopes = {number: wish.scope for number, wish in self.wishes.items()}
        rows = self.memory.step(self.step, scopes)
        self.asked = {}
        for piece, values in zip(pieces, rows, strict=True):
            self._check_piece(piece, values)
        return True

    def _check_writes(self, pieces: tuple[Piece, ...]) -> None:
        pool = self.scheduler._pool
        for piece in pieces:
            end = piece.start + len(piece.tokens)
            for block in piece.blocks[piece.start // pool.size : pool.needed(end)]:
                assert pool._references[block] == 1, "a shared block would be overwritten"
                assert block not in pool._keys, "a remembered block would be overwritten"

    def _check_piece(self, piece: Piece, values: list[int]) -> None:
        wish = self.wishes[piece.sequence]
        known, end = len(wish.tokens), piece.start + len(piece.tokens)
        text = [*wish.tokens, *piece.tokens[max(0, known - piece.start) :]]
        assert tuple(text[piece.start : end]) == piece.tokens
        chain = extend(wish.chain, wish.scope, text[known:])
        assert [self.memory.read(piece, i) for i in range(end)] == chain[:end]
        assert values == (chain[wish.next_row : end] if end > wish.next_row else [])
        if end >= known:
            self.asked[piece.sequence] = piece
        wish.next_row = max(wish.next_row, end)

    def commit(self, drawn: dict[int, list[int]]) -> None:
        self.scheduler.commit(drawn)
        self.step = None
        for number, new in drawn.items():
            wish = self.wishes[number]
            wish.chain = extend(wish.chain, wish.scope, new)
            wish.tokens += new
            wish.next_row = len(wish.tokens) - 1
            if not new:
                del self.wishes[number]

    def draw(self, number: int, rng: Random, letters: int, stop: float = 0.1) -> list[int]:
        """Part of the piece's draft, then a token or two; nothing at the limit or at random."""
        wish = self.wishes[number]
        room = wish.limit - len(wish.tokens)
        if not room or rng.random() < stop:
            return []
        piece = self.asked[number]
        draft = piece.tokens[len(wish.tokens) - piece.start :]
        kept = draft[: rng.randint(0, len(draft))]
        more = rng.choices(range(letters), k=1 if rng.random() < 0.9 else 2)
        return [*kept, *more][:room]

    def turn(self, rng: Random, letters: int = 2, stop: float = 0.1) -> None:
        """A whole step, if there is anything to do."""
        if self.plan():
            self.answer(rng, letters, stop)

    def answer(self, rng: Random, letters: int = 2, stop: float = 0.1) -> None:
        asked = [number for number in self.asked if number in self.wishes]
        self.commit({number: self.draw(number, rng, letters, stop) for number in asked})

    def drain(self, rng: Random) -> None:
        """Everything comes to its end, in bounded time, and all blocks come back."""
        if self.step is not None:
            self.answer(rng)
        most = self.steps + 20 + sum(20 + 4 * wish.limit for wish in self.wishes.values())
        while self.wishes:
            assert self.steps <= most, "no progress"
            self.turn(rng, stop=0.0)
        self.check()
        pool = self.scheduler._pool
        assert pool.available == pool.total
        assert not any(pool._references)
        residency = self.scheduler._residency
        assert not residency.live
        assert not residency.waiting
        assert not residency.fair._counters

    def check(self) -> None:
        """No block leaked, lost, shared by mistake, or remembered for what it does not hold."""
        residency, pool = self.scheduler._residency, self.scheduler._pool
        assert set(residency.live) == set(self.wishes)
        waiting = [s for queue in residency.waiting.values() for s in queue]
        both = sorted([*residency.running, *waiting], key=lambda s: s.number)
        assert both == sorted(residency.live.values(), key=lambda s: s.number)
        assert not any(s.table or s.computed for s in waiting)
        held = Counter(block for s in residency.running for block in s.table)
        assert [held[block] for block in range(pool.total)] == pool._references
        free, idle = set(pool._free), set(pool._idle)
        assert len(free) == len(pool._free)
        assert not free & idle
        assert free | idle == {b for b in range(pool.total) if not held[b]}
        assert {b for b in pool._keys if not held[b]} == idle
        self._check_remembered()
        for sequence in residency.running:
            assert sequence.tokens == self.wishes[sequence.number].tokens
            assert len(set(sequence.table)) == len(sequence.table)
            assert len(sequence.table) * pool.size >= sequence.computed
            assert sequence.computed < len(sequence.tokens)

    def _check_remembered(self) -> None:
        pool = self.scheduler._pool
        assert {block: key for key, block in pool._found.items()} == pool._keys
        assert pool._nodes.keys() == pool._keys.keys()
        blocks = {node: block for block, node in pool._nodes.items()}
        assert len(blocks) == len(pool._nodes)
        for block, (parent, tokens) in pool._keys.items():
            value: object = parent
            if isinstance(parent, int):
                if parent not in blocks:
                    continue  # its beginning is forgotten: nobody can find it
                value = self.memory.slots[blocks[parent]][-1]
            for token, slot in zip(tokens, self.memory.slots[block], strict=True):
                value = hash((value, token))
                assert slot == value
