"""Bad batches: found, kept, passed over; and a run that goes back, however often it is killed."""

from __future__ import annotations

import json
import math
import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from fledge.core.errors import FledgeError
from fledge.core.protocols import Silent
from fledge.train.batch import Batch
from fledge.train.loop import Position, Training, train
from fledge.train.spikes import (
    SMALLEST,
    WINDOW,
    find_fault,
    latest,
    loss_limit,
    rewind_spacing,
    weights_are_bad,
)
from pico_runs import (
    Chosen,
    Listening,
    Stop,
    StopsAt,
    no_number,
    nonsense,
    pico_training,
    rows,
    run,
)

losses = st.lists(st.floats(0, 20), min_size=WINDOW, max_size=WINDOW)


@given(losses, st.floats(0.1, 20), st.randoms())
def test_the_limit_is_above_the_median_and_ignores_order(
    recent: list[float], sigma: float, random: Any
) -> None:
    limit = loss_limit(recent, sigma)
    assert limit >= sorted(recent)[WINDOW // 2 - 1] + SMALLEST
    assert loss_limit(sorted(recent, key=lambda _: random.random()), sigma) == limit
    assert find_fault(limit, 1.0, recent, sigma) is None
    assert find_fault(math.nextafter(limit, math.inf), 1.0, recent, sigma)


@given(losses, st.floats(0.1, 20))
def test_a_spike_among_the_losses_does_not_hide_the_next(recent: list[float], sigma: float) -> None:
    flat = [2.0 + 0.001 * (i % 5) for i in range(WINDOW)]
    assert loss_limit([*flat[1:], 1e9], sigma) == pytest.approx(loss_limit(flat, sigma), abs=0.05)
    assert math.isfinite(loss_limit(recent, sigma))


def test_the_limit_of_normal_losses_is_that_many_standard_deviations_away() -> None:
    generator = torch.Generator().manual_seed(0)
    limits = [
        loss_limit((3 + 0.1 * torch.randn(WINDOW, generator=generator)).tolist(), 10)
        for _ in range(200)
    ]
    assert sum(limits) / len(limits) == pytest.approx(3 + 10 * 0.1, abs=0.03)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_number_is_a_fault_from_the_first_step_on(value: float) -> None:
    assert find_fault(value, 1.0, [], 0.0)
    assert find_fault(1.0, value, [], 0.0)
    assert find_fault(1e9, 1e9, [], 10.0) is None  # nothing to compare with
    assert find_fault(1e9, 1e9, [1.0] * WINDOW, 0.0) is None  # switched off
    assert find_fault(1e9, 1e9, [1.0] * WINDOW, 10.0)


def test_three_faults_blame_the_weights_when_they_lie_close() -> None:
    assert latest([3, 10], 10 + WINDOW - 1) == [10, 10 + WINDOW - 1]
    assert not weights_are_bad([10, 10])
    assert weights_are_bad([9, 10, 10])


def test_spacing_is_a_20th_within_bounds() -> None:
    assert [rewind_spacing(None, n) for n in (10, 4000, 10**6)] == [100, 200, 1000]
    assert rewind_spacing(7, 4000) == 7


def weights(job: Training) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in job.model.state_dict().items()}


def trained(
    batches: Chosen, out: Path, progress: Any = None, **changes: Any
) -> tuple[Position, dict[str, torch.Tensor]]:
    job = pico_training(batches, out, **{"rewind_every": 4, **changes})
    return train(job, progress or Silent()), weights(job)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one | other)


def test_a_bad_batch_leaves_no_trace_in_the_weights(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    told = Listening()
    position, spoilt = trained(Chosen(folders, spoilt=[10]), tmp_path / "a", told)
    assert (position.step, position.passed, position.rewinds) == (24, 1, 0)
    assert position.trouble == {"skipped_batches": 1}
    order = [*range(10), *range(11, 24), 0]  # at the end of the data its start is read again
    _, clean = trained(Chosen(folders, order), tmp_path / "b")
    assert same(spoilt, clean)
    curve = rows(tmp_path / "a" / "loss.jsonl")
    assert [row["step"] for row in curve] == list(range(1, 25))
    assert curve == rows(tmp_path / "b" / "loss.jsonl")
    assert [line for line in told.lines if "loss nan" in line and "step 11: batch skipped" in line]
    assert not (tmp_path / "a" / "state" / "good").exists()


def test_data_of_another_kind_are_no_spike_where_they_begin(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fledge.train.spikes.WINDOW", 8)
    order = [0] * 12  # learnt by heart; everything behind it is then unusual
    batches = Chosen(folders, [*order, *range(1, 13)], spoilt=range(12, 24), spoil=nonsense)
    careful = {"rewind_every": 4, "spike_sigma": 0.5}
    told = Listening()
    with suppress(FledgeError):
        train(pico_training(batches, tmp_path / "a", **careful), told)
    assert any("is usual at step 13: batch skipped" in line for line in told.lines)
    told.lines.clear()
    turning = replace(pico_training(batches, tmp_path / "b", **careful), turns=(12,))
    train(turning, told)
    assert not any("at step 13:" in line for line in told.lines)


def test_the_batch_and_what_was_seen_are_kept(folders: tuple[Path, Path], tmp_path: Path) -> None:
    batches = Chosen(folders, spoilt=[10])
    trained(batches, tmp_path)
    (row,) = rows(tmp_path / "logs" / "spikes.jsonl")
    assert (row["step"], row["batch"], row["loss"], row["rewound_to"]) == (11, 10, None, None)
    folder = tmp_path / "logs" / "spikes"
    assert json.loads((folder / "batch-000000010.json").read_text()) == row
    kept = load_file(folder / "batch-000000010.safetensors")
    for name, value in zip(Batch._fields[:4], no_number(batches.loader[10])[:4], strict=True):
        torch.testing.assert_close(kept[name], value, rtol=0, atol=0, equal_nan=True)


def test_several_bad_batches_take_the_run_back(folders: tuple[Path, Path], tmp_path: Path) -> None:
    told = Listening()
    position, spoilt = trained(Chosen(folders, spoilt=[10, 11, 12]), tmp_path / "a", told)
    assert (position.step, position.passed, position.rewinds) == (24, 5, 1)
    assert position.trouble == {"skipped_batches": 3, "rewinds": 1}
    # The first update skipped would have been the 11th: back to the state after 8, on with 13.
    _, clean = trained(Chosen(folders, [*range(8), *range(13, 24), *range(5)]), tmp_path / "b")
    assert same(spoilt, clean)
    assert rows(tmp_path / "a" / "loss.jsonl") == rows(tmp_path / "b" / "loss.jsonl")
    seen = rows(tmp_path / "a" / "logs" / "spikes.jsonl")
    assert [(row["step"], row["batch"], row["rewound_to"]) for row in seen] == [
        (11, 10, None),
        (11, 11, None),
        (11, 12, 8),
    ]
    assert [line for line in told.lines if "going back to step 8, and on with later data" in line]


def test_a_state_that_met_the_bad_batch_is_not_gone_back_to(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    position, _ = trained(Chosen(folders, spoilt=[8, 9, 10]), tmp_path)
    assert rows(tmp_path / "logs" / "spikes.jsonl")[-1]["rewound_to"] == 4
    assert position.passed == 8 + 3 - 4


def test_without_an_earlier_state_a_run_goes_back_to_its_start(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    position, spoilt = trained(Chosen(folders, spoilt=[5, 6, 7]), tmp_path / "a", rewind_every=100)
    assert (position.rewinds, position.bad) == (1, [5, 6, 7])
    # At the end of the data its start is read again, without the bad batches.
    order = [*range(8, 24), *range(5), 8, 9, 10]
    _, clean = trained(Chosen(folders, order), tmp_path / "b")
    assert same(spoilt, clean)
    trained(Chosen(folders, spoilt=[0, 1, 2]), tmp_path / "c")
    assert rows(tmp_path / "c" / "logs" / "spikes.jsonl")[-1]["rewound_to"] == 0


SPOILT = [13, 14, 15, 21, 22, 23]


@pytest.mark.parametrize("reads", [4, 9, 13, 14, 15, 16, 17, 20, 23, 24, 25, 28, 31])
def test_killed_anywhere_it_goes_back_to_the_same_bits(
    folders: tuple[Path, Path], tmp_path: Path, reads: int
) -> None:
    """``reads``: batches read when the process is gone; two rewinds lie on the way."""
    whole, reference = trained(Chosen(folders, spoilt=SPOILT), tmp_path / "whole")
    assert whole.rewinds == 2
    out = tmp_path / "killed"
    with pytest.raises(Stop):
        trained(Chosen(folders, spoilt=SPOILT, last=reads), out, checkpoint_every_steps=3)
    position, found = trained(Chosen(folders, spoilt=SPOILT), out)
    assert same(found, reference)
    assert (position.passed, position.rewinds) == (whole.passed, whole.rewinds)
    for name in ("loss.jsonl", "logs/spikes.jsonl"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize("stop", [10, 11, 12, 13, 14])
def test_interrupted_while_it_goes_back(
    folders: tuple[Path, Path], tmp_path: Path, stop: int
) -> None:
    batches = Chosen(folders, spoilt=[10, 11, 12])
    _, reference = trained(batches, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        trained(batches, tmp_path / "halted", StopsAt(stop))
    _, found = trained(batches, tmp_path / "halted")
    assert same(found, reference)


def test_a_finite_spike_is_found_and_skipped(folders: tuple[Path, Path], tmp_path: Path) -> None:
    changes = {"steps": 90, "spike_sigma": 3.0, "warmup": 0.0, "schedule": "constant"}
    told = Listening()
    batches = Chosen(folders, spoilt=[80], spoil=nonsense)
    position, spoilt = trained(batches, tmp_path / "a", told, **changes)
    assert position.passed == 1
    (row,) = rows(tmp_path / "a" / "logs" / "spikes.jsonl")
    assert row["batch"] == 80
    assert row["loss"] > 1.3 * rows(tmp_path / "a" / "loss.jsonl")[79]["loss"]
    assert re.search(r"loss [\d.]+, where at most [\d.]+ is usual at step 81", told.lines[-1])
    _, clean = trained(Chosen(folders, [*range(80), *range(81, 90), 0]), tmp_path / "b", **changes)
    assert same(spoilt, clean)
    off, _ = trained(batches, tmp_path / "c", **{**changes, "spike_sigma": 0.0})
    assert off.passed == 0


def test_too_many_rewinds_end_the_run(folders: tuple[Path, Path], tmp_path: Path) -> None:
    batches = Chosen(folders, spoilt=range(7, 24))
    with pytest.raises(
        FledgeError, match=r"loss nan.* at step \d+ of 24, after 2 rewinds"
    ) as caught:
        trained(batches, tmp_path, max_rewinds=2)
    assert "lower learning_rate" in str(caught.value)
    assert str(tmp_path / "logs" / "spikes") in str(caught.value)
    assert len(rows(tmp_path / "logs" / "spikes.jsonl")) == 9
    assert len(list((tmp_path / "logs" / "spikes").glob("*.safetensors"))) == 8  # enough is enough


def test_where_all_batches_are_bad_they_are_tried_again() -> None:
    position = Position(step=1)
    for number in (1, 2, 0):
        assert position.next_batch(3) == number
        position.skip(number)
    assert position.next_batch(3) == 1


def test_every_second_batch_bad_is_no_way_to_go_on(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(FledgeError, match="after 3 rewinds"):
        trained(Chosen(folders, spoilt=range(1, 60, 2)), tmp_path, steps=60)


def test_rewinds_switched_off_stop_at_the_first_bad_batch(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(FledgeError, match=r"loss nan.* at step 11 of 24; lower learning_rate"):
        trained(Chosen(folders, spoilt=[10]), tmp_path, max_rewinds=0)
    assert len(rows(tmp_path / "logs" / "spikes.jsonl")) == 1
    assert not (tmp_path / "state" / "good").exists()


def test_a_loss_that_explodes_stops_the_run(folders: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(FledgeError, match=r"loss .*(nan|inf).* at step \d+ of 24, after 3 rewinds"):
        run(folders, tmp_path / "out", learning_rate=1e30, embedding_learning_rate=1e30, clip=0)


@pytest.mark.parametrize("optimizer", ["muon", "adamw", "lion"])
def test_averages_and_moments_go_back_too(
    folders: tuple[Path, Path], tmp_path: Path, optimizer: str
) -> None:
    changes = {"optimizer": optimizer, "ema": 0.9}
    _, spoilt = trained(Chosen(folders, spoilt=[10, 11, 12]), tmp_path / "a", **changes)
    _, clean = trained(
        Chosen(folders, [*range(8), *range(13, 24), *range(5)]), tmp_path / "b", **changes
    )
    assert same(spoilt, clean)
