"""LoRA adapters in the engine: what PyTorch computes, mixed in one batch, loaded and unloaded."""

from __future__ import annotations

import gc
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fledge.core.compiler import find_compiler
from fledge.core.errors import FledgeError, InputError
from fledge.core.protocols import Sampling
from fledge.engine.engine import Engine
from fledge.engine.loading import load_engine
from fledge.engine.native.runner import NativeRunner
from fledge.engine.step import Piece
from fledge.engine.torch_runner import TorchRunner
from fledge.model.checkpoint import load_model, save_model
from fledge.model.lora import lora_layers
from fledge.model.lora_config import LoraConfig
from pico_adapter import KINDS, adapt, write_adapter
from pico_model import write_pico_model
from pico_shapes import SHAPES, decoder, shape

native = pytest.mark.skipif(find_compiler() is None, reason="needs a C++ compiler")

IDS = tuple(np.random.default_rng(1).integers(0, 300, 37).tolist())
GREEDY = Sampling(max_new_tokens=12)


def piece(tokens: tuple[int, ...], key: str = "", block: int = 0, start: int = 0) -> Piece:
    return Piece(
        sequence=block,
        tokens=tokens,
        start=start,
        blocks=tuple(range(block, block + 8)),
        wants_logits=True,
        scope=(key,) if key else (),
        logits_from=-len(tokens),
    )


@native
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", sorted(SHAPES))
def test_native_adapters_compute_what_torch_does(name: str, kind: str, tmp_path: Path) -> None:
    save_model(decoder(shape(name)), tmp_path / "base")
    folder = write_adapter(tmp_path / "base", tmp_path / "adapter", KINDS[kind])
    model = adapt(load_model(tmp_path / "base"), KINDS[kind], 0)
    with torch.no_grad():
        expected = model(torch.tensor([IDS]))[0].numpy()
        plain = load_model(tmp_path / "base")(torch.tensor([IDS]))[0].numpy()
    runner = NativeRunner(tmp_path / "base", blocks=16, block_size=8, weights="float32", threads=2)
    held = runner.add_adapter("a", folder)
    found = runner.step([piece(IDS, "a"), piece(IDS, block=8)])
    assert np.abs(expected - plain).max() > 0.02
    np.testing.assert_allclose(found[: len(IDS)], expected, atol=1e-4, rtol=0)
    np.testing.assert_allclose(found[len(IDS) :], plain, atol=1e-4, rtol=0)
    del held


@native
@pytest.mark.parametrize("weights", ["bfloat16", "int8"])
def test_adapters_stay_exact_beside_small_weights(weights: Any, tmp_path: Path) -> None:
    """The change that an adapter makes is computed in float32, whatever it is added to."""
    write_pico_model(tmp_path)
    base = tmp_path / "sft" / "model"
    folder = write_adapter(base, tmp_path / "adapter", KINDS["lora"])
    runner = NativeRunner(base, blocks=16, block_size=8, weights=weights, threads=1)
    held = runner.add_adapter("a", folder)
    found = runner.step([piece(IDS, "a")])
    with torch.no_grad():
        expected = adapt(load_model(base), KINDS["lora"], 0)(torch.tensor([IDS]))[0].numpy()
    error = np.abs(found - expected).mean() / np.abs(expected).mean()
    assert error < (0.01 if weights == "bfloat16" else 0.05)
    del held


def test_an_adapted_head_is_part_of_it(tmp_path: Path) -> None:
    (name,) = [name for name in sorted(SHAPES) if not shape(name).tied][:1]
    save_model(decoder(shape(name)), tmp_path / "base")
    config = LoraConfig(rank=4, targets=("lm_head", "q_proj"))
    folder = write_adapter(tmp_path / "base", tmp_path / "adapter", config)
    with torch.no_grad():
        expected = adapt(load_model(tmp_path / "base"), config, 0)(torch.tensor([IDS]))[0].numpy()
    runners: list[Any] = [TorchRunner(load_model(tmp_path / "base"), blocks=8, block_size=8)]
    if find_compiler() is not None:
        runners.append(NativeRunner(tmp_path / "base", blocks=8, block_size=8, weights="float32"))
    for runner in runners:
        held = runner.add_adapter("a", folder)
        found = runner.step([piece(IDS, "a")])
        np.testing.assert_allclose(found, expected, atol=1e-4, rtol=0)
        del held


@pytest.fixture(params=[pytest.param("native", marks=native), "torch"])
def engine(request: pytest.FixtureRequest, pico: Path) -> Engine:
    return load_engine(pico, runner=request.param)


@pytest.fixture(scope="module")
def pico(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pico_model(tmp_path_factory.mktemp("pico"))


@pytest.fixture(scope="module")
def adapter(pico: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("adapters")
    for seed, (name, config) in enumerate(KINDS.items()):
        write_adapter(pico / "model", folder / name, config, seed)
    return lambda name: folder / name


PROMPTS = [[5, 9, 100 + n, 42] * (n % 3 + 1) for n in range(10)]


def test_adapters_mix_in_a_batch(engine: Engine, adapter: Callable[[str], Path]) -> None:
    """Each request is answered as alone, to the token, whatever its neighbours have."""
    for name in KINDS:
        engine.adapters.load(name, adapter(name))
    names = ["", *KINDS, "", *reversed(KINDS)]
    together = engine.generate(PROMPTS, GREEDY, adapter=names)
    alone = [
        engine.generate([prompt], GREEDY, adapter=name)[0]
        for prompt, name in zip(PROMPTS, names, strict=True)
    ]
    assert [one.token_ids for one in together] == [one.token_ids for one in alone]
    plain = engine.generate(PROMPTS, GREEDY)
    differing = sum(a.token_ids != b.token_ids for a, b in zip(plain, together, strict=True))
    assert differing >= 6


def test_it_answers_as_the_merged_model(
    engine: Engine, adapter: Callable[[str], Path], pico: Path
) -> None:
    engine.adapters.load("d", adapter("dora"))
    seed = list(KINDS).index("dora")
    model = adapt(load_model(pico / "model"), KINDS["dora"], seed)
    ids = [5, 9, 100, 42, 7, 7, 3]
    with torch.no_grad():
        logp = model(torch.tensor([ids]))[0].log_softmax(-1)
    expected = [float(logp[n, token]) for n, token in enumerate(ids[1:])]
    assert engine.logprobs(ids, adapter="d") == pytest.approx(expected, abs=1e-4)
    assert engine.logprobs(ids) != pytest.approx(expected, abs=1e-3)


def test_remembered_blocks_are_not_shared_between_adapters(
    engine: Engine, adapter: Callable[[str], Path]
) -> None:
    engine.adapters.load("a", adapter("lora"))
    prompt = list(range(5, 75))
    first = engine.generate([prompt], GREEDY)[0]
    other = engine.generate([prompt], GREEDY, adapter="a")[0]
    again = engine.generate([prompt], GREEDY, adapter="a")[0]
    assert (first.cached_tokens, other.cached_tokens) == (0, 0)
    assert again.cached_tokens == 64
    assert again.token_ids == other.token_ids != first.token_ids


def test_a_name_loaded_anew_is_another_adapter(
    engine: Engine, adapter: Callable[[str], Path]
) -> None:
    prompt = list(range(5, 75))
    engine.adapters.load("a", adapter("lora"))
    first = engine.generate([prompt], GREEDY, adapter="a")[0]
    engine.adapters.unload("a")
    with pytest.raises(InputError, match="'a' is not loaded"):
        engine.generate([prompt], GREEDY, adapter="a")
    engine.adapters.load("a", adapter("dora"))
    second = engine.generate([prompt], GREEDY, adapter="a")[0]
    assert second.cached_tokens == 0
    assert second.token_ids != first.token_ids


def test_requests_under_way_keep_what_was_unloaded(
    engine: Engine, adapter: Callable[[str], Path]
) -> None:
    engine.adapters.load("a", adapter("lora"))
    whole = engine.generate([PROMPTS[0]], GREEDY, adapter="a")[0]
    stream = engine.stream(PROMPTS[0], GREEDY, adapter="a")
    drawn = [next(stream).id]
    engine.adapters.unload("a")
    gc.collect()
    drawn += [token.id for token in stream]
    assert tuple(drawn[: len(whole.token_ids)]) == whole.token_ids
    del stream
    gc.collect()
    assert not len(engine.runner._adapters if hasattr(engine.runner, "_adapters") else [])


def test_a_hundred_adapters_come_and_go(engine: Engine, adapter: Callable[[str], Path]) -> None:
    expected: dict[str, tuple[int, ...] | None] = dict.fromkeys(KINDS)  # whatever came before
    for turn in range(100):
        name = list(KINDS)[turn % len(KINDS)]
        engine.adapters.load("x", adapter(name))
        answer = engine.generate([PROMPTS[1]], Sampling(max_new_tokens=3), adapter="x")[0].token_ids
        engine.adapters.unload("x")
        assert expected[name] in (None, answer)
        expected[name] = answer
    assert engine.adapters.names == ()


def test_bad_adapters_are_refused(
    engine: Engine, adapter: Callable[[str], Path], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="'nobody' is not loaded"):
        engine.generate([[5]], GREEDY, adapter="nobody")
    engine.adapters.load("a", adapter("lora"))
    with pytest.raises(InputError, match="'a' is loaded already"):
        engine.adapters.load("a", adapter("dora"))
    with pytest.raises(InputError, match="no name"):
        engine.adapters.load("", adapter("dora"))
    with pytest.raises(FledgeError, match="adapter"):
        engine.adapters.load("gone", tmp_path / "nothing")
    other = write_pico_model(tmp_path / "other", depth=3, vocab_size=400)
    write_adapter(other / "model", tmp_path / "foreign", KINDS["lora"])
    with pytest.raises(InputError, match="has no place in the model"):
        engine.adapters.load("foreign", tmp_path / "foreign")
    shutil.copytree(adapter("lora"), tmp_path / "rank")
    settings = tmp_path / "rank" / "adapter_config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "r": 5}))
    with pytest.raises(InputError, match=r"has shape \(4, \d+\)"):
        engine.adapters.load("rank", tmp_path / "rank")
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "bias": "all"}))
    with pytest.raises(InputError, match="bias = 'all' is not supported"):
        engine.adapters.load("bias", tmp_path / "rank")
    assert engine.adapters.names == ("a",)
    assert engine.generate([[5]], GREEDY, adapter="a")


def test_adapters_leave_the_model_itself_alone(pico: Path, adapter: Callable[[str], Path]) -> None:
    engine = load_engine(pico, runner="torch")
    before = {name: tensor.clone() for name, tensor in engine.model.state_dict().items()}
    learns = [one.requires_grad for one in engine.model.parameters()]
    engine.adapters.load("a", adapter("dora"))
    engine.generate([[5]], GREEDY, adapter="a")
    assert not lora_layers(engine.model)
    assert [one.requires_grad for one in engine.model.parameters()] == learns
    after = engine.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


@native
def test_a_closed_runner_outlives_its_adapters(pico: Path, adapter: Callable[[str], Path]) -> None:
    runner = NativeRunner(pico, blocks=8, block_size=8, threads=1)
    held = runner.add_adapter("a", adapter("lora"))
    runner.close()
    del held
    gc.collect()
    again = NativeRunner(pico, blocks=8, block_size=8, threads=1)
    with pytest.raises(InputError, match="an adapter is not loaded"):
        again.step([piece(IDS, "a")])
