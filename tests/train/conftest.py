"""Fixtures shared by the tests of training."""

from __future__ import annotations

from pathlib import Path

import pytest

from pico_shards import pattern_shards, write_tokenizer


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Token shards and a tokenizer."""
    return pattern_shards(tmp_path / "tokens"), write_tokenizer(tmp_path / "tokenizer")
