"""Answers drawn for all requests at once: each is its request's own, and drawn from the model."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import pytest
import torch

from fledge.core.errors import FledgeError
from fledge.engine.bulk import Bulk, Drawn, Wanted
from fledge.engine.engine import Engine
from fledge.engine.loading import load_engine
from fledge.model.checkpoint import load_model
from pico_model import write_pico_model


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pico_model(tmp_path_factory.mktemp("run"))


@pytest.fixture(params=["native", "torch"])
def engine(stage: Path, request: pytest.FixtureRequest) -> Engine:
    return load_engine(stage, runner=request.param, threads=1)


PROMPTS = [list(range(10, 10 + n)) for n in (3, 17, 32, 40)]


def requests(count: int, n: int, tokens: int = 12) -> list[Wanted]:
    return [
        Wanted(prompt=PROMPTS[place % 4], tokens=tokens, seed=100 + place, n=n)
        for place in range(count)
    ]


def plain(groups: list[list[Drawn]]) -> list[list[list[int]]]:
    return [[one.tokens for one in group] for group in groups]


def test_an_answer_depends_on_its_request_alone(engine: Engine) -> None:
    together = plain(Bulk(engine, 1.0).draw(requests(8, 5)))
    alone = [plain(Bulk(engine, 1.0).draw([one]))[0] for one in requests(8, 5)]
    assert together == alone
    assert len({tuple(one) for group in together for one in group}) > 30
    bulk = Bulk(engine, 1.0)  # what it remembers changes nothing
    assert plain(bulk.draw(requests(8, 5))) == plain(bulk.draw(requests(8, 5)))


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_log_probabilities_are_the_models(engine: Engine, stage: Path, temperature: float) -> None:
    model = load_model(stage)
    for one, group in zip(
        requests(4, 3), Bulk(engine, temperature).draw(requests(4, 3)), strict=True
    ):
        for drawn in group:
            ids = torch.tensor([[*one.prompt, *drawn.tokens]])
            with torch.no_grad():
                logits = model(ids)[0, len(one.prompt) - 1 : -1, : engine.vocabulary]
            wanted = (logits / temperature).log_softmax(-1)
            wanted = wanted.gather(-1, torch.tensor(drawn.tokens)[:, None]).squeeze(-1)
            found = torch.tensor(drawn.logprobs)
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_answers_end_at_a_stop_token_or_their_limit(engine: Engine) -> None:
    groups = Bulk(engine, 3.0).draw(requests(4, 40, tokens=20))
    drawn = [one for group in groups for one in group]
    assert {one.stopped for one in drawn} == {True, False}
    for one in drawn:
        assert one.stopped == (one.tokens[-1] in engine.stop_ids)
        assert not engine.stop_ids & set(one.tokens[:-1])
        assert one.stopped or len(one.tokens) == 20
        assert len(one.logprobs) == len(one.tokens)


def test_tokens_come_as_often_as_the_model_says(engine: Engine, stage: Path) -> None:
    prompt, draws = PROMPTS[0], 4000
    (group,) = Bulk(engine, 1.0).draw([Wanted(prompt=prompt, tokens=1, seed=1, n=draws)])
    with torch.no_grad():
        logits = load_model(stage)(torch.tensor([prompt]))[0, -1, : engine.vocabulary]
    p = logits.softmax(-1)
    counts = Counter(one.tokens[0] for one in group)
    for token in p.topk(8).indices.tolist():
        expected = draws * float(p[token])
        assert abs(counts[token] - expected) < 5 * math.sqrt(expected) + 1


def test_few_blocks_only_take_longer(stage: Path) -> None:
    """Sequences that have no room wait or are computed again: the answers are the same."""
    from fledge.engine.torch_runner import TorchRunner

    model = load_model(stage)
    wide = load_engine(stage, runner="torch", threads=1)
    narrow = Engine(TorchRunner(model, blocks=9, block_size=8), wide.tokenizer, model.config)
    asked = requests(4, 6, tokens=20)
    assert plain(Bulk(narrow, 1.0).draw(asked)) == plain(Bulk(wide, 1.0).draw(asked))


def test_broken_weights_are_an_error(stage: Path) -> None:
    from fledge.engine.torch_runner import TorchRunner

    model = load_model(stage)
    with torch.no_grad():
        model.norm.weight.fill_(float("nan"))
    tokenizer = load_engine(stage, runner="torch").tokenizer
    engine = Engine(TorchRunner(model, blocks=40, block_size=8), tokenizer, model.config)
    with pytest.raises(FledgeError, match="no numbers"):
        Bulk(engine, 1.0).draw(requests(1, 1))
