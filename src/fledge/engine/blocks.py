"""The pool of KV blocks: who holds which, which are writable, and what full ones hold.

A full block is remembered under (parent, tokens): the tokens themselves, not a hash of them, and
the identity of the block before it, so two different texts cannot collide.  The first block of a
text has as parent its *scope*: whatever its values depend on besides tokens, such as the name and
version of an adapter or the salt of a client.  A block nobody holds stays remembered until its
room is needed; the one unused for longest goes first, the end of a text before its beginning.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from fledge.core.errors import FledgeError

Scope = tuple[str, ...]
Parent = int | Scope
"""What precedes a block: the node of the block before it, or the scope for the first."""


class BlockPool:
    """``total`` blocks of ``size`` positions, counted by reference; values lie in the runner."""

    def __init__(self, total: int, size: int) -> None:
        self.total = total
        self.size = size
        self._references = [0] * total
        self._free = list(range(total - 1, -1, -1))
        self._idle: OrderedDict[int, None] = OrderedDict()  # remembered, unheld; oldest first
        self._found: dict[tuple[Parent, tuple[int, ...]], int] = {}
        self._keys: dict[int, tuple[Parent, tuple[int, ...]]] = {}
        self._nodes: dict[int, int] = {}  # block -> node; a node number is never used twice
        self._next_node = 0

    @property
    def available(self) -> int:
        """How many blocks ``take`` can give."""
        return len(self._free) + len(self._idle)

    def held(self, block: int) -> bool:
        """Whether any sequence holds the block."""
        return self._references[block] > 0

    def needed(self, positions: int) -> int:
        """How many blocks hold that many positions."""
        return -(-positions // self.size)

    def take(self) -> int:
        """A block of undefined content, held once.  Only while any is available."""
        if self._free:
            block = self._free.pop()
        else:
            block, _ = self._idle.popitem(last=False)
            self._forget(block)
        self._references[block] = 1
        return block

    def share(self, block: int) -> None:
        """One more holder of a block that is held or remembered."""
        if not self._references[block]:
            del self._idle[block]
        self._references[block] += 1

    def release(self, blocks: Sequence[int]) -> None:
        """One holder less of each, the last first: then the end of a text is forgotten first."""
        for block in reversed(blocks):
            left = self._references[block] = self._references[block] - 1
            if left < 0:
                raise FledgeError(f"block {block} was released more often than held")
            if left == 0:
                if block in self._keys:
                    self._idle[block] = None
                else:
                    self._free.append(block)

    def claim(self, block: int) -> bool:
        """Whether its holder may write into the block; False when others read it: copy it then.

        What was remembered of it is forgotten, for a part is about to be overwritten.
        """
        if self._references[block] > 1:
            return False
        if block in self._keys:
            self._forget(block)
        return True

    def match(self, scope: Scope, tokens: Sequence[int], most: int) -> list[int]:
        """The remembered blocks, at most ``most``, that hold the beginning of ``tokens``.

        They are not held yet: ``share`` those that are used before taking others.
        """
        parent: Parent = scope
        blocks: list[int] = []
        for start in range(0, most * self.size, self.size):
            block = self._found.get((parent, tuple(tokens[start : start + self.size])))
            if block is None:
                break
            blocks.append(block)
            parent = self._nodes[block]
        return blocks

    def remember(self, scope: Scope, before: int | None, tokens: Sequence[int], block: int) -> int:
        """Remember a full block that follows block ``before``; the block to hold instead of it.

        That is ``block`` itself, or the one already remembered for the same text: the caller's
        hold has moved there, and so equal texts come to lie in the same blocks.
        """
        key = (scope if before is None else self._nodes[before], tuple(tokens))
        known = self._found.get(key)
        if known is not None:
            self.share(known)
            self.release((block,))
            return known
        self._found[key] = block
        self._keys[block] = key
        self._nodes[block] = self._next_node
        self._next_node += 1
        return block

    def _forget(self, block: int) -> None:
        del self._found[self._keys.pop(block)]
        del self._nodes[block]
