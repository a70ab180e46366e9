"""Valid files in, damaged ones out: the same from the same seed."""

from __future__ import annotations

import random


def damaged(data: bytes, seed: int) -> bytes:
    """``data`` with one of the faults that disks, networks and attackers make."""
    rng = random.Random(seed)
    place = rng.randrange(len(data))
    size = rng.choice((1, 8, 100, 1000))
    kind = seed % 6
    if kind == 0:  # a bit
        return data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]
    if kind == 1:  # cut short
        return data[:place]
    if kind == 2:  # a hole
        return data[:place] + data[place + size :]
    if kind == 3:  # zeros from a disk
        return data[:place] + bytes(min(size, len(data) - place)) + data[place + size :]
    if kind == 4:  # noise
        return data[:place] + rng.randbytes(size) + data[place:]
    again = rng.randrange(len(data))  # a piece of itself elsewhere
    return data[:again] + data[place : place + size] + data[again + size :]
