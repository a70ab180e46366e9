"""What a run tells: closed-form speed and MFU, rows, trackers, and the terminal."""

from __future__ import annotations

import builtins
import json
import sys
import types
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboardX.proto.event_pb2 import Event
from test_spikes import Chosen

from fledge.core.errors import InputError
from fledge.core.protocols import Bar, Silent, TableBar
from fledge.train.events import Journal
from fledge.train.loop import train
from fledge.train.meter import Meter, make_meter, shown
from fledge.train.peak import matmul_peak
from pico_runs import pico_training, rows


class FakeClock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_speed_and_mfu_are_what_their_definitions_say() -> None:
    clock = FakeClock()
    meter = Meter(flops_per_token=6e6, peak=3e9, steps=3, clock=clock)
    waited = 0.0
    for tokens, seconds, waiting in (
        (10**6, 1.0, 0.0),
        (300, 2.0, 0.5),
        (500, 1.0, 0.0),
        (0, 1, 0.5),
    ):
        clock.now += 100.0  # validation, saving: between two steps nothing is measured
        meter.begin(waited)
        clock.now += seconds
        waited += waiting
        meter.end(tokens, waited)
    figures = meter.figures()  # of the last three steps: 800 tokens in 4 s, 1 s of it waiting
    assert figures["tokens_per_second"] == pytest.approx(200)
    assert figures["mfu"] == pytest.approx(200 * 6e6 / 3e9)
    assert figures["waiting"] == pytest.approx(0.25)


def test_the_peak_is_measured_once_and_leaves_the_generator_alone() -> None:
    before = torch.get_rng_state()
    peak = matmul_peak(torch.float32, torch.device("cpu"))
    assert 1e7 < peak < 1e15
    assert matmul_peak(torch.float32, torch.device("cpu")) == peak
    assert torch.equal(torch.get_rng_state(), before)


def test_mfu_counts_attention_at_the_context_trained_with(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    job = pico_training(Chosen(folders), tmp_path)
    meter = make_meter(job)
    shape = job.model.config
    expected = 6 * (
        shape.depth * shape.layer_parameters
        + shape.vocab_size * shape.width
        + shape.depth * shape.heads * shape.head_size * job.context
    )
    meter.begin(0.0)
    meter.end(1000, 0.0)
    figures = meter.figures()
    peak = matmul_peak(torch.float32, torch.device("cpu"))
    assert figures["mfu"] == pytest.approx(figures["tokens_per_second"] * expected / peak, abs=1e-4)


def scalars(folder: Path) -> list[tuple[int, str, float]]:
    """The events below a folder, read from TensorBoard's records."""
    found = []
    for path in sorted(folder.glob("events.out.tfevents.*")):
        data = path.read_bytes()
        while data:
            length = int.from_bytes(data[:8], "little")
            event = Event.FromString(data[12 : 12 + length])
            found += [(event.step, v.tag, v.simple_value) for v in event.summary.value]
            data = data[16 + length :]
    return found


def test_rows_and_events_hold_the_same_figures(folders: tuple[Path, Path], tmp_path: Path) -> None:
    train(pico_training(Chosen(folders), tmp_path, log_every=5), Silent())
    metrics = rows(tmp_path / "logs" / "metrics.jsonl")
    assert [row["step"] for row in metrics] == [5, 10, 15, 20, 24]
    names = {"loss", "lr", "grad_norm", "tokens_per_second", "mfu", "waiting", "memory_bytes"}
    assert all(set(row) == {"step", *names} for row in metrics)
    assert all(row["tokens_per_second"] > 0 and row["memory_bytes"] > 1e6 for row in metrics)
    events = {(step, tag): value for step, tag, value in scalars(tmp_path / "logs")}
    for row in metrics:
        for name in names:
            assert events[row["step"], name] == pytest.approx(row[name], rel=1e-6)


def test_going_back_takes_rows_back_and_tells_tensorboard(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    batches = Chosen(folders, spoilt=[10, 11, 12])
    train(pico_training(batches, tmp_path, log_every=1, rewind_every=4), Silent())
    assert [r["step"] for r in rows(tmp_path / "logs" / "metrics.jsonl")] == list(range(1, 25))
    files = list((tmp_path / "logs").glob("events.out.tfevents.*"))
    assert len(files) == 2  # the second one says from which step on the first is void
    first, second = sorted(files, key=lambda path: path.name.rpartition(".")[2])
    assert [f.name.rpartition(".")[2] for f in (first, second)] == ["0", "1"]
    steps = {step for step, _, _ in scalars(tmp_path / "logs")}
    assert steps == set(range(1, 25))


class Table(Silent):
    """Keeps the tables it is told to show."""

    def __init__(self) -> None:
        self.tables: list[Mapping[str, str]] = []

    def bar(
        self, label: str, total: float | None, unit: str, done: float = 0
    ) -> AbstractContextManager[Bar]:
        outer, silent = self, super().bar(label, total, unit, done)

        class Showing:
            def __enter__(self) -> Showing:
                silent.__enter__()
                return self

            def __exit__(self, *error: object) -> None:
                return None

            def advance(self, amount: float = 1, note: str = "") -> None:
                return None

            def table(self, values: Mapping[str, str]) -> None:
                outer.tables.append(values)

        assert isinstance(Showing(), TableBar)
        return Showing()


def test_a_bar_that_can_is_told_the_figures_of_every_step(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    progress = Table()
    train(pico_training(Chosen(folders), tmp_path), progress)
    curve = rows(tmp_path / "loss.jsonl")
    assert [table["loss"] for table in progress.tables] == [f"{r['loss']:.3f}" for r in curve]
    names = ["loss", "tokens/s", "MFU", "grad norm", "rate", "memory", "waiting"]
    assert all(list(table) == names for table in progress.tables)


def test_figures_are_shown_short() -> None:
    figures = {
        "loss": 2.34567, "tokens_per_second": 6812.3, "mfu": 0.6449, "grad_norm": 0.83219,
        "lr": 0.00512, "memory_bytes": 1.234e9, "waiting": 0.004,
    }  # fmt: skip
    assert list(shown(figures).values()) == [
        "2.346", "6,812", "64%", "0.832", "5.12e-03", "1.23 GB", "0%",
    ]  # fmt: skip


class FakeWandb(types.ModuleType):
    """The part of wandb that is used."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.started: list[dict[str, Any]] = []
        self.logged: list[dict[str, float]] = []
        self.metrics: list[tuple[str, str | None]] = []
        self.finished = 0
        self.id = "abc"

    def init(self, **values: Any) -> FakeWandb:
        self.started.append(values)
        return self

    def define_metric(self, name: str, step_metric: str | None = None) -> None:
        self.metrics.append((name, step_metric))

    def log(self, values: dict[str, float]) -> None:
        self.logged.append(values)

    def finish(self) -> None:
        self.finished += 1


def test_wandb_is_told_what_the_events_hold(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    out = tmp_path / "bridges" / "pretrain.partial"
    job = pico_training(Chosen(folders), out, wandb="towers", log_every=5, validate_every=12)
    train(job.__class__(**{**vars(job), "validate": lambda: {"bits_per_byte": 1.5}}), Silent())
    (started,) = fake.started
    assert (started["project"], started["name"], started["id"]) == (
        "towers",
        "bridges/pretrain",
        None,
    )
    assert started["config"]["batch_rows"] == 8
    told = [(int(r["step"]), k, v) for r in fake.logged for k, v in r.items() if k != "step"]
    events = scalars(out / "logs")
    assert [(step, name) for step, name, _ in told] == [(step, name) for step, name, _ in events]
    assert [value for *_, value in told] == pytest.approx([v for *_, v in events], rel=1e-6)
    assert (24, "bits_per_byte", 1.5) in told
    assert fake.finished == 1
    assert ("*", "step") in fake.metrics
    train(pico_training(Chosen(folders), out, wandb=True), Silent())
    assert fake.started[-1]["id"] == "abc"  # goes on where it was
    assert fake.started[-1]["project"] == "fledge"


def test_wandb_that_is_missing_or_refuses_is_named(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any) -> Any:
        if name == "wandb":
            raise ImportError(name)
        return real(name, *arguments)

    with monkeypatch.context() as patch:
        patch.delitem(sys.modules, "wandb", raising=False)
        patch.setattr(builtins, "__import__", without)
        with pytest.raises(InputError, match=r"wandb = True needs the package wandb.*pip install"):
            train(pico_training(Chosen(folders), tmp_path, wandb=True), Silent())

    class Refusing(FakeWandb):
        def init(self, **values: Any) -> FakeWandb:
            raise RuntimeError("api_key not configured\nlong story")

    monkeypatch.setitem(sys.modules, "wandb", Refusing())
    with pytest.raises(InputError, match=r"refused \(api_key not configured\).*WANDB_MODE"):
        train(pico_training(Chosen(folders), tmp_path, wandb=True), Silent())
    assert not list((tmp_path / "logs").glob("wandb.json"))


def test_another_process_than_the_main_one_writes_nothing(tmp_path: Path) -> None:
    with Journal(tmp_path, {}, 0, main=False) as journal:
        journal.write("loss", {"step": 1})
        journal.events(1, {"loss": 1.0})
        assert journal.sizes() == {}
        journal.rewind({}, 0)
    assert list(tmp_path.iterdir()) == []


def test_rows_are_json_that_anyone_reads(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """No NaN in a file: what is not a number is null."""
    train(pico_training(Chosen(folders, spoilt=[3]), tmp_path), Silent())

    def refuse(name: str) -> None:
        raise ValueError(name)

    for path in [*tmp_path.rglob("*.jsonl"), *tmp_path.rglob("*.json")]:
        for line in (
            path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
        ):
            json.loads(line, parse_constant=refuse)
