"""The native runner computes what the torch decoder does, and the same bits in any company."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fledge.core.compiler import find_compiler
from fledge.core.errors import FledgeError, InputError
from fledge.engine.native import build
from fledge.engine.native.rope import rope_table as table_without_torch
from fledge.engine.native.runner import NativeRunner
from fledge.engine.step import Piece
from fledge.model.checkpoint import save_model
from fledge.model.config import ModelConfig, RopeScaling
from fledge.model.rope import rope_table
from pico_shapes import BASE, SHAPES, decoder, shape

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="needs a C++ compiler")

Floats = NDArray[np.float32]

OWN: dict[str, dict[str, Any]] = {
    "softcap": {"logit_softcap": 3.0},
    "no gate, relu2": {"gated": False, "activation": "relu2", "ffn_bias": True},
    "gelu": {"activation": "gelu", "tied": False},
    "gelu_tanh": {"activation": "gelu_tanh"},
    "dynamic": {"rope_scaling": RopeScaling(kind="dynamic", factor=2.0, original_context=32)},
    "odd sizes": {"width": 41, "ffn": 75, "head_size": 6, "heads": 5, "kv_heads": 1},
    "many heads in a group": {"heads": 12, "kv_heads": 1, "head_size": 20},
}
"""Shapes beyond those of ``pico_shapes``: what only fledge's own layout says, and odd sizes."""

EVERY = {**SHAPES, **OWN}
TOKENS = tuple(np.random.default_rng(1).integers(0, 420, 77).tolist())


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The checkpoint of a shape, written once."""
    base = tmp_path_factory.mktemp("models")

    def write(name: str, dtype: str = "float32") -> Path:
        folder = base / f"{name} {dtype}"
        if not folder.is_dir():
            save_model(decoder(config_of(name)), folder, dtype=dtype)
        return folder

    return write


@pytest.fixture(scope="module", params=["float32", "bfloat16", "int8"])
def runner(
    request: pytest.FixtureRequest, folder_of: Callable[..., Path]
) -> Iterator[NativeRunner]:
    folder = folder_of("window in some layers")
    made = NativeRunner(folder, blocks=64, block_size=8, weights=request.param, threads=2)
    yield made
    made.close()


def config_of(name: str) -> ModelConfig:
    return shape(name) if name in SHAPES else ModelConfig(**{**BASE, **OWN[name]})


def piece(
    tokens: tuple[int, ...], blocks: tuple[int, ...], start: int = 0, sequence: int = 0
) -> Piece:
    """All its tokens' logits are wanted."""
    return Piece(
        sequence=sequence,
        tokens=tokens,
        start=start,
        blocks=blocks,
        wants_logits=True,
        logits_from=-len(tokens),
    )


def logits_of(folder: Path, tokens: tuple[int, ...] = TOKENS, **options: Any) -> Floats:
    """After every token, from a runner of its own."""
    made = NativeRunner(folder, blocks=16, **{"threads": 2, **options})
    blocks = tuple(np.random.default_rng(2).permutation(16).tolist())
    found = made.step([piece(tokens, blocks)])
    made.close()
    return found


def torch_logits(name: str, tokens: tuple[int, ...] = TOKENS) -> Floats:
    with torch.inference_mode():
        found: Floats = decoder(config_of(name))(torch.tensor([tokens]))[0].numpy()
    return found


@pytest.mark.parametrize("name", EVERY)
def test_float32_logits_are_those_of_torch(name: str, folder_of: Callable[..., Path]) -> None:
    found = logits_of(folder_of(name), weights="float32")
    assert np.abs(found - torch_logits(name)).max() <= 1e-4


@pytest.mark.parametrize("name", ["qwen3 untied", "llama biases", "odd sizes"])
def test_bfloat16_and_int8_come_close(name: str, folder_of: Callable[..., Path]) -> None:
    exact, folder = torch_logits(name), folder_of(name)
    for weights, cache, share in (
        ("bfloat16", "float32", 0.03),
        ("bfloat16", "bfloat16", 0.04),
        ("int8", "float32", 0.08),
    ):
        off = logits_of(folder, weights=weights, cache=cache) - exact
        assert 0 < np.sqrt(np.square(off).mean()) < share * exact.std(), weights


def test_stored_types_are_read_as_they_are(folder_of: Callable[..., Path]) -> None:
    """bfloat16 files hold what packing float32 in bfloat16 gives; float16 is nearly exact."""
    plain, name = torch_logits("llama"), "llama"
    rounded = logits_of(folder_of(name, "bfloat16"), weights="bfloat16")
    half = logits_of(folder_of(name, "float16"), weights="float32")
    assert np.abs(half - plain).max() < 0.02 * plain.std()
    # Norms are bfloat16 in the one and float32 in the other.
    other = logits_of(folder_of(name), weights="bfloat16")
    assert np.abs(rounded - other).max() < 0.1 * plain.std()


@pytest.mark.parametrize("name", EVERY)
def test_rope_needs_no_torch(name: str) -> None:
    config = config_of(name)
    ours = table_without_torch(config.context, config)
    theirs = rope_table(config.context, config, torch.device("cpu"))
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other.numpy(), atol=2e-5)


@st.composite
def schedules(draw: st.DrawFn) -> list[list[int]]:
    """For 1 to 9 sequences, the lengths of the pieces that each is cut into."""
    cuts = st.lists(st.integers(1, 20), min_size=1, max_size=6)
    return draw(st.lists(cuts, min_size=1, max_size=9))


@given(plan=schedules(), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_company_changes_no_bit(runner: NativeRunner, plan: list[list[int]], seed: int) -> None:
    """Alone in one piece with blocks in order, or cut, batched and scattered: the same logits."""
    random = np.random.default_rng(seed)
    texts = [tuple(random.integers(0, 420, min(sum(cuts), 50)).tolist()) for cuts in plan]
    alone = [runner.step([piece(text, tuple(range(7)))]) for text in texts]
    tables = random.permutation(64)[: 7 * len(texts)].reshape(-1, 7).tolist()
    found: list[list[Floats]] = [[] for _ in texts]
    starts = [0] * len(texts)
    for turn in range(6):
        going = [n for n, cuts in enumerate(plan) if turn < len(cuts) and starts[n] < len(texts[n])]
        pieces = []
        for n in random.permutation(going).tolist():
            part = texts[n][starts[n] : starts[n] + plan[n][turn]]
            pieces.append(piece(part, tuple(tables[n]), starts[n], n))
        logits = runner.step(pieces)
        for one in pieces:
            found[one.sequence].append(logits[: len(one.tokens)])
            logits = logits[len(one.tokens) :]
            starts[one.sequence] += len(one.tokens)
    for before, after in zip(alone, found, strict=True):
        np.testing.assert_array_equal(before, np.concatenate(after))


def test_threads_and_block_sizes_change_no_bit(folder_of: Callable[..., Path]) -> None:
    folder = folder_of("mistral")
    expected = logits_of(folder, threads=1)
    for options in ({"threads": 3}, {"block_size": 5}, {"block_size": 33}):
        np.testing.assert_array_equal(logits_of(folder, **options), expected)


def test_only_wanted_logits_come_back(runner: NativeRunner) -> None:
    whole = runner.step([piece(TOKENS[:20], (1, 2, 3))])
    no = Piece(sequence=0, tokens=TOKENS[:19], start=0, blocks=(4, 5, 6), wants_logits=False)
    last = Piece(sequence=1, tokens=TOKENS[:20], start=0, blocks=(7, 8, 9), wants_logits=True)
    assert runner.step([no]).shape == (0, 420)
    np.testing.assert_array_equal(runner.step([no, last]), whole[-1:])
    np.testing.assert_array_equal(runner.step([piece(TOKENS[19:20], (4, 5, 6), 19)]), whole[-1:])
    assert runner.step([]).shape == (0, 420)


def test_a_copied_block_is_the_same(runner: NativeRunner) -> None:
    whole = runner.step([piece(TOKENS[:9], (1, 2))])
    runner.copy_block(1, 40)
    np.testing.assert_array_equal(runner.step([piece(TOKENS[8:9], (40, 2), 8)]), whole[-1:])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (piece((420,), (0,)), "vocabulary"),
        (piece((-1,), (0,)), "vocabulary"),
        (piece((1,), (0,) * 17, 128), "context"),
        (piece((1,) * 9, (0,)), "too short"),
        (piece((1,), (64,)), "does not exist"),
    ],
)
def test_wrong_steps_are_refused_and_the_runner_goes_on(
    runner: NativeRunner, wrong: Piece, message: str
) -> None:
    before = runner.step([piece(TOKENS[:5], (3,))])
    with pytest.raises(InputError, match=message):
        runner.step([piece(TOKENS[:5], (3,)), wrong])
    np.testing.assert_array_equal(runner.step([piece(TOKENS[:5], (3,))]), before)
    with pytest.raises(InputError, match="block 64"):
        runner.copy_block(64, 0)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("llama", {"num_hidden_layers": 3}, "model.layers.2.* is missing"),
        ("llama", {"intermediate_size": 97}, "has shape"),
        ("llama biases", {"mlp_bias": False}, "nothing that config.json describes"),
    ],
)
def test_checkpoints_that_do_not_fit_are_refused(
    name: str, change: dict[str, Any], message: str, folder_of: Callable[..., Path], tmp_path: Path
) -> None:
    shutil.copytree(folder_of(name), tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=message):
        NativeRunner(tmp_path / "model", blocks=4)
    with (tmp_path / "model" / "model.safetensors").open("r+b") as file:
        file.truncate(5000)
    with pytest.raises(InputError, match="cut short"):
        NativeRunner(tmp_path / "model", blocks=4)


def test_it_starts_without_torch(folder_of: Callable[..., Path]) -> None:
    script = (
        "import sys; from fledge.engine.native import NativeRunner; "
        "from fledge.engine.step import Piece; "
        f"runner = NativeRunner({str(folder_of('qwen3'))!r}, blocks=4); "
        "runner.step([Piece(sequence=0, tokens=(1, 2), start=0, blocks=(0,), wants_logits=True)]); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_without_a_compiler_it_says_so(
    folder_of: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(InputError, match=r"needs a C\+\+ compiler.*install"):
        build.library_path()


def fake_compiler(folder: Path, script: str) -> str:
    """A program that stands for a compiler: it knows its version, and logs that it was called."""
    path = folder / "fake-c++"
    path.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && exit 0\necho x >> {folder}/calls\n{script}\n'
    )
    path.chmod(0o755)
    return str(path)


WRITES = 'sleep 0.3\nwhile [ "$1" != -o ]; do shift; done\necho library > "$2"'


def test_two_processes_build_once(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "CXX": fake_compiler(tmp_path, WRITES),
        "FLEDGE_HOME": str(tmp_path),
    }
    command = [
        sys.executable,
        "-c",
        "from fledge.engine.native.build import library_path as path; print(path().read_text())",
    ]
    both = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [process.communicate()[0].strip() for process in both] == ["library"] * 2
    assert (tmp_path / "calls").read_text() == "x\n"
    assert not list((tmp_path / "compiled").glob("*.tmp"))


def test_a_compiler_that_fails_is_told_with_its_first_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CXX", fake_compiler(tmp_path, "echo 'k.cpp:1: error: no' >&2; exit 1"))
    monkeypatch.setenv("FLEDGE_HOME", str(tmp_path))
    with pytest.raises(FledgeError, match=r"cannot compile kernels\.cpp: k\.cpp:1: error: no"):
        build.library_path()
    assert len((tmp_path / "calls").read_text().split()) == len(build.usable_levels())
    with pytest.raises(InputError, match="'sse9' is not known"):
        build.library_path("sse9")


@pytest.mark.slow
@pytest.mark.parametrize("level", [level.name for level in build.usable_levels()])
@pytest.mark.parametrize("weights", ["float32", "bfloat16", "int8"])
def test_every_level_computes_the_same(
    level: str, weights: str, folder_of: Callable[..., Path]
) -> None:
    folder = folder_of("odd sizes")
    best = logits_of(folder, weights=weights)
    found = logits_of(folder, weights=weights, level=level)
    assert np.abs(found - best).max() < (5e-2 if weights == "int8" else 1e-4)
