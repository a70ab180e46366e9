"""A real checkpoint of another house goes on learning from text files, as a user would have it."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import zstandard
from tiny_run import ROOT, environment


def stories(fledge_data: Path) -> list[str]:
    """The pieces of the excerpt, which stands in a file of quoted strings."""
    path = fledge_data / "tinystories_excerpt" / "tinystories_excerpt.txt.zst"
    text = zstandard.open(path, "rt", encoding="utf-8").read()
    pieces = (piece.strip() for piece in re.split(r'"[\s,\[\]]*\n[\s,\[\]]*"?', text))
    return [piece for piece in pieces if len(piece) > 100]


@pytest.mark.slow
@pytest.mark.shared
def test_tinystories_learns_its_excerpt(fledge_data: Path, tmp_path: Path) -> None:
    base = fledge_data / "checkpoints" / "tinystories-656k"
    (tmp_path / "text").mkdir()
    for story in stories(fledge_data):
        digest = hashlib.sha256(story.encode()).hexdigest()
        kind = "learnt" if int(digest, 16) % 5 else "heldout"
        (tmp_path / "text" / f"{kind}-{digest[:12]}.txt").write_text(story)
    settings = {
        "corpus.input": json.dumps([str(tmp_path / "text")]),
        "corpus.validation": '["*heldout*"]',
        "corpus.workers": "1",
        "tokenizer.source": str(base),
        "pretrain.init": str(base),
        "pretrain.context": "256",
        "pretrain.batch_rows": "8",
        "pretrain.tokens": "60_000",
        "pretrain.precision": "fp32",
    }
    sets = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    recipe = str(ROOT / "recipes" / "documents.toml")
    command = [sys.executable, "-m", "fledge", "run", recipe, "--runs", str(tmp_path / "runs")]
    done = subprocess.run(
        [*command, *sets], capture_output=True, text=True, timeout=280, env=environment()
    )
    assert done.returncode == 0, done.stderr
    run = tmp_path / "runs" / "documents"
    figures = json.loads((run / "report.json").read_text())["figures"]
    before = figures["pretrain.bits_per_byte_before"]
    assert 1 < before < 4
    assert figures["pretrain.bits_per_byte"] < before - 0.1
    assert f"{before:.4f}" in (run / "report.html").read_text()
    shape = json.loads((run / "pretrain" / "model" / "config.json").read_text())
    assert (shape["bos_token_id"], shape["eos_token_id"]) == (1, 2)
