"""Interrupted, killed, moved: a run goes on and ends in the same bits, or says why not."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from fledge.core.errors import InputError
from fledge.train.step import update
from pico_runs import Listening, StopsAt, digests, kill_after, rows, run, start
from pico_shards import pattern_shards


@pytest.mark.parametrize("stop", [1, 7, 23, 24])
def test_an_interrupted_run_ends_in_the_same_bits(
    folders: tuple[Path, Path], tmp_path: Path, stop: int
) -> None:
    straight, halted = tmp_path / "straight", tmp_path / "halted"
    reference = run(folders, straight)
    with pytest.raises(KeyboardInterrupt):
        run(folders, halted, StopsAt(stop))
    assert not (halted / "model").exists()
    assert len(rows(halted / "loss.jsonl")) == stop
    outcome = run(folders, halted)
    assert digests(halted) == digests(straight)
    assert outcome == reference


def test_sigterm_saves_the_state_as_ctrl_c_does(folders: tuple[Path, Path], tmp_path: Path) -> None:
    handler = signal.getsignal(signal.SIGTERM)
    straight, halted = tmp_path / "straight", tmp_path / "halted"
    run(folders, straight)
    with pytest.raises(KeyboardInterrupt):
        run(folders, halted, StopsAt(7, signal.SIGTERM))
    assert signal.getsignal(signal.SIGTERM) is handler
    assert [path.name for path in (halted / "state").glob("step-*")] == ["step-000000007.pt"]
    run(folders, halted)
    assert digests(halted) == digests(straight)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_the_final_save_is_heard(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    real = torch.save

    def pressed(*arguments: Any) -> None:
        os.kill(os.getpid(), number)
        real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", pressed)
        with pytest.raises(KeyboardInterrupt):
            run(folders, tmp_path / "halted", max_rewinds=0)  # which saves once, at the end
    assert len(rows(tmp_path / "halted" / "loss.jsonl")) == 24
    assert not (tmp_path / "halted" / "model").exists()
    run(folders, tmp_path / "halted")
    run(folders, tmp_path / "straight")
    assert digests(tmp_path / "halted") == digests(tmp_path / "straight")


def test_a_run_goes_on_with_the_threads_it_began_with(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fledge.train.device.usable_cores", lambda: 2)
    with pytest.raises(KeyboardInterrupt):
        run(folders, tmp_path / "out", StopsAt(5))
    before = torch.get_num_threads()
    seen: list[int] = []
    monkeypatch.setattr("fledge.train.device.usable_cores", lambda: 1)
    monkeypatch.setattr(
        "fledge.train.loop.update",
        lambda *arguments: (seen.append(torch.get_num_threads()), update(*arguments))[1],
    )
    told = Listening()
    run(folders, tmp_path / "out", told)
    assert set(seen) == {2}
    assert [line for line in told.lines if "2 threads, as this run began, not 1" in line]
    assert torch.get_num_threads() == before


def native(monkeypatch: pytest.MonkeyPatch, bfloat16: bool) -> None:
    for room in ("device", "state"):
        monkeypatch.setattr(f"fledge.train.{room}.cpu_has_bfloat16", lambda: bfloat16)
    monkeypatch.setattr("fledge.train.device.bfloat16_pays", lambda: True)


def test_a_run_goes_on_in_float32_where_it_began_so(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    native(monkeypatch, False)
    run(folders, tmp_path / "straight")
    with pytest.raises(KeyboardInterrupt):
        run(folders, tmp_path / "out", StopsAt(5))
    native(monkeypatch, True)
    told = Listening()
    run(folders, tmp_path / "out", told)
    assert [line for line in told.lines if "going on in float32" in line]
    assert digests(tmp_path / "out") == digests(tmp_path / "straight")


def test_a_run_goes_on_in_bfloat16_where_that_is_measured_to_be_slow(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    native(monkeypatch, True)
    run(folders, tmp_path / "straight")
    with pytest.raises(KeyboardInterrupt):
        run(folders, tmp_path / "out", StopsAt(5))
    monkeypatch.setattr("fledge.train.device.bfloat16_pays", lambda: False)
    told = Listening()
    run(folders, tmp_path / "out", told)
    assert [line for line in told.lines if "going on in bfloat16" in line]
    assert digests(tmp_path / "out") == digests(tmp_path / "straight")


def test_a_run_in_bfloat16_does_not_go_on_where_there_is_none(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    native(monkeypatch, True)
    with pytest.raises(KeyboardInterrupt):
        run(folders, tmp_path / "out", StopsAt(5))
    native(monkeypatch, False)
    with pytest.raises(InputError, match=r"computed in bfloat16.*--force"):
        run(folders, tmp_path / "out")


@pytest.mark.parametrize(
    "damage",
    [
        {"position": {"step": 3, "epoch": 1}},
        {"position": 3},
        {"optimizers": []},
        {"optimizers": [{"state": {}, "param_groups": []}] * 2},
        {"model": {}},
        {"model": {"embed_tokens.weight": torch.zeros(2, 2)}},
        {"arithmetic": {}},
        {"rng": None},
    ],
)
def test_a_state_that_does_not_fit_is_an_input_error(
    folders: tuple[Path, Path], tmp_path: Path, damage: dict[str, Any]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(folders, tmp_path / "out", StopsAt(3))
    (path,) = (tmp_path / "out" / "state").glob("step-*")
    state = torch.load(path, weights_only=True)
    torch.save({**state, **damage}, path)
    with pytest.raises(InputError, match=r"another model or version of fledge.*--force"):
        run(folders, tmp_path / "out")
    torch.save({"data": state["data"]}, path)
    with pytest.raises(InputError, match=r"another model or version of fledge.*--force"):
        run(folders, tmp_path / "out")
    torch.save([1, 2], path)
    with pytest.raises(InputError, match=r"another model or version of fledge.*--force"):
        run(folders, tmp_path / "out")


def test_bfloat16_resumes_to_the_same_bits_too(folders: tuple[Path, Path], tmp_path: Path) -> None:
    straight, halted = tmp_path / "straight", tmp_path / "halted"
    run(folders, straight, precision="bf16")
    with pytest.raises(KeyboardInterrupt):
        run(folders, halted, StopsAt(9), precision="bf16")
    run(folders, halted, precision="bf16")
    assert digests(halted) == digests(straight)
    run(folders, tmp_path / "full", precision="fp32")
    assert digests(tmp_path / "full") != digests(straight)


def test_when_states_are_saved_does_not_matter(folders: tuple[Path, Path], tmp_path: Path) -> None:
    run(folders, tmp_path / "rarely")
    run(folders, tmp_path / "often", checkpoint_every_steps=3, checkpoint_every_seconds=0.01)
    assert digests(tmp_path / "rarely") == digests(tmp_path / "often")


def test_kill_9_then_the_same_command_ends_in_the_same_bits(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    values = {"steps": 150, "checkpoint_every_steps": 10}
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    kill_after(start(folders, killed, values), killed, states=2)
    assert not (killed / "model").exists()
    assert start(folders, killed, values).wait() == 0
    run(folders, straight, **values)
    assert digests(killed) == digests(straight)


@pytest.mark.slow
def test_kill_9_of_compiled_training_ends_in_the_same_bits(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    values = {"steps": 300, "checkpoint_every_steps": 5, "compile": True, "precision": "bf16"}
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    kill_after(start(folders, killed, values), killed, states=3)
    assert start(folders, killed, values).wait() == 0
    assert start(folders, straight, values).wait() == 0
    assert digests(killed) == digests(straight)


def test_other_data_under_a_saved_state_is_refused(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(folders, tmp_path / "out", StopsAt(3))
    other = pattern_shards(tmp_path / "other", documents=20, seed=9)
    with pytest.raises(InputError, match="other data; run with --force"):
        run((other, folders[1]), tmp_path / "out")
