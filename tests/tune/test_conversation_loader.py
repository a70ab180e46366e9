"""Conversations share rows, every one once an epoch, and never see each other."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fledge.core.errors import InputError
from fledge.data.conversations import Rendered
from fledge.model.config import ModelConfig
from fledge.model.decoder import Decoder
from fledge.train.batch import PADDING
from fledge.train.loader import PackedLoader
from fledge.train.objective import token_losses
from fledge.train.shards import TokenShards
from fledge.tune.loader import ConversationLoader
from fledge.tune.material import fit
from fledge.tune.packing import pack
from fledge.tune.practice import PractisedLoader
from pico_shards import VOCAB, pattern_shards


def rendered(length: int, seed: int) -> Rendered:
    """A conversation of random ids; its second half is the answer."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, VOCAB, (length,), generator=generator).tolist()
    mask = [i >= length // 2 for i in range(length)]
    return Rendered(ids=ids, mask=mask, turns=[length])


@given(
    lengths=st.lists(st.integers(1, 20), max_size=60),
    capacity=st.integers(20, 40),
    seed=st.randoms(use_true_random=False),
)
@settings(max_examples=100, deadline=None)
def test_rows_hold_every_item_once_and_never_too_much(
    lengths: list[int], capacity: int, seed: object
) -> None:
    order = list(range(len(lengths)))
    shuffled = sorted(order, key=lambda _: seed.random())  # type: ignore[attr-defined]
    rows = pack(lengths, shuffled, capacity)
    assert sorted(item for row in rows for item in row) == order
    loads = [sum(lengths[item] for item in row) for row in rows]
    assert all(load <= capacity for load in loads)
    # However the order, the same number of rows; and no two of them could be one.
    assert sorted(loads) == sorted(
        sum(lengths[item] for item in row) for row in pack(lengths, order, capacity)
    )
    smallest = sorted(loads)[:2]
    assert len(smallest) < 2 or sum(smallest) > capacity


def test_an_item_longer_than_a_row_is_refused() -> None:
    with pytest.raises(ValueError, match="item 1 has length 9, a row holds 8"):
        pack([3, 9], [0, 1], 8)


def loader(count: int = 30, *, epochs: float | None = 1, **options: object) -> ConversationLoader:
    conversations = [rendered(2 + (7 * i) % 15, seed=i) for i in range(count)]
    settings = {"context": 16, "batch_rows": 4, "seed": 3, "fill": 0, "epochs": epochs, **options}
    return ConversationLoader(conversations, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("epochs", [1, 3])
def test_every_conversation_occurs_once_an_epoch(epochs: int) -> None:
    batches = loader(epochs=epochs)
    assert batches.steps is not None
    seen: Counter[int] = Counter()
    for step in range(batches.steps):
        batch = batches[step]
        assert all(part.shape == (4, 16) for part in batch[:4])
        assert (batch.weights.sum() > 0).item()
        for row in range(4):
            for item in batch.segments[row].unique().tolist():
                if item == PADDING:
                    continue
                places = batch.segments[row] == item
                item %= len(batches.conversations)  # numbered on from epoch to epoch
                conversation = batches.conversations[item]
                assert batch.ids[row][places].tolist() == conversation.ids[:-1]
                assert batch.targets[row][places].tolist() == conversation.ids[1:]
                assert batch.weights[row][places].tolist() == conversation.mask[1:]
                seen[item] += 1
        assert (batch.weights[batch.segments == PADDING] == 0).all()
    assert seen == Counter(dict.fromkeys(range(30), epochs))


def test_any_batch_can_be_had_at_once() -> None:
    through = [loader(epochs=None)[step] for step in range(20)]
    fresh = loader(epochs=None)
    for step in (19, 0, 11):
        for ours, theirs in zip(through[step][:4], fresh[step][:4], strict=True):
            assert torch.equal(ours, theirs)
    assert loader(seed=4).fingerprint() != loader().fingerprint() == fresh_fingerprint()


def fresh_fingerprint() -> str:
    return loader().fingerprint()


def test_packed_conversations_do_not_see_each_other() -> None:
    config = ModelConfig(
        vocab_size=VOCAB, width=32, depth=2, heads=2, kv_heads=1, head_size=16, ffn=48, context=16
    )
    model = Decoder(config).initialize(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
        packed = loader()
        alone = 0.0
        for conversation in packed.conversations:
            batch = ConversationLoader(
                [conversation], context=16, batch_rows=1, seed=0, fill=0, epochs=1
            )[0]
            alone += float((token_losses(model, batch) * batch.weights).sum())
        together = sum(
            float((token_losses(model, packed[step]) * packed[step].weights).sum())
            for step in range(packed.steps or 0)
        )
    assert together == pytest.approx(alone, rel=1e-5)


def test_practice_comes_first_and_once() -> None:
    own = loader(20, epochs=2)
    practice = [rendered(5 + i % 7, seed=100 + i) for i in range(9)]
    both = PractisedLoader(practice, own, batch_rows=3, fill=0)
    assert (
        both.practised
        == ConversationLoader(practice, context=16, batch_rows=3, seed=3, fill=0, epochs=1).steps
    )
    assert both.steps == both.practised + (own.steps or 0)
    segments: list[set[int]] = [set(), set()]
    for step in range(both.steps):
        found = set(both[step].segments.unique().tolist()) - {PADDING}
        segments[step >= both.practised] |= found
        if step >= both.practised:
            assert torch.equal(both[step].ids, own[step - both.practised].ids)
    assert len(segments[0]) == len(practice)
    assert not segments[0] & segments[1]
    assert PractisedLoader(practice[1:], own, 3, 0).fingerprint() != both.fingerprint()
    assert both.fingerprint() != own.fingerprint()
    assert PractisedLoader(practice, loader(epochs=None), 3, 0).steps is None


def test_replay_fills_its_share_of_every_batch(tmp_path: Path) -> None:
    text = PackedLoader(
        TokenShards(pattern_shards(tmp_path), "train"), context=16, batch_rows=2, seed=3
    )
    batches = loader(batch_rows=6, replay=text, replay_rows=2)
    plain = loader(batch_rows=4)
    assert batches.steps == plain.steps
    seen: set[int] = set()
    for step in range(batches.steps or 0):
        mixed, own, other = batches[step], plain[step], text[step]
        for part in ("ids", "targets", "weights"):
            both = torch.cat([getattr(own, part), getattr(other, part)])
            assert torch.equal(getattr(mixed, part), both)
        assert torch.equal(mixed.segments[:4], own.segments)
        for ours, theirs in zip(mixed.segments[4:].tolist(), other.segments.tolist(), strict=True):
            pairs = set(zip(ours, theirs, strict=True))
            assert len(pairs) == len(dict(pairs)) == len(set(theirs))  # only numbered otherwise
            assert {one for one, their in pairs if their == PADDING} <= {PADDING}
        numbers = set(mixed.segments.flatten().tolist()) - {PADDING}
        assert not numbers & seen  # NEFTune draws by them
        seen |= numbers


def test_overlong_conversations_are_dropped_or_cut_at_a_turn() -> None:
    conversation = Rendered(ids=list(range(30)), mask=[True] * 30, turns=[9, 17, 30])
    assert fit(conversation, 29, "drop") is conversation
    assert fit(conversation, 28, "drop") is None
    cut = fit(conversation, 16, "truncate")
    assert cut is not None
    assert (len(cut.ids), len(cut.mask), cut.turns) == (17, 17, [9, 17])
    assert fit(conversation, 7, "truncate") is None


def test_no_conversation_is_an_error() -> None:
    with pytest.raises(InputError, match="no conversation"):
        loader(0)
