"""Smaller weights cost next to nothing: perplexity on real text beside float32."""

from __future__ import annotations

import io
import math
from pathlib import Path

import pytest
import zstandard

from fledge.engine import load_engine

CHARACTERS = 60_000


@pytest.mark.shared
@pytest.mark.parametrize(("dtype", "most"), [("bfloat16", 0.005), ("int8", 0.01)])
def test_perplexity_on_wikitext(fledge_data: Path, dtype: str, most: float) -> None:
    model = fledge_data / "checkpoints" / "tinystories-656k"
    file = fledge_data / "wikitext2_valid_test" / "wiki2.valid.txt.zst"
    if not file.exists():
        [file] = fledge_data.rglob("wiki2.valid.txt.zst")
    with zstandard.open(file, "rt", encoding="utf-8") as lines:
        assert isinstance(lines, io.TextIOBase)
        text = lines.read(CHARACTERS)
    found = {}
    for kind in ("float32", dtype):
        engine = load_engine(model, dtype=kind, runner="native")
        ids = engine.tokenizer.encode(text)
        size = engine.context // 2
        windows = [ids[start : start + size + 1] for start in range(0, len(ids) - 1, size)]
        found[kind] = math.exp(-sum(sum(engine.logprobs(w)) for w in windows) / (len(ids) - 1))
    assert found[dtype] == pytest.approx(found["float32"], rel=most)
