"""Log-probabilities without full logits: the same numbers and gradients, and only where asked."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from fledge.model.config import ModelConfig
from fledge.model.decoder import Decoder
from fledge.train.batch import Batch
from fledge.tune import log_probs
from fledge.tune.log_probs import target_log_probs
from fledge.tune.segments import count_segments, paired, segment_sums

VOCAB = 40


def model(**changes: object) -> Decoder:
    shape = ModelConfig(
        vocab_size=VOCAB, width=16, depth=1, heads=2, kv_heads=1, ffn=24, context=24
    )
    decoder = Decoder(shape.model_copy(update=changes))
    generator = torch.Generator().manual_seed(1)
    for weight in decoder.parameters():
        if weight.ndim == 2:
            weight.data.copy_(torch.randn(weight.shape, generator=generator) * 0.3)
    return decoder


def batch() -> Batch:
    generator = torch.Generator().manual_seed(2)
    ids, targets = (torch.randint(1, VOCAB, (2, 24), generator=generator) for _ in range(2))
    segments = torch.tensor([[4] * 6 + [5] * 8 + [-1] * 10, [0] * 5 + [1] * 7 + [8] * 6 + [9] * 6])
    weights = ((segments >= 0) & (torch.arange(24) % 3 > 0)).float()
    return Batch(ids, targets, segments, weights)


def plainly(decoder: Decoder, rows: Batch) -> torch.Tensor:
    """The same with all logits."""
    logits = decoder(rows.ids, rows.segments)
    picked = F.log_softmax(logits, -1).gather(-1, rows.targets[..., None]).squeeze(-1)
    return torch.where(rows.weights != 0, picked, 0.0)


@pytest.mark.parametrize("changes", [{}, {"tied": False}, {"logit_softcap": 3.0}])
@pytest.mark.parametrize("chunk", [1 << 25, 4 * VOCAB * 64])
def test_values_and_gradients_are_those_of_the_full_logits(
    changes: dict[str, object], chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_probs, "CHUNK_BYTES", chunk)
    decoder, rows = model(**changes), batch()
    factors = torch.linspace(-2, 2, rows.ids.numel()).view(rows.ids.shape)
    found = []
    for compute in (target_log_probs, plainly):
        decoder.zero_grad()
        values = compute(decoder, rows)
        (values * factors).sum().backward()
        found.append((values.detach(), {n: p.grad.clone() for n, p in decoder.named_parameters()}))
    (values, gradients), (expected, plain) = found
    torch.testing.assert_close(values, expected, rtol=1e-5, atol=1e-5)
    for name, gradient in plain.items():
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-4, atol=1e-5)


def test_prompts_cost_no_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The output matrix is multiplied by as many tokens as count."""
    rows, seen = batch(), list[int]()
    real = log_probs._capped

    def counted(logits: torch.Tensor, softcap: float) -> torch.Tensor:
        seen.append(logits.shape[0])
        return real(logits, softcap)

    monkeypatch.setattr(log_probs, "_capped", counted)
    with torch.no_grad():
        target_log_probs(model(), rows)
    assert sum(seen) == int((rows.weights > 0).sum())


def test_a_head_that_does_not_learn_gets_no_gradient() -> None:
    decoder, rows = model(tied=False), batch()
    assert decoder.lm_head is not None
    decoder.lm_head.requires_grad_(False)
    target_log_probs(decoder, rows).sum().backward()
    assert decoder.lm_head.weight.grad is None
    assert decoder.embed_tokens.weight.grad is not None


def test_nothing_to_learn_is_zeros_and_still_differentiable() -> None:
    decoder, rows = model(), batch()
    rows = rows._replace(weights=torch.zeros_like(rows.weights))
    values = target_log_probs(decoder, rows)
    assert float(values.detach().abs().sum()) == 0
    values.sum().backward()


def test_sums_of_segments_find_their_pairs() -> None:
    rows = batch()
    values = torch.arange(48.0).view(2, 24)
    sums = segment_sums(values, rows, most=6)
    for row, place, segment in [(0, 0, 4), (0, 1, 5), (1, 0, 0), (1, 1, 1), (1, 2, 8), (1, 3, 9)]:
        mine = (rows.segments[row] == segment) * rows.weights[row]
        assert float(sums.values[row, place]) == float((values[row] * mine).sum())
        assert float(sums.lengths[row, place]) == float(mine.sum())
    assert float(sums.lengths[0, 2:].abs().sum()) == 0
    chosen, rejected = paired(sums.values)
    assert chosen.tolist() == sums.values[:, 0::2].flatten().tolist()
    assert rejected.tolist() == sums.values[:, 1::2].flatten().tolist()
    assert count_segments(rows) == 6
