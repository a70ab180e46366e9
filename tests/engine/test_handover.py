"""The engine over a model in training: always the weights as they are, none of before."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fledge.core.protocols import Sampling
from fledge.engine.handover import LiveEngine, tensors_of
from fledge.engine.native.library import load_library
from fledge.model.checkpoint import load_model
from fledge.model.decoder import Decoder
from fledge.tokenizer.tokenizer import Tokenizer
from pico_model import write_pico_model


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pico_model(tmp_path_factory.mktemp("run"))


def trained_a_little(model: Decoder, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator) * 0.05)


@pytest.mark.parametrize("runner", ["native", "torch"])
def test_log_probabilities_follow_the_weights(stage: Path, runner: str) -> None:
    if runner == "native":
        load_library()
    model, tokenizer = load_model(stage).train(), Tokenizer.load(stage / "model")
    live = LiveEngine(model, tokenizer, runner=runner, threads=1)  # type: ignore[arg-type]
    assert live.runner == runner
    ids = tokenizer.encode("The Golden Gate Bridge opened in 1937; its span is 1280 metres.")
    seen = []
    for seed in range(3):
        trained_a_little(model, seed)
        found = torch.tensor(live.engine().logprobs(ids))
        with torch.no_grad():
            scores = model(torch.tensor([ids]))[0, :-1].log_softmax(-1)
        wanted = scores.gather(-1, torch.tensor(ids)[1:, None]).squeeze(-1)
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
        seen.append(found)
    assert (seen[0] - seen[1]).abs().max() > 1e-2


def test_a_prompt_asked_before_is_not_remembered_from_older_weights(stage: Path) -> None:
    model, tokenizer = load_model(stage).train(), Tokenizer.load(stage / "model")
    live = LiveEngine(model, tokenizer, threads=1)
    prompt = tokenizer.encode("The Golden Gate Bridge opened in 1937; its span is 1280 metres." * 2)
    how = Sampling(max_new_tokens=8)
    live.engine().generate([prompt], how)
    trained_a_little(model, 9)
    after = live.engine().generate([prompt], how)[0]
    fresh = LiveEngine(model, tokenizer, threads=1).engine().generate([prompt], how)[0]
    assert after.cached_tokens == 0
    assert after.token_ids == fresh.token_ids


def test_the_weights_are_shared_not_copied(stage: Path) -> None:
    model = load_model(stage)
    stored = tensors_of(model)
    pointers = {one.numbers.ctypes.data for one in stored.values()}
    assert pointers == {weight.data_ptr() for weight in model.parameters()}


def test_what_stands_beside_the_model_is_no_weight_of_it(stage: Path) -> None:
    model = load_model(stage)
    before = set(tensors_of(model))
    model.value_head = torch.nn.Linear(4, 1)
    assert set(tensors_of(model)) == before
