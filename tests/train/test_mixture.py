"""Mixed sources keep their shares over any stretch; their rows come in order, each once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fledge.core.errors import InputError
from fledge.core.files import read_json, write_json
from fledge.train.batch import Rows
from fledge.train.loader import PackedLoader
from fledge.train.mixture import CYCLE, Mixture, largest_remainder
from fledge.train.shards import TokenShards
from pico_shards import write_shards


class Numbered:
    """Rows that say their own number."""

    rows_per_epoch = 7
    tokens = 7

    def fill(self, rows: Rows, place: int, number: int) -> None:
        rows.ids[place] = number

    def fingerprint(self) -> str:
        return "numbered"


shares = st.lists(st.floats(0.01, 1.0), min_size=1, max_size=5)


@given(shares=shares, seed=st.integers(0, 99), start=st.integers(0, 3 * CYCLE))
@settings(max_examples=60, deadline=None)
def test_any_stretch_keeps_the_shares(shares: list[float], seed: int, start: int) -> None:
    mixture = Mixture([Numbered() for _ in shares], shares, seed=seed)
    for length in (10, 1000, 2 * CYCLE + 5):
        counts = np.subtract(mixture.read(start + length), mixture.read(start))
        assert counts.sum() == length
        slack = len(shares) + 1 + length / CYCLE  # shares are whole numbers of a cycle's rows
        assert (abs(counts - np.array(mixture.shares) * length) <= slack).all()


@given(shares=shares, start=st.integers(0, 2 * CYCLE))
@settings(max_examples=30, deadline=None)
def test_each_source_is_read_in_order(shares: list[float], start: int) -> None:
    mixture = Mixture([Numbered() for _ in shares], shares, seed=1)
    own = mixture.read(start)
    for number in range(start, start + 200):
        source, row = mixture.locate(number)
        assert row == own[source]
        own[source] += 1


def test_whole_numbers_add_up() -> None:
    assert largest_remainder([1, 1, 1], 10).tolist() == [4, 3, 3]
    assert largest_remainder([0.7, 0.2, 0.1], 1000).tolist() == [700, 200, 100]
    assert largest_remainder([0.0, 1.0], 5).tolist() == [0, 5]


def shards(folder: Path, token: int, documents: int, vocab: int = 64) -> TokenShards:
    write_shards(folder, {"train": [[[token] * 15] * documents]}, vocab=vocab)
    return TokenShards(folder, "train")


def test_folders_are_mixed_by_their_shares(tmp_path: Path) -> None:
    own, other = shards(tmp_path / "a", 1, 40), shards(tmp_path / "b", 2, 10)
    loader = PackedLoader(own, context=16, batch_rows=10, seed=0, epochs=2, others=[(other, 0.3)])
    assert loader.rows_per_epoch == 50
    assert loader.steps == 10
    for step in range(10):
        first = loader[step].ids[:, 1]
        assert abs(int((first == 2).sum()) - 3) <= 1
    usage = loader.usage(10)
    assert [use.rows for use in usage] == [70, 30]
    assert [use.passes for use in usage] == [pytest.approx(1.75), pytest.approx(3.0)]
    assert [Path(use.folder).name for use in usage] == ["a", "b"]
    assert loader.counts(10) == {"rows.0.a": 70, "rows.1.b": 30}
    assert loader.lines(10)[2].endswith("/b: 30.0% of the rows, 3.00 passes")
    again = PackedLoader(own, context=16, batch_rows=10, seed=0, epochs=2, others=[(other, 0.3)])
    assert torch.equal(again[7].ids, loader[7].ids)
    changed = PackedLoader(own, context=16, batch_rows=10, seed=0, epochs=2, others=[(other, 0.4)])
    assert changed.fingerprint() != loader.fingerprint() == again.fingerprint()


def test_the_recipes_own_tokens_may_have_no_share(tmp_path: Path) -> None:
    own, other = shards(tmp_path / "a", 1, 4), shards(tmp_path / "b", 2, 4)
    loader = PackedLoader(own, context=16, batch_rows=8, seed=0, others=[(other, 1.0)])
    assert (loader[0].ids[:, 1] == 2).all()


def test_other_tokenizers_and_too_large_shares_are_refused(tmp_path: Path) -> None:
    own, other = shards(tmp_path / "a", 1, 4), shards(tmp_path / "b", 2, 4, vocab=100)
    options = {"context": 16, "batch_rows": 2, "seed": 0}
    with pytest.raises(InputError, match=r"/a has a vocabulary of 64, .*/b 100"):
        PackedLoader(own, others=[(other, 0.5)], **options)  # type: ignore[arg-type]
    twin = shards(tmp_path / "c", 2, 4)
    with pytest.raises(InputError, match="exceed 1"):
        PackedLoader(own, others=[(twin, 0.6), (twin, 0.6)], **options)  # type: ignore[arg-type]
    for name, digest in (("a", "0123"), ("c", "4567")):
        index = read_json(tmp_path / name / "index.json")
        write_json(tmp_path / name / "index.json", {**index, "tokenizer": digest})
    pair = [TokenShards(tmp_path / name, "train") for name in ("a", "c")]
    with pytest.raises(InputError, match=r"/a has the tokenizer 0123, .*/c 4567"):
        PackedLoader(pair[0], others=[(pair[1], 0.5)], **options)  # type: ignore[arg-type]
