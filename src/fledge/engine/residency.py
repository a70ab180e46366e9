"""Who holds blocks and who waits for them: admission, reservation, pre-emption, the end."""

from __future__ import annotations

from collections import Counter

from fledge.core.errors import FledgeError
from fledge.engine.blocks import BlockPool
from fledge.engine.fairness import FairShare
from fledge.engine.sequence import ByAge, SequenceState


class Residency:
    """All live sequences: at most ``most`` of them run and hold blocks, the others wait."""

    def __init__(self, pool: BlockPool, most: int) -> None:
        self.pool = pool
        self.fair = FairShare()
        self.live: dict[int, SequenceState] = {}
        self.running = ByAge()
        self.waiting: dict[str, ByAge] = {}  # by client; none is empty
        self.preemptions = 0
        self._most = most

    def get(self, number: int) -> SequenceState:
        """The sequence of that number; raises FledgeError when it is not alive."""
        try:
            return self.live[number]
        except KeyError:
            raise FledgeError(f"there is no sequence {number}, or no more") from None

    def enter(self, sequence: SequenceState) -> None:
        """A new sequence: it runs if it brings blocks, and waits if it has none."""
        self.live[sequence.number] = sequence
        self.fair.enter(sequence.client)
        if sequence.table:
            self.running.add(sequence)
        else:
            self._wait(sequence)

    def end(self, sequence: SequenceState) -> None:
        """The sequence is gone and its blocks are free, the full ones remembered."""
        del self.live[sequence.number]
        if not self.running.discard(sequence):
            self._leave_queue(sequence)
        self.pool.release(sequence.table)
        self.fair.leave(sequence.client)

    def preempt(self, sequence: SequenceState) -> None:
        """Back to the queue: its blocks are free, and it will be computed again."""
        self.preemptions += 1
        self.running.discard(sequence)
        self.pool.release(sequence.table)
        sequence.table, sequence.computed, sequence.draft = (), 0, ()
        self._wait(sequence)

    def reserve(self) -> list[tuple[int, int]]:
        """Give every running sequence the blocks of its certain tokens, the oldest first.

        The newest is pre-empted until there are enough.  Returns the (source, target) copies to
        make, in order: one for each block that a sequence is to write and another one reads.
        """
        running, pool, size = self.running, self.pool, self.pool.size
        copies: list[tuple[int, int]] = []
        while len(running) > self._most:
            self.preempt(running[-1])
        index = 0
        while index < len(running):
            sequence = running[index]
            computed, table = sequence.computed, sequence.table
            shared = computed % size > 0 and not pool.claim(table[computed // size])
            missing = pool.needed(len(sequence.tokens)) - len(table)
            if shared or missing:
                if missing + shared > pool.available:
                    self.preempt(running[-1])
                    continue
                if shared:
                    copies.append(self._copy(sequence, computed // size))
                self._extend(sequence, missing)
            index += 1
        return copies

    def stretch(self, sequence: SequenceState, most: int) -> tuple[int, ...]:
        """The beginning of its draft, at most ``most`` tokens, that free blocks can take now."""
        pool = self.pool
        known = len(sequence.tokens)
        room = (len(sequence.table) + pool.available) * pool.size - known
        draft = sequence.draft[: max(0, min(most, room, sequence.limit - known - 1))]
        self._extend(sequence, pool.needed(known + len(draft)) - len(sequence.table))
        return draft

    def trim(self, sequence: SequenceState) -> None:
        """Free the blocks that only a refused draft had needed."""
        needed = self.pool.needed(len(sequence.tokens))
        self.pool.release(sequence.table[needed:])
        sequence.table = sequence.table[:needed]

    def remember(self, sequence: SequenceState, start: int) -> None:
        """Remember the blocks that became full since ``start`` positions were computed."""
        size = self.pool.size
        first, last = start // size, sequence.computed // size
        if first == last:
            return
        table = list(sequence.table)
        for index in range(first, last):
            tokens = sequence.tokens[index * size : (index + 1) * size]
            before = table[index - 1] if index else None
            table[index] = self.pool.remember(sequence.scope, before, tokens, table[index])
        sequence.table = tuple(table)

    def make_room(self) -> None:
        """Let the next client in if it has nothing running, at the cost of who has the most."""
        client = self.fair.first(self.waiting)
        head = self.waiting[client][0]
        while self._fits(head) is None:
            counts = Counter(sequence.client for sequence in self.running)
            if not counts or client in counts:
                return
            most = max(counts, key=counts.__getitem__)
            if counts[most] < 2:
                return
            self.preempt([s for s in self.running if s.client == most][-1])

    def admit(self, client: str) -> SequenceState | None:
        """Let the client's oldest waiting sequence run, if it fits."""
        sequence = self.waiting[client][0]
        found = self._fits(sequence)
        if found is None:
            return None
        pool = self.pool
        for block in found:
            pool.share(block)
        fresh = pool.needed(len(sequence.tokens)) - len(found)
        sequence.table = tuple(found)
        self._extend(sequence, fresh)
        sequence.computed = sequence.cached = len(found) * pool.size
        self._leave_queue(sequence)
        self.running.add(sequence)
        return sequence

    def _fits(self, sequence: SequenceState) -> list[int] | None:
        """The remembered blocks a waiting sequence begins with; None while it has no room.

        Every running sequence keeps one spare block, lest a newcomer be pre-empted at once.
        """
        pool = self.pool
        if len(self.running) >= self._most:
            return None
        found = pool.match(sequence.scope, sequence.tokens, sequence.wanted // pool.size)
        fresh = pool.needed(len(sequence.tokens)) - sum(map(pool.held, found))
        return found if fresh + len(self.running) <= pool.available else None

    def _extend(self, sequence: SequenceState, count: int) -> None:
        sequence.table += tuple([self.pool.take() for _ in range(count)])

    def _copy(self, sequence: SequenceState, index: int) -> tuple[int, int]:
        """Replace a block of the table by a copy that the sequence may write."""
        source, target = sequence.table[index], self.pool.take()
        self.pool.release((source,))
        sequence.table = (*sequence.table[:index], target, *sequence.table[index + 1 :])
        return source, target

    def _wait(self, sequence: SequenceState) -> None:
        self.waiting.setdefault(sequence.client, ByAge()).add(sequence)

    def _leave_queue(self, sequence: SequenceState) -> None:
        queue = self.waiting[sequence.client]
        queue.discard(sequence)
        if not len(queue):
            del self.waiting[sequence.client]
