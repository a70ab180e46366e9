"""The packed loader reads every token once an epoch, in an order its seed decides."""

from __future__ import annotations

import itertools
import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fledge.core.errors import InputError
from fledge.train.batch import PADDING, Rows
from fledge.train.loader import PackedLoader
from fledge.train.shards import TokenShards
from fledge.train.sources import BestFitRows
from pico_shards import ENDOFTEXT, VOCAB, pattern_shards, write_shards

documents = st.lists(st.integers(1, VOCAB - 1), max_size=12)
split = st.lists(st.lists(documents, max_size=6), min_size=1, max_size=3).filter(
    lambda shards: sum(1 + len(ids) for shard in shards for ids in shard) > 1
)


@given(
    shards=split,
    context=st.integers(2, 9),
    rows=st.integers(1, 4),
    seed=st.integers(0, 99),
    epochs=st.integers(1, 2),
)
@settings(max_examples=60, deadline=None)
def test_a_stream_reads_every_token_once_an_epoch_and_predicts_the_next(
    shards: list[list[list[int]]], context: int, rows: int, seed: int, epochs: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        data = TokenShards(write_shards(Path(folder), {"train": shards}), "train")
        loader = PackedLoader(
            data, context=context, batch_rows=rows, seed=seed, epochs=epochs, packing="stream"
        )
        assert loader.steps is not None
        whole = [[ENDOFTEXT, *ids] for shard in shards for ids in shard]
        read: Counter[tuple[int, int]] = Counter()
        targets = 0
        for step in range(loader.steps):
            batch = loader[step]
            assert all(part.shape == (rows, context) for part in batch[:4])
            assert ((batch.segments == PADDING) <= (batch.weights == 0)).all()
            for row in range(rows):
                seen = batch.segments[row] != PADDING
                assert (seen.cumsum(0)[seen] == torch.arange(1, int(seen.sum()) + 1)).all()
                for place in range(int(seen.sum())):
                    document = int(batch.segments[row, place])
                    read[document, int(batch.ids[row, place])] += 1
                    if batch.weights[row, place] == 0:
                        continue
                    targets += 1
                    if place + 1 < int(seen.sum()):  # the target is the next token read
                        assert batch.targets[row, place] == batch.ids[row, place + 1]
        expected: Counter[tuple[int, int]] = Counter()
        for number, ids in enumerate(whole):
            for token in ids:
                expected[number, token] += epochs
        if (expected.total() // epochs - 1) % context == 0:  # the last token would be alone
            assert (expected - read).total() == epochs
            assert read <= expected
        else:
            assert read == expected
        assert targets == epochs * (sum(map(len, whole)) - 1)  # the last has no successor


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_no_row_is_without_a_target(tmp_path: Path, rows: int) -> None:
    """A stream of k * context + 1 tokens: its last token is only ever predicted."""
    data = TokenShards(write_shards(tmp_path, {"train": [[list(range(1, 33))]]}), "train")
    assert data.tokens == 33
    loader = PackedLoader(data, context=8, batch_rows=rows, seed=0, epochs=1, packing="stream")
    assert loader.rows_per_epoch == 4
    batches = [loader[step] for step in range(loader.steps or 0)]
    assert all(batch.weights.any() for batch in batches)
    targets = torch.cat([batch.targets[batch.weights > 0] for batch in batches])
    assert sorted(targets.tolist()) == list(range(1, 33))


@pytest.mark.parametrize("documents", [[], [[]]])
def test_nothing_to_predict_is_an_input_error(tmp_path: Path, documents: list[list[int]]) -> None:
    data = TokenShards(write_shards(tmp_path, {"train": [documents]}), "train")
    with pytest.raises(InputError, match="no train tokens"):
        PackedLoader(data, context=8, batch_rows=1, seed=0)


def test_targets_across_rows_follow_the_stream(tmp_path: Path) -> None:
    ids = [list(range(1, 41))]
    loader = PackedLoader(
        TokenShards(write_shards(tmp_path, {"train": [ids]}), "train"),
        context=8,
        batch_rows=6,
        seed=0,
        epochs=1,
        packing="stream",
    )
    batch = loader[0]
    learnt = batch.weights > 0
    assert (batch.targets[learnt] == batch.ids[learnt] + 1).all()
    assert int(learnt.sum()) == 40


@pytest.mark.parametrize("packing", ["best_fit", "stream"])
def test_a_document_ends_as_its_tokenizer_ends_it(tmp_path: Path, packing: str) -> None:
    """Foreign tokenizers begin a document with one token (``<s>``) and end it with another."""
    folder = pattern_shards(tmp_path)
    index = json.loads((folder / "index.json").read_text())
    end = VOCAB - 1
    (folder / "index.json").write_text(json.dumps({**index, "end_id": end, "vocab_size": VOCAB}))
    data = TokenShards(folder, "train")
    options: Any = {"context": 16, "batch_rows": 4, "seed": 3, "epochs": 1, "packing": packing}
    loader = PackedLoader(data, **options)
    ends = 0
    for step in range(loader.steps or 0):
        ids, targets, segments, weights = loader[step][:4]
        assert not ((targets == ENDOFTEXT) & (weights > 0)).any()
        last = (segments[:, 1:] != segments[:, :-1]) & (weights[:, :-1] > 0)
        goes_on = (segments[:, 1:] == segments[:, :-1]) & (weights[:, :-1] > 0)
        assert (targets[:, :-1][goes_on] == ids[:, 1:][goes_on]).all()
        ends += int((targets[:, :-1][last] == end).sum())
    assert ends > data.documents // 2  # the others end with their row


@pytest.mark.parametrize("packing", ["best_fit", "stream"])
def test_any_batch_can_be_had_at_once(tmp_path: Path, packing: str) -> None:
    folder = pattern_shards(tmp_path)
    options: Any = {"context": 16, "batch_rows": 4, "seed": 3, "packing": packing}
    first = PackedLoader(TokenShards(folder, "train"), **options)
    through = [first[step] for step in range(60)]  # several epochs
    fresh = PackedLoader(TokenShards(folder, "train"), **options)
    assert fresh.steps is None
    for step in (59, 0, 31, 17):
        for ours, theirs in zip(through[step][:4], fresh[step][:4], strict=True):
            assert torch.equal(ours, theirs)
    assert first.fingerprint() == fresh.fingerprint()


@pytest.mark.parametrize("packing", ["best_fit", "stream"])
def test_seeds_and_epochs_change_the_order(tmp_path: Path, packing: Any) -> None:
    data = TokenShards(pattern_shards(tmp_path), "train")
    one = PackedLoader(data, context=16, batch_rows=4, seed=1, packing=packing)
    other = PackedLoader(data, context=16, batch_rows=4, seed=2, packing=packing)
    assert not torch.equal(one[0].ids, other[0].ids)
    later = one.rows(range(one.rows_per_epoch, one.rows_per_epoch + 4))
    assert not torch.equal(one[0].ids, later.ids)
    assert one.fingerprint() != other.fingerprint()


def test_part_of_an_epoch_ends_in_empty_rows(tmp_path: Path) -> None:
    data = TokenShards(pattern_shards(tmp_path), "train")
    loader = PackedLoader(data, context=16, batch_rows=8, seed=1, epochs=0.3)
    rows = round(0.3 * loader.rows_per_epoch)
    assert loader.steps == -(-rows // 8)
    last = loader[loader.steps - 1]
    assert int((last.weights.sum(1) > 0).sum()) == (rows - 1) % 8 + 1
    assert (loader[loader.steps].weights == 0).all()


def test_the_least_part_of_an_epoch_is_a_row(tmp_path: Path) -> None:
    data = TokenShards(pattern_shards(tmp_path), "train")
    loader = PackedLoader(data, context=16, batch_rows=8, seed=1, epochs=1e-6)
    assert loader.steps == 1
    assert int((loader[0].weights.sum(1) > 0).sum()) == 1


def test_bytes_follow_the_documents(tmp_path: Path) -> None:
    folder = write_shards(tmp_path, {"train": [[[1, 2], [3]], [[4, 5, 6]]], "validation": [[[1]]]})
    assert TokenShards(folder, "train").document_bytes().tolist() == [6, 3, 9]
    assert TokenShards(folder, "validation").document_bytes().tolist() == [3]


def test_broken_shards_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"index\.json does not exist"):
        TokenShards(tmp_path / "nowhere", "train")
    folder = write_shards(tmp_path / "t", {"train": [[[1, 2], [3]]], "validation": [[]]})
    with pytest.raises(InputError, match="no 'test' for split"):
        TokenShards(folder, "test")
    with pytest.raises(InputError, match="no validation tokens"):
        PackedLoader(TokenShards(folder, "validation"), context=4, batch_rows=1, seed=0)
    whole = (folder / "train-00000.npy").read_bytes()
    for damaged in (b"\x93NUMPY", b"", whole[:-2], b"PK" + whole):
        (folder / "train-00000.npy").write_bytes(damaged)
        with pytest.raises(InputError, match=r"train-00000\.npy cannot be read"):
            TokenShards(folder, "train")
    for foreign in (np.zeros(4, np.uint16), np.zeros(5), np.zeros((5, 1), np.uint16)):
        np.save(folder / "train-00000.npy", foreign)
        with pytest.raises(InputError, match=r"token shard .*train-00000\.npy"):
            TokenShards(folder, "train")
    (folder / "train-00000.npy").unlink()
    with pytest.raises(InputError, match=r"train-00000\.npy cannot be read"):
        TokenShards(folder, "train")


def test_a_token_outside_the_vocabulary_is_named(tmp_path: Path) -> None:
    folder = write_shards(tmp_path, {"train": [[[1, 2], [3, 99]]]}, vocab=64)
    loader = PackedLoader(TokenShards(folder, "train"), context=8, batch_rows=4, seed=0)
    with pytest.raises(InputError, match=r"00000\.npy: document 1 holds token 99, .* has 64"):
        loader[0]


def long_and_short() -> list[list[list[int]]]:
    generator = np.random.default_rng(5)
    sizes = generator.choice([0, 1, 5, 9, 14, 40, 130], 70)
    documents = [generator.integers(1, VOCAB, n).tolist() for n in sizes]
    return [documents[:30], [], documents[30:]]


@given(
    shards=split | st.just(long_and_short()),
    context=st.integers(2, 33),
    seed=st.integers(0, 99),
    window=st.sampled_from([1, 2, 7, 1000]),
)
@settings(max_examples=80, deadline=None)
def test_best_fit_reads_every_token_once_and_loses_no_prediction(
    shards: list[list[list[int]]], context: int, seed: int, window: int
) -> None:
    """Each token predicts the next of its document, the last one <|endoftext|>, cut or not."""
    with tempfile.TemporaryDirectory() as folder:
        data = TokenShards(write_shards(Path(folder), {"train": shards}), "train")
        source = BestFitRows(data, context=context, seed=seed, window=window)
        pairs: Counter[tuple[int, ...]] = Counter()
        for number in range(source.rows_per_epoch, 2 * source.rows_per_epoch):
            rows = Rows(1, context, ENDOFTEXT)
            source.fill(rows, 0, number)
            batch = rows.batch()
            seen = batch.segments[0] != PADDING
            assert torch.equal(seen, batch.weights[0] > 0)
            assert (seen.cumsum(0)[seen] == torch.arange(1, int(seen.sum()) + 1)).all()
            assert seen.any()
            for segment in batch.segments[0][seen].unique().tolist():
                places = batch.segments[0] == segment
                ids, targets = batch.ids[0][places], batch.targets[0][places]
                assert torch.equal(ids[1:], targets[:-1])
                pairs.update(itertools.pairwise([*ids.tolist(), int(targets[-1])]))
        expected: Counter[tuple[int, ...]] = Counter()
        for document in (ids for shard in shards for ids in shard):
            expected.update(itertools.pairwise([ENDOFTEXT, *document, ENDOFTEXT]))
        assert pairs == expected


def test_windows_of_documents_are_even_samples(tmp_path: Path) -> None:
    documents = [[1 + i * 60 // 400] * (3 + i % 9) for i in range(400)]
    data = TokenShards(write_shards(tmp_path, {"train": [documents]}), "train")
    one = BestFitRows(data, context=16, seed=1)
    many = BestFitRows(data, context=16, seed=1, window=50)
    assert one.rows_per_epoch <= many.rows_per_epoch <= one.rows_per_epoch + 8
    first = Rows(many.rows_per_epoch // 8, 16, ENDOFTEXT)
    for number in range(len(first.ids)):
        many.fill(first, number, number)
    assert len(set(first.ids.flatten().tolist())) > 30  # from all over the corpus
    assert one.fingerprint() != many.fingerprint()


def test_padding_is_counted_and_small(tmp_path: Path) -> None:
    data = TokenShards(write_shards(tmp_path, {"train": long_and_short()}), "train")
    loader = PackedLoader(data, context=64, batch_rows=4, seed=0, epochs=1)
    empty = sum(int((loader[i].segments == PADDING).sum()) for i in range(loader.steps or 0))
    rest = ((loader.steps or 0) * 4 - loader.rows_per_epoch) * 64
    assert loader.padding_share == pytest.approx((empty - rest) / (loader.rows_per_epoch * 64))
    assert loader.padding_share < 0.03


def test_the_fingerprint_changes_with_the_data(tmp_path: Path) -> None:
    folder = pattern_shards(tmp_path)
    before = TokenShards(folder, "train").fingerprint()
    index = json.loads((folder / "index.json").read_text())
    index["splits"]["train"]["tokens"] += 1
    (folder / "index.json").write_text(json.dumps(index))
    assert TokenShards(folder, "train").fingerprint() != before


def test_wide_vocabularies_are_read_as_they_are(tmp_path: Path) -> None:
    folder = write_shards(tmp_path, {"train": [[[1, 2, 3]]]}, vocab=151_643)
    np.save(folder / "train-00000.npy", np.array([0, 70_000, 2, 151_642], dtype=np.uint32))
    shards = TokenShards(folder, "train")
    assert shards.read(0, 1, 4).tolist() == [70_000, 2, 151_642]
    loader = PackedLoader(shards, context=2, batch_rows=2, seed=0, packing="stream")
    assert sorted(loader[0].ids.tolist()) == [[0, 70_000], [2, 151_642]]
