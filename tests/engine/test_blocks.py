"""The block pool: counted, remembered by exact content, forgotten in a sensible order."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fledge.core.errors import FledgeError
from fledge.engine.blocks import BlockPool


def fill(pool: BlockPool, tokens: list[int], scope: tuple[str, ...] = ()) -> list[int]:
    """Hold and remember the full blocks of a text."""
    table: list[int] = []
    for start in range(0, len(tokens) - len(tokens) % pool.size, pool.size):
        before = table[-1] if table else None
        part = tokens[start : start + pool.size]
        table.append(pool.remember(scope, before, part, pool.take()))
    return table


def test_a_released_text_is_found_until_its_room_is_needed() -> None:
    pool = BlockPool(3, 2)
    table = fill(pool, [1, 2, 3, 4])
    pool.release(table)
    assert pool.available == 3
    assert pool.match((), [1, 2, 3, 4, 5], 2) == table
    assert pool.match((), [1, 2, 3, 4, 5], 1) == table[:1]
    assert pool.match((), [1, 2, 9, 4, 5], 2) == table[:1]
    taken = [pool.take(), pool.take()]
    assert table[1] in taken  # the end of the text was forgotten before its beginning
    assert pool.match((), [1, 2, 3, 4, 5], 2) == table[:1]


def test_the_text_unused_for_longest_is_forgotten_first() -> None:
    pool = BlockPool(2, 1)
    one, two = fill(pool, [1]), fill(pool, [2])
    pool.release(two)
    pool.release(one)
    for block in pool.match((), [2], 1):
        pool.share(block)  # used again
    pool.release(two)
    assert pool.take() == one[0]


def test_scopes_do_not_share() -> None:
    pool = BlockPool(4, 1)
    table = fill(pool, [1], ("adapter", "1"))
    assert pool.match((), [1], 1) == []
    assert pool.match(("adapter", "2"), [1], 1) == []
    assert pool.match(("adapter", "1"), [1], 1) == table


def test_equal_texts_come_to_lie_in_the_same_blocks() -> None:
    pool = BlockPool(4, 2)
    first, second = fill(pool, [1, 2, 3, 4]), fill(pool, [1, 2, 3, 4])
    assert first == second
    assert pool.available == 2
    pool.release(first)
    assert pool.available == 2
    pool.release(second)
    assert pool.available == 4


def test_a_forgotten_beginning_hides_what_followed_it_for_good() -> None:
    pool = BlockPool(3, 1)
    table = fill(pool, [1, 2])
    pool.release(table[1:])  # held: the beginning alone
    assert pool.claim(table[0])  # and it is about to be overwritten
    again = fill(pool, [1])
    assert pool.match((), [1, 2], 2) == again


def test_only_a_single_holder_may_write() -> None:
    pool = BlockPool(2, 1)
    table = fill(pool, [1])
    pool.share(table[0])
    assert not pool.claim(table[0])
    pool.release(table)
    assert pool.match((), [1], 1) == table
    assert pool.claim(table[0])
    assert pool.match((), [1], 1) == []


def test_releasing_twice_is_an_error() -> None:
    pool = BlockPool(1, 1)
    block = pool.take()
    pool.release((block,))
    with pytest.raises(FledgeError, match="released more often"):
        pool.release((block,))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(st.integers(0, 1), max_size=10), max_size=12), st.integers(1, 3))
def test_what_is_found_is_the_text(texts: list[list[int]], size: int) -> None:
    pool = BlockPool(8, size)
    held: dict[int, tuple[int, ...]] = {}  # what was last written into a block
    for text in texts:
        found = pool.match((), text, len(text) // size)
        for index, block in enumerate(found):
            assert held[block] == tuple(text[: (index + 1) * size])
            pool.share(block)
        table = list(found)
        while len(table) < len(text) // size and pool.available:
            block = pool.take()
            start = len(table) * size
            held[block] = tuple(text[: start + size])
            before = table[-1] if table else None
            table.append(pool.remember((), before, text[start : start + size], block))
        pool.release(table)
        assert pool.available == pool.total
