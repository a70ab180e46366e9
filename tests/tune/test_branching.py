"""A rollout laid out with shared prompts: the loss and gradients of one answer a row, in less."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
import pytest
import torch

from fledge.model.config import ModelConfig
from fledge.model.decoder import Decoder
from fledge.train.batch import Batch
from fledge.tune.branching import LaidOut, lay_out
from fledge.tune.experience import Experience
from fledge.tune.policy_log_probs import score_batch
from fledge.tune.reinforce_config import GrpoConfig
from fledge.tune.reinforce_objective import Tally, counted, reinforce_objective

VOCAB = 40

LENGTHS = [(6, 3), (6, 5), (6, 1), (6, 4), (1, 4), (1, 2), (4, 7)]
"""Tokens of prompt and answer; answers to one prompt stand together."""


def model() -> Decoder:
    shape = ModelConfig(
        vocab_size=VOCAB, width=16, depth=2, heads=2, kv_heads=1, ffn=24, context=24
    )
    decoder = Decoder(shape)
    generator = torch.Generator().manual_seed(1)
    for weight in decoder.parameters():
        if weight.ndim == 2:
            weight.data.copy_(torch.randn(weight.shape, generator=generator) * 0.3)
    return decoder


def experience() -> Experience:
    chance = np.random.Generator(np.random.PCG64(3))
    prompts = {size: chance.integers(1, VOCAB, size).tolist() for size in (6, 1, 4)}
    ids = [prompts[p] + chance.integers(1, VOCAB, a).tolist() for p, a in LENGTHS]
    learnt = [[False] * p + [True] * a for p, a in LENGTHS]
    learnt[1][8] = False  # what a tool said
    size = sum(map(len, ids))
    signals = {
        name: chance.normal(size=size).astype(np.float32)
        for name in ("old", "reference", "advantage", "drawn")
    }
    signals["old"] -= 3.0
    signals["kl_weight"] = np.full(size, 0.1, np.float32)
    return Experience(
        ids=np.array(list(chain(*ids)), np.int32),
        learnt=np.array(list(chain(*learnt)), np.bool_),
        lengths=np.array([len(one) for one in ids], np.int32),
        rewards=np.zeros(len(ids), np.float32),
        truncated=np.zeros(len(ids), np.bool_),
        signals=signals,
    )


def gradients(
    decoder: Decoder, batches: Sequence[Batch], config: GrpoConfig
) -> tuple[float, dict[str, torch.Tensor]]:
    decoder.zero_grad()
    objective = reinforce_objective(config, Tally())
    losses = [objective(decoder, piece) for batch in batches for piece in batch.micro(1)]
    sum(losses).backward()  # type: ignore[union-attr]
    found = {n: p.grad.clone() for n, p in decoder.named_parameters() if p.grad is not None}
    return sum(float(loss.detach()) for loss in losses), found


def laid(room: int, answers: Sequence[int] = range(len(LENGTHS))) -> LaidOut:
    drawn = experience()
    return lay_out(drawn, answers, drawn.learnt.astype(np.float32), 0, room)


@pytest.mark.parametrize("room", [1, 12, 100])
@pytest.mark.parametrize("ratio", ["token", "answer"])
def test_loss_and_gradients_are_those_of_one_answer_a_row(room: int, ratio: str) -> None:
    changes = {"batch_rows": 8, "kl_weight": 0.1, "entropy_weight": 0.1, "ratio": ratio}
    config, decoder = GrpoConfig.model_validate(changes), model()
    shared = laid(room).batch
    single = [laid(1, [answer]).batch for answer in range(len(LENGTHS))]
    assert all((batch.continues == -1).all() for batch in single if batch.continues is not None)
    plain = [batch._replace(continues=None) for batch in single]
    loss, found = gradients(decoder, [shared], config)
    expected, wanted = gradients(decoder, plain, config)
    assert loss == pytest.approx(expected, rel=1e-5)
    for name, gradient in wanted.items():
        assert (found[name] - gradient).abs().max() <= 1e-5 * gradient.abs().max(), name
    assert counted(config)(shared) == sum(counted(config)(batch) for batch in single)


def test_a_prompt_is_read_once() -> None:
    batch = laid(100).batch
    # Five tokens shared by four answers; a prompt of one token shares nothing; one answer alone.
    assert int((batch.segments >= 0).sum()) == 5 + (3 + 5 + 1 + 4) + (4 + 2) + 10
    assert batch.ids.shape[0] == 1


def test_families_too_large_for_a_row_are_cut() -> None:
    batch = laid(14).batch
    assert batch.ids.shape[1] <= 14
    assert int((batch.weights > 0).sum()) == int(experience().learnt.sum())


def test_scores_go_back_to_their_tokens() -> None:
    decoder, drawn = model(), experience()
    for room in (1, 14, 100):
        placed = laid(room)
        found = placed.flat(score_batch(decoder, placed.batch, 1.0), drawn)
        for start, length in zip(drawn.starts, drawn.lengths, strict=True):
            ids = torch.from_numpy(drawn.ids[start : start + length]).long()
            with torch.no_grad():
                scores = decoder(ids[None])[0, :-1].log_softmax(-1)
            wanted = scores.gather(-1, ids[1:, None]).squeeze(-1).numpy()
            wanted = wanted * drawn.learnt[start + 1 : start + length]
            np.testing.assert_allclose(found[start + 1 : start + length], wanted, atol=1e-5)


def test_answers_that_do_not_count_are_left_out() -> None:
    drawn = experience()
    weights = drawn.learnt.astype(np.float32)
    weights[drawn.starts[0] : drawn.starts[4]] = 0.0  # the first prompt's
    batch = lay_out(drawn, range(len(LENGTHS)), weights, 0, 100).batch
    assert int((batch.segments >= 0).sum()) == (4 + 2) + 10
