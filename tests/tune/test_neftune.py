"""NEFTune: noise of the paper's size, on embeddings, the same however the batch is cut up."""

from __future__ import annotations

import math

import pytest
import torch

from fledge.data.conversations import Rendered
from fledge.model.config import ModelConfig
from fledge.model.decoder import Decoder
from fledge.train.batch import Batch
from fledge.train.objective import cross_entropy
from fledge.tune.loader import ConversationLoader
from fledge.tune.neftune import noisy, segment_lengths, uniform_noise


def loader() -> ConversationLoader:
    generator = torch.Generator().manual_seed(0)
    conversations = []
    for length in (5, 9, 3, 12, 7, 4):
        ids = torch.randint(0, 50, (length,), generator=generator).tolist()
        conversations.append(Rendered(ids=ids, mask=[True] * length, turns=[length]))
    return ConversationLoader(conversations, context=16, batch_rows=4, seed=1, fill=0)


def model() -> Decoder:
    torch.manual_seed(0)
    config = ModelConfig(
        vocab_size=50, width=32, depth=1, heads=2, kv_heads=1, head_size=16, ffn=48, context=16
    )
    decoder = Decoder(config).initialize(0)
    with torch.no_grad():
        for weight in decoder.parameters():
            weight += 0.05 * torch.randn(weight.shape)
    return decoder


def test_the_noise_is_uniform_and_independent() -> None:
    segments = torch.arange(64)[:, None].expand(64, 32) // 2 + 7
    noise = uniform_noise(segments, 64, seed=3)  # 131,072 draws
    assert noise.min() >= -1
    assert noise.max() < 1
    assert abs(noise.mean()) < 4 * math.sqrt(1 / 3 / noise.numel())
    assert noise.var() == pytest.approx(1 / 3, rel=0.02)
    counts = torch.histc(noise, bins=64, min=-1, max=1)
    expected = noise.numel() / 64
    assert float(((counts - expected) ** 2 / expected).sum()) < 120  # chi-square, 63 degrees
    for dim in (0, 1, 2):  # neighbours in segment, place and dimension
        step = 2 if dim == 0 else 1
        first = noise.narrow(dim, 0, noise.shape[dim] - step).flatten()
        then = noise.narrow(dim, step, noise.shape[dim] - step).flatten()
        correlation = torch.corrcoef(torch.stack([first, then]))[0, 1]
        assert abs(float(correlation)) < 0.015


def test_lengths_are_those_of_the_conversations() -> None:
    segments = torch.tensor([[4, 4, 4, 9, 9, -1], [7, 7, 7, 7, 7, 7]])
    assert segment_lengths(segments).tolist() == [[3, 3, 3, 2, 2, 1], [6] * 6]


def test_the_noise_has_the_size_of_the_paper() -> None:
    """eq. 1: alpha / sqrt(L D) times uniform noise is added to the embeddings."""
    seen: list[torch.Tensor] = []

    def spy(decoder: Decoder, batch: Batch) -> torch.Tensor:
        seen.append(decoder.hidden(batch.ids, batch.segments))
        return seen[-1].sum()

    decoder, batch = model(), loader()[0]
    noise = uniform_noise(batch.segments, 32, seed=1)
    scale = 5.0 / torch.sqrt(segment_lengths(batch.segments) * 32)
    embedded = decoder.embed(batch.ids) + noise * scale[..., None]
    noisy(spy, 5.0, seed=1)(decoder, batch)
    torch.testing.assert_close(
        seen[0], decoder.hidden(batch.ids, batch.segments, embedded=embedded)
    )


def test_the_loss_does_not_depend_on_how_a_batch_is_cut_up() -> None:
    decoder, batch = model(), loader()[0]
    objective = noisy(cross_entropy(), 5.0, seed=1)
    whole = objective(decoder, batch)
    pieces = sum(objective(decoder, piece) for piece in batch.micro(1))
    torch.testing.assert_close(pieces, whole, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(whole, cross_entropy()(decoder, batch), rtol=1e-4)
    assert noisy(cross_entropy(), 0.0, seed=1)(decoder, batch) == cross_entropy()(decoder, batch)


def test_each_epoch_draws_anew() -> None:
    batches = loader()
    first = {int(s) for s in batches[0].segments.unique()} - {-1}
    later = {int(s) for s in batches[40].segments.unique()} - {-1}
    assert not first & later
    segment = torch.full((1, 16), min(first))
    other = torch.full((1, 16), min(first) + 6)  # the same conversation in the next epoch
    assert not torch.equal(uniform_noise(segment, 32, 1), uniform_noise(other, 32, 1))
    assert torch.equal(uniform_noise(segment, 32, 1), uniform_noise(segment, 32, 1))
