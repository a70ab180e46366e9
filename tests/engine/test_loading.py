"""Which runner an engine gets, and what is said when it is not the fast one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fledge.core.errors import InputError
from fledge.core.protocols import Sampling, Silent
from fledge.engine import load_engine
from fledge.engine.loading import BLOCK, cache_blocks
from fledge.engine.native import library
from fledge.model.config import derive
from fledge.model.exporting import export_gguf
from pico_model import write_pico_model

NEVER: tuple[int, ...] = ()


class Said(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pico_model(tmp_path_factory.mktemp("runs") / "pico")


def kind(engine: object) -> str:
    return type(getattr(engine, "runner")).__name__  # noqa: B009


def test_native_where_it_can_be_had(stage: Path) -> None:
    said = Said()
    assert kind(load_engine(stage, progress=said)) == "NativeRunner"
    assert said.lines == []


def test_without_a_compiler_it_says_so_once_and_uses_torch(
    stage: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    expected = load_engine(stage).generate([[5, 6, 7]], Sampling(max_new_tokens=9), NEVER)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("FLEDGE_HOME", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    library.load_library.cache_clear()
    said = Said()
    try:
        engine = load_engine(stage, progress=said)
        assert kind(engine) == "TorchRunner"
        [line] = said.lines
        assert "C++ compiler" in line
        assert "PyTorch" in line
        assert engine.generate([[5, 6, 7]], Sampling(max_new_tokens=9), NEVER) == expected
        with pytest.raises(InputError, match="compiler"):
            load_engine(stage, runner="native")
        with pytest.raises(InputError, match="int8"):
            load_engine(stage, dtype="int8")
    finally:
        library.load_library.cache_clear()


def test_a_compiler_that_fails_is_no_end_either(
    stage: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho 'error: no such luck' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    monkeypatch.setenv("FLEDGE_HOME", str(tmp_path))
    library.load_library.cache_clear()
    said = Said()
    try:
        assert kind(load_engine(stage, progress=said)) == "TorchRunner"
    finally:
        library.load_library.cache_clear()
    assert "no such luck" in said.lines[0]


def test_wrong_wishes_are_refused(stage: Path) -> None:
    with pytest.raises(InputError, match="dtype 'float8'"):
        load_engine(stage, dtype="float8")
    with pytest.raises(InputError, match="CPU"):
        load_engine(stage, runner="native", device="cuda")


@pytest.mark.parametrize("form", ["f32", "f16", "bf16", "q8_0"])
def test_a_gguf_file_is_computed_natively_as_by_torch(
    stage: Path, tmp_path: Path, form: str
) -> None:
    file = tmp_path / f"{form}.gguf"
    export_gguf(stage, file, kind=form)
    native, torch = load_engine(file), load_engine(file, runner="torch")
    assert (kind(native), kind(torch)) == ("NativeRunner", "TorchRunner")
    ids = [*range(20, 60)]
    assert native.logprobs(ids) == pytest.approx(torch.logprobs(ids), abs=0.02)
    if form != "bf16":  # where the sums agree, so does the text
        made = [e.generate([ids], Sampling(max_new_tokens=20), NEVER) for e in (native, torch)]
        assert made[0] == made[1]


def test_a_folder_is_answered_without_torch(stage: Path) -> None:
    code = (
        "import sys; from fledge.engine import load_engine; from fledge.core.protocols import"
        f" Sampling; e = load_engine({str(stage)!r}); e.generate([[5, 6]],"
        " Sampling(max_new_tokens=3)); e.logprobs([5, 6, 7]); assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_cache_holds_a_full_context_whatever_it_costs() -> None:
    small = derive(2, 400, 128, width=64, heads=2, kv_heads=1)
    assert cache_blocks(small, 4) == 64 * 128 // BLOCK
    large = derive(2, 400, 128, width=64, heads=2, kv_heads=1).model_copy(
        update={"context": 2**22, "depth": 80, "head_size": 128, "kv_heads": 8}
    )
    assert cache_blocks(large, 4) == 2**22 // BLOCK
