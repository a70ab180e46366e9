"""Saved states on disk: what a kill or a power cut leaves never stops, or loses, a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fledge.core.run import StageFolder
from fledge.train.checkpoint import Checkpoints
from fledge.train.world import World


class Killed(BaseException):
    """The process is gone."""


class First(World):
    """The first of two processes, the other of which agrees with everything."""

    def sums(self, *values: float) -> tuple[float, ...]:
        return values


def killed(*_: Any) -> None:
    raise Killed


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled:UserWarning")
def test_a_folder_half_saved_does_not_stop_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = StageFolder(tmp_path, "pretrain")
    folder = place.begin("key") / "state"
    saved = Checkpoints(folder, world=First(0, 2))
    saved.save(1, {"position": 1})
    with monkeypatch.context() as patch:
        patch.setattr("fledge.train.checkpoint._put", killed)
        with pytest.raises(Killed):
            saved.save(2, {"position": 2})
    assert len(list(folder.iterdir())) == 2
    place.begin("key")  # as the same command does, or torchrun's restart
    assert saved.load() == {"position": 1}
    assert [path.name for path in folder.iterdir()] == ["step-000000001"]


def test_a_new_state_has_its_name_on_disk_before_an_old_one_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []
    monkeypatch.setattr(
        "fledge.train.checkpoint.sync_folder",
        lambda folder: seen.append(sorted(path.name for path in folder.iterdir())),
    )
    saved = Checkpoints(tmp_path)
    for step in (1, 2, 3):
        saved.save(step, {"position": step})
    assert seen[-1] == [f"step-{step:09d}.pt" for step in (1, 2, 3)]
    assert len(list(tmp_path.iterdir())) == 2
