"""A batch and its pieces: every tensor goes along, the signals of an objective among them."""

from __future__ import annotations

import torch

from fledge.train.batch import Batch
from fledge.train.world import World


def batch(signals: bool = True) -> Batch:
    numbers = torch.arange(24).view(4, 6)
    return Batch(
        numbers,
        numbers + 1,
        torch.zeros(4, 6, dtype=torch.long),
        torch.ones(4, 6),
        torch.rand(4, 6, 2) if signals else None,
        numbers - 2,
    )


def test_pieces_make_up_the_whole() -> None:
    whole = batch()
    pieces = list(whole.micro(3))
    assert [len(piece.ids) for piece in pieces] == [3, 1]
    for name in Batch._fields:
        parts = [getattr(piece, name) for piece in pieces]
        assert torch.equal(torch.cat(parts), getattr(whole, name)), name


def test_what_is_padding_in_every_row_is_trimmed() -> None:
    whole = batch()
    whole.segments[:, 3:] = -1
    whole.segments[2, 3] = 7
    narrow = whole.trimmed()
    for name in Batch._fields:
        assert torch.equal(getattr(narrow, name), getattr(whole, name)[:, :4]), name


def test_a_batch_without_signals_stays_without() -> None:
    plain = batch(signals=False)
    assert plain.to(torch.device("cpu")).signals is None
    assert next(plain.micro(2)).signals is None


def test_processes_share_the_signals_out() -> None:
    whole = batch()
    shares = [World(rank=rank, size=2).share(whole).signals for rank in range(2)]
    assert whole.signals is not None
    assert shares[0] is not None
    assert shares[1] is not None
    assert torch.equal(torch.cat([shares[0], shares[1]]), whole.signals)
