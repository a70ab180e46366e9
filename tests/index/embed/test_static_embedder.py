"""A folder with a table of vectors is recognised and embeds without PyTorch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from fledge.index.embed import open_embedder
from fledge.index.embed import opening as opening_module
from fledge.index.embed.static import StaticEmbedder


def table(folder: Path) -> Path:
    """Three words in four dimensions, in model2vec's layout."""
    static: Any = pytest.importorskip("fledge.model.static_encoder")
    words = WordLevel({"w0": 0, "w1": 1, "w2": 2}, unk_token="w0")
    tokenizer = tokenizers.Tokenizer(words)
    tokenizer.pre_tokenizer = Whitespace()
    rows = np.array([[0, 0, 0, 1], [3, 0, 0, 0], [0, 4, 0, 0]], dtype=np.float32)
    static.StaticEncoder(rows, np.ones(3, dtype=np.float32), tokenizer).save(folder)
    return folder


def test_a_table_is_opened_by_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEDGE_HOME", str(tmp_path / "home"))
    embedder = open_embedder(str(table(tmp_path / "mine")))
    assert (embedder.name, embedder.dimensions, embedder.languages) == ("mine", 4, ("en",))
    assert np.allclose(embedder.embed(["w1 w2", "w1"]), [[0.6, 0.8, 0, 0], [1, 0, 0, 0]])
    assert np.array_equal(embedder.embed_queries(["w1 w2"]), embedder.embed(["w1 w2"]))
    assert len(embedder.revision) == 16


def test_the_shipped_one_is_found_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening_module, "WEIGHTS", tmp_path)
    folder = table(tmp_path / "bilingual")
    (folder / "languages.json").write_text(json.dumps({"en": 0.8, "zh": 0.75}))
    embedder = open_embedder("bilingual")
    assert embedder.name == "bilingual"
    assert [embedder.serves(one) for one in ("en", "zh-Hant", "fr")] == [0.8, 0.75, 0]


def test_what_the_table_gives_is_passed_on(tmp_path: Path) -> None:
    class Ones:
        dimensions = 2

        def vectors(self, texts: list[str]) -> np.ndarray:
            return np.full((len(texts), 2), 0.5**0.5, dtype=np.float32)

    embedder = StaticEmbedder(Ones(), tmp_path, "ones")
    assert embedder.embed(["a", "b"]).shape == (2, 2)
    assert (embedder.serves("en"), embedder.serves("zh")) == (1.0, 0.0)
