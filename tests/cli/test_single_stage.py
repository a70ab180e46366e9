"""Stages outside a recipe: what --out may not destroy, locks, skipping."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fledge.cli.main import main


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    captured = capsys.readouterr()
    return int(stop.value.code or 0), captured.out, captured.err


@pytest.fixture
def pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a text, in which the test stands."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pages").mkdir()
    text = "The old bridge crosses the river near the town, and the mill stands beside it. "
    for number in range(12):
        (tmp_path / "pages" / f"{number}.txt").write_text(text + f"It is page number {number}.")
    return tmp_path / "pages"


def test_corpus_build_skips_when_nothing_changed(
    pages: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build = ("corpus", "build", "--input", "pages", "--out", "clean", "--json")
    code, out, err = call(capsys, *build, "--set", "duplicates.near=false")
    assert code == 0, err
    assert json.loads(out)["stage"] == "corpus"
    code, out, err = call(capsys, *build, "--set", "duplicates.near=false", "--set", "workers=1")
    assert code == 0
    assert "done before, unchanged" in err
    code, out, _ = call(capsys, "corpus", "stats", "clean", "--json")
    assert json.loads(out)["documents"] == 12


@pytest.mark.parametrize("out", [".", "..", "mine"])
def test_out_never_takes_the_users_files_away(
    pages: Path, capsys: pytest.CaptureFixture[str], out: str
) -> None:
    mine = pages.parent / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("ten years of work")
    code, _, err = call(capsys, "corpus", "build", "--input", "pages", "--out", out)
    assert code == 2, err
    assert "name a new folder" in err
    assert (mine / "thesis.txt").read_text() == "ten years of work"
    assert len(list(pages.iterdir())) == 12


def test_a_shell_glob_after_input_is_taken_whole(
    pages: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = sorted(str(path) for path in pages.iterdir())
    code, out, err = call(capsys, "corpus", "build", "--input", *files, "--out", "clean", "--json")
    assert code == 0, err
    assert json.loads(out)["counts"]["records"] == 12


def test_an_unknown_key_is_refused_with_the_nearest(
    pages: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build = ("corpus", "build", "--input", "pages", "--out", "clean")
    code, _, err = call(capsys, *build, "--set", "quality.min_word=3")
    assert code == 2
    assert "did you mean 'min_words'?" in err
