"""The ladder: runs as planned, kept and continued; a prediction made before its run; a page."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from fledge.core.config import parse_config
from fledge.core.errors import InputError
from fledge.core.protocols import Bar, Silent
from fledge.model.checkpoint import load_model
from fledge.report.log_chart import decades
from fledge.report.scaling_page import render_scaling
from fledge.train.scale import FIGURES, Ask, scale
from fledge.train.scale_config import ScaleConfig
from fledge.train.scale_plan import nearest_depth, plan_ladder
from fledge.train.shards import TokenShards
from fledge.train.validate import bits_per_byte
from pico_shards import VOCAB, pattern_shards, write_tokenizer

PICO: dict[str, Any] = {
    "sizes": [[1, 16], [1, 32], [2, 48]],
    "tokens": [512, 1024, 2048],
    "held_out": [2, 64],
    "draws": 60,
    "pretrain": {
        "context": 16,
        "batch_rows": 4,
        "compile": False,
        "precision": "fp32",
        "validate_every": 1000,
        "checkpoint_every_steps": 4,
        "checkpoint_every_seconds": 1e9,
    },
}


def config(**changes: Any) -> ScaleConfig:
    return parse_config(ScaleConfig, {**PICO, **changes}, "test")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    place = tmp_path_factory.mktemp("ladder")
    return pattern_shards(place / "tokens", documents=240), write_tokenizer(place / "tokenizer")


@pytest.fixture(scope="module")
def done(folders: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished ladder."""
    out = tmp_path_factory.mktemp("done") / "out"
    scale(config(), *folders, out, Silent(), Ask(flops=(1e9,), hours=(1,)))
    return out


def figures(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / FIGURES).read_text())
    return found


class Unplugged(Silent):
    """Cuts the power in the given step of the given run, and counts the steps that were trained."""

    def __init__(self, run: str = "", step: int = 0) -> None:
        self.run, self.step, self.steps = run, step, 0
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    def bar(
        self, label: str, total: float | None, unit: str, done: float = 0
    ) -> AbstractContextManager[Bar]:
        return self._bar(label)

    @contextmanager
    def _bar(self, label: str) -> Iterator[Bar]:
        yield _Counted(self, label)


class _Counted:
    def __init__(self, parent: Unplugged, label: str) -> None:
        self.parent, self.label, self.here = parent, label, 0

    def advance(self, amount: float = 1, note: str = "") -> None:
        if self.label.endswith(": pretrain"):
            self.here += 1
            self.parent.steps += 1
            cut = bool(self.parent.run) and f" {self.parent.run}" in self.label
            if cut and self.here == self.parent.step:
                raise KeyboardInterrupt


def test_figures_are_those_of_the_runs(done: Path, folders: tuple[Path, Path]) -> None:
    found = figures(done)
    assert len(found["runs"]) == 9
    held_out = TokenShards(folders[0], "validation")
    for run in found["runs"]:
        folder = done / "runs" / run["name"]
        model = load_model(folder / "model")
        assert sum(weight.numel() for weight in model.parameters()) == run["parameters"]
        manifest = json.loads((folder / "manifest.json").read_text())
        assert manifest["counts"]["tokens"] == run["tokens"]
        counted: list[float] = []
        bits = bits_per_byte(
            model, held_out, context=16, stride=8, tokens=10**9, advance=counted.append
        )
        nats = bits * math.log(2) * held_out.bytes / sum(counted)
        assert run["bits_per_byte"] == pytest.approx(bits, rel=1e-5)
        assert run["loss"] == pytest.approx(nats, rel=1e-5)
        law = {name: row["value"] for name, row in found["law"].items()}
        at = (
            law["A"] * run["parameters"] ** -law["alpha"] + law["B"] * run["tokens"] ** -law["beta"]
        )
        assert run["fitted"] == pytest.approx(law["E"] + at, rel=1e-6)


def test_the_prediction_is_checked_against_a_run_that_was_not_fitted(done: Path) -> None:
    found = figures(done)
    held = found["held_out"]
    assert held["name"] not in {run["name"] for run in found["runs"]}
    assert held["flops"] > max(run["flops"] for run in found["runs"])
    manifest = json.loads((done / "runs" / held["name"] / "manifest.json").read_text())
    assert held["measured_bits_per_byte"] == manifest["figures"]["pretrain.bits_per_byte"]
    assert held["error"] == pytest.approx(held["predicted"] / held["measured"] - 1)
    low, high = held["ci95"]
    assert held["inside"] is (low <= held["measured"] <= high)


def test_it_is_predicted_before_it_is_trained(
    done: Path, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        scale(config(), *folders, out, Unplugged("2x64-2048", 3))
    before = figures(out)
    assert before["held_out"]["measured"] is None
    assert before["law"] == figures(done)["law"]
    assert before["held_out"]["predicted"] == pytest.approx(
        figures(done)["held_out"]["predicted"],
        rel=1e-2,  # the tokens read differ by padding
    )
    assert "not done yet" in render_scaling("ladder", before)


def test_finished_runs_are_kept_and_a_cut_one_goes_on(
    done: Path, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    first = Unplugged("1x32-2048", 20)
    with pytest.raises(KeyboardInterrupt):
        scale(config(), *folders, out, first)
    second = Unplugged()
    scale(config(), *folders, out, second, Ask(flops=(1e9,)))
    whole = Unplugged()
    scale(config(), *folders, tmp_path / "other", whole)
    assert first.steps + second.steps < whole.steps + 20
    ours, theirs = figures(out), figures(done)
    assert ours["law"] == theirs["law"], "a cut must not change a bit"
    again = Unplugged()
    scale(config(), *folders, out, again)
    assert again.steps == 0


def test_another_setting_trains_anew_and_another_size_does_not(
    done: Path, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(done, out)
    more = Unplugged()
    scale(config(sizes=[*PICO["sizes"], [1, 24]]), *folders, out, more)
    labels = {line.split(": ")[0] for line in more.lines if "1x24" in line}
    assert labels, "the new size was trained"
    assert not any("1x16" in line and "model" in line for line in more.lines)
    anew = Unplugged()
    scale(config(seed=7), *folders, out, anew)
    assert anew.steps > more.steps


def test_other_text_in_the_mixture_trains_anew(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """What is mixed in decides a run as the tokens themselves do."""
    steps = []
    for seed in (1, 1, 2):
        more = pattern_shards(tmp_path / "more", documents=60, seed=seed)
        mixed = config(
            sizes=[[1, 16], [1, 24]], pretrain={**PICO["pretrain"], "mixture": {str(more): 0.25}}
        )
        counting = Unplugged()
        scale(mixed, *folders, tmp_path / "out", counting)
        steps.append(counting.steps)
    assert steps[0] > 0 == steps[1]
    assert steps[2] == steps[0]


def test_a_ladder_of_noise_warns(done: Path) -> None:
    said = " ".join(figures(done)["warnings"])
    assert "not determined" in said


def test_data_that_repeats_is_said(folders: tuple[Path, Path], tmp_path: Path) -> None:
    listening = Unplugged("1x16-4096", 1)
    with pytest.raises(KeyboardInterrupt):
        scale(config(tokens=[4096, 65536]), *folders, tmp_path / "out", listening)
    assert any("times over" in line for line in listening.lines)


def test_the_page_holds_the_figures_and_nothing_from_elsewhere(done: Path) -> None:
    found = figures(done)
    page = render_scaling("a <ladder>", found)
    assert "a &lt;ladder&gt;" in page
    assert f"{found['held_out']['measured']:.4f}" in page
    assert page.count("<svg") == 2
    assert page.count("<circle") == len(found["runs"]) + 1
    assert not re.search(r"(src|href)=\"?http", page)
    assert "nan" not in page.lower().replace("nanobanana", "")


def test_lengths_follow_the_operations() -> None:
    one = ScaleConfig(flops=6e13)
    rungs, held_out = plan_ladder(one, 4096, 10**8)
    assert sum(rung.flops for rung in (*rungs, held_out)) == pytest.approx(6e13, rel=1e-3)
    assert len(rungs) == 20
    assert len({rung.name for rung in rungs}) == 20
    assert held_out.parameters > max(rung.parameters for rung in rungs)
    lengths = sorted({rung.tokens for rung in rungs})
    assert [length / lengths[0] for length in lengths] == pytest.approx([1, 2, 4, 8], rel=1e-3)
    assert rungs == sorted(rungs, key=lambda rung: (rung.flops, rung.name))
    given = plan_ladder(ScaleConfig(tokens=(10**6, 10**7)), 4096, 10**8)[0]
    assert {rung.tokens for rung in given} == {10**6, 10**7}


@pytest.mark.parametrize("parameters", [1e5, 3e6, 4e7, 1e9])
def test_the_nearest_depth_has_no_nearer_neighbour(parameters: float) -> None:
    found = nearest_depth(parameters, ScaleConfig(), VOCAB)
    from fledge.model.config import derive

    off = abs(math.log(found.parameters / parameters))
    for depth in (found.depth - 1, found.depth + 1):
        if depth:
            other = derive(depth, VOCAB, 256, tied=True).parameters
            assert abs(math.log(other / parameters)) >= off


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sizes": [[1, 16], [1, 16], [2, 48]]}, "same"),
        ({"sizes": [[1, 16]]}, "two at least"),
        ({"tokens": [512]}, "two at least"),
        ({"sizes": [[1, 16], [2, 16]], "tokens": [512, 1024]}, "fewer than six"),
        ({"held_out": [1, 32]}, "one of the sizes"),
        ({"pretrain": {"depth": 3}}, "decided by the ladder"),
        ({"pretrain": {"steps": 3}}, "decided by the ladder"),
        ({"pretrain": {"learning_rat": 3}}, "learning_rat"),
        ({"flops": -1}, "flops"),
    ],
)
def test_a_config_that_makes_no_ladder_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        config(**changes)


def test_runs_of_too_few_steps_are_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="steps only"):
        scale(config(tokens=[64, 128, 256]), *folders, tmp_path, Silent())


def test_data_without_validation_text_is_refused(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    from pico_shards import write_shards

    bare = write_shards(tmp_path / "bare", {"train": [[[1, 2, 3]] * 50], "validation": []})
    with pytest.raises(InputError, match="no validation text"):
        scale(config(), bare, folders[1], tmp_path / "out", Silent())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("low", "high"), [(1e5, 1e8), (300, 2500), (1e6, 1.5e6), (0.9e6, 1.1e7)])
def test_ticks_of_a_logarithmic_axis(low: float, high: float) -> None:
    found = decades(low, high)
    assert found == sorted(set(found))
    assert all(low <= value <= high for value in found)
    assert len(found) <= 10
