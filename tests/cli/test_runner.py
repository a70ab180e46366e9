"""The runner: plans, skips, continues, redoes; and the command line's errors and exit codes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fledge.cli import runner
from fledge.cli.main import _disk_full, main
from fledge.cli.run import to_toml
from fledge.cli.runner import Selection, describe, plan, run_recipe
from fledge.cli.stage import Stage, Work
from fledge.core import Config, FledgeError, InputError, Outcome, Recipe, Silent


class Toy(Config):
    text: str = "x"
    """What the stage writes."""


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Three toy stages in a chain; the list names each one that really runs."""
    ran: list[str] = []

    def work_of(name: str) -> runner.Stage:  # type: ignore[name-defined]
        def run(work: Work) -> Outcome:
            ran.append(name)
            before = "".join((f / "out").read_text() for f in work.folders.values())
            assert isinstance(work.config, Toy)
            if work.config.text == "crash" and not (work.out / "half").exists():
                (work.out / "half").write_text("")
                raise FledgeError("broken", remedy="again")
            (work.out / "half").unlink(missing_ok=True)
            (work.out / "out").write_text(before + work.config.text)
            return Outcome()

        return run  # type: ignore[return-value]

    chain = {
        "one": Stage(config=Toy, run=work_of("one")),
        "two": Stage(config=Toy, run=work_of("two"), reads=("one",)),
        "three": Stage(config=Toy, run=work_of("three"), reads=("one", "two")),
    }
    monkeypatch.setattr(runner, "STAGES", chain)
    return ran


def recipe(**texts: str) -> Recipe:
    stages: dict[str, Config] = {n: Toy(text=texts.get(n, n)) for n in ("one", "two", "three")}
    return Recipe(name="toy", seed=0, stages=stages)


def go(recipe: Recipe, runs: Path, **selection: object) -> None:
    run_recipe(recipe, runs, Selection(**selection), Silent())  # type: ignore[arg-type]


def test_second_run_does_nothing(tmp_path: Path, log: list[str]) -> None:
    go(recipe(), tmp_path)
    go(recipe(), tmp_path)
    assert log == ["one", "two", "three"]
    assert (tmp_path / "toy" / "three" / "out").read_text() == "oneonetwothree"


def test_a_changed_stage_redoes_what_depends_on_it(tmp_path: Path, log: list[str]) -> None:
    go(recipe(), tmp_path)
    log.clear()
    go(recipe(two="other"), tmp_path)
    assert log == ["two", "three"]


def test_an_equal_result_upstream_does_not_redo_downstream(tmp_path: Path, log: list[str]) -> None:
    go(recipe(), tmp_path)
    log.clear()
    go(recipe(), tmp_path, first="two", until="two")
    go(recipe(), tmp_path)
    assert log == ["two"]


def test_force_from_until(tmp_path: Path, log: list[str]) -> None:
    go(recipe(), tmp_path, until="two")
    assert log == ["one", "two"]
    go(recipe(), tmp_path, force=True, until="one")
    assert log == ["one", "two", "one"]
    with pytest.raises(InputError, match="'three'"):
        plan(recipe(), Selection(first="thre"))


def test_a_failed_stage_keeps_the_old_result_and_goes_on(tmp_path: Path, log: list[str]) -> None:
    go(recipe(), tmp_path)
    with pytest.raises(FledgeError, match="broken"):
        go(recipe(two="crash"), tmp_path)
    assert (tmp_path / "toy" / "two" / "out").read_text() == "onetwo"
    rows = dict(describe(recipe(two="crash"), tmp_path, Selection()))
    assert rows == {
        "one": "done, unchanged",
        "two": "would go on where it stopped",
        "three": "would run",
    }
    go(recipe(two="crash"), tmp_path)
    assert (tmp_path / "toy" / "two" / "out").read_text() == "onecrash"


def test_two_runs_in_one_folder_are_refused(tmp_path: Path, log: list[str]) -> None:
    (tmp_path / "toy").mkdir()
    with (
        runner.locked(tmp_path / "toy" / ".lock"),
        pytest.raises(FledgeError, match="another fledge"),
    ):
        go(recipe(), tmp_path)


def run_main(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    captured = capsys.readouterr()
    code = stop.value.code
    return (code if isinstance(code, int) else 0), captured.out, captured.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "none.toml"], "none.toml does not exist"),
        (["rum"], "No such command"),
        (["run"], "Missing argument"),
        (["run", "none.toml", "--jason"], "No such option"),
        (["generate", "--model", "nowhere", "--prompt", "x"], "nowhere"),
        (["corpus", "build", "--input", "nowhere", "--out", "out"], "nowhere"),
        (["serve", "--model", "nowhere"], "nowhere"),
    ],
)
def test_bad_usage_is_one_line_and_exit_2(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run_main(capsys, *arguments)
    assert code == 2
    assert out == ""
    lines = [line for line in err.splitlines() if line.startswith("fledge: ")]
    assert len(lines) == 1
    assert words in lines[0]
    assert "Traceback" not in err


def test_help_lists_doors_by_stage(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run_main(capsys, "--help")
    assert code == 0
    for words in ("A whole run:", "Stages:", "Use a model:", "pretrain", "doctor"):
        assert words in out


def test_dry_run_prints_the_resolved_recipe_and_writes_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    import tomllib

    path = tmp_path / "tiny.toml"
    path.write_text('name = "tiny"\n[samples]\nbridges = 4\n[tokenizer]\nvocab_size = 512\n')
    code, out, _ = run_main(capsys, "run", str(path), "--runs", str(tmp_path / "r"), "--dry-run")
    assert code == 0
    assert tomllib.loads(out)["tokenizer"]["vocab_size"] == 512
    assert "# samples: would run" in out
    assert not (tmp_path / "r").exists()


def test_full_disks_are_recognised_behind_library_errors() -> None:
    plain = OSError(28, os.strerror(28))
    wrapped = RuntimeError("write failed")
    wrapped.__cause__ = plain
    assert _disk_full(plain)
    assert _disk_full(wrapped)
    assert not _disk_full(ValueError("x"))


def test_toml_of_a_recipe_reads_back() -> None:
    import tomllib

    tables: dict[str, object] = {
        "name": "a",
        "t": {"x": 1.5, "none": None, "l": ["桥"], "d": {"k": True}},
    }
    assert tomllib.loads(to_toml(tables)) == {
        "name": "a",
        "t": {"x": 1.5, "l": ["桥"], "d": {"k": True}},
    }
