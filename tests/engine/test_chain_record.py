"""What the chain reports of a token: log-probabilities and the record of ``inspect``."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from fledge.engine.chain.sampler import Sampler
from fledge.engine.chain.settings import Settings


def some_logits(seed: int, size: int = 200, spread: float = 3.0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(size) * spread).astype(np.float32)


def softmax(logits: np.ndarray) -> np.ndarray:
    exact = np.exp(logits.astype(np.float64) - float(logits.max()))
    return exact / exact.sum()


def test_logprobs_before_and_after() -> None:
    logits = some_logits(8)
    exact = np.log(softmax(logits))
    sampler = Sampler(
        Settings(temperature=0.5, top_k=3, seed=1, logprobs=True, top_logprobs=5), 200
    )
    choice = sampler.choose(logits)
    assert choice.before is not None
    assert choice.after is not None
    assert choice.before.token == pytest.approx(exact[choice.token], abs=1e-5)
    assert [token for token, _ in choice.before.top] == np.argsort(-exact)[:5].tolist()
    np.testing.assert_allclose([p for _, p in choice.before.top], np.sort(exact)[::-1][:5], 1e-5)
    assert [token for token, _ in choice.after.top] == np.argsort(-exact)[:3].tolist()
    assert sum(math.exp(p) for _, p in choice.after.top) == pytest.approx(1)
    assert dict(choice.after.top)[choice.token] == pytest.approx(choice.after.token)
    greedy = Sampler(Settings(logprobs=True), 200).choose(logits)
    assert greedy.after is not None
    assert greedy.after.token == 0


def test_inspection_tells_what_each_step_removed() -> None:
    logits = some_logits(4)
    odds = softmax(logits)
    allowed = np.ones(200, np.bool_)
    allowed[int(logits.argmax())] = False
    sampler = Sampler(
        Settings(
            temperature=0.9,
            top_k=20,
            top_p=0.8,
            presence_penalty=1.0,
            logit_bias={7: -math.inf},
            seed=2,
            inspect=True,
        ),
        200,
    )
    sampler.push(3)
    seen = sampler.choose(logits, allowed).inspection
    assert seen is not None
    names = [step.name for step in seen.steps]
    assert names == ["presence_penalty", "logit_bias", "grammar", "temperature", "top_k", "top_p"]
    presence, bias, grammar, heat, top_k, top_p = seen.steps
    assert (presence.removed, presence.changed, presence.mass) == (0, 1, 0)
    assert (bias.removed, [one.token for one in bias.likeliest]) == (1, [7])
    assert grammar.removed == 1
    assert grammar.likeliest[0].token == logits.argmax()
    assert grammar.mass == pytest.approx(odds.max(), rel=0.1)
    assert (heat.removed, heat.kept) == (0, 198)
    assert (top_k.kept, top_k.removed, len(top_k.likeliest)) == (20, 178, 10)
    assert top_p.kept + top_p.removed == 20
    assert top_p.mass < 0.2
    assert seen.allowed == 199
    assert seen.rank == 1 + int((logits > logits[seen.token]).sum())
    assert seen.model_probability == pytest.approx(odds[seen.token], rel=1e-4)
    assert seen.probability > seen.model_probability
    assert [one.token for one in seen.top] == np.argsort(-logits)[:10].tolist()


def test_inspection_changes_no_draw_and_is_absent_when_off() -> None:
    def run(inspect: bool) -> list[Any]:
        sampler = Sampler(Settings(temperature=1.0, top_p=0.9, seed=3, inspect=inspect), 200)
        return [sampler.choose(some_logits(i)) for i in range(20)]

    plain, watched = run(False), run(True)
    assert [one.token for one in plain] == [one.token for one in watched]
    assert all(one.inspection is None and one.before is None for one in plain)
