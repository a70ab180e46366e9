"""Tables of vectors: their mean by hand, their folder, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from fledge.core.errors import InputError
from fledge.core.files import read_json, write_json
from fledge.model.static_encoder import StaticEncoder, is_static, quantized
from fledge.tokenizer.lexicon import lexicon_tokenizer


@pytest.fixture
def encoder() -> StaticEncoder:
    tokenizer = lexicon_tokenizer({"steel": 3, "bridge": 2, "桥": 1})
    rows = np.array([[0, 0], [3, 0], [0, 2], [1, 1]], dtype=np.float32)
    return StaticEncoder(rows, np.array([1, 1, 2, 1]), tokenizer, name="small")


def test_the_weighted_mean_by_hand(encoder: StaticEncoder) -> None:
    found = encoder.vectors(["steel bridge", "Bridge", "", "???", "桥桥"])
    root = 0.5**0.5
    expected = [[0.6, 0.8], [0, 1], [0, 0], [0, 0], [root, root]]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert encoder.count_tokens(["steel bridge", ""]) == [2, 0]
    assert encoder.embed(["Bridge"]) == [[0.0, 1.0]]


def test_many_texts_as_one_by_one(encoder: StaticEncoder) -> None:
    texts = ["steel", "", "bridge steel 桥", "x", "桥 bridge"] * 150
    singly = np.concatenate([encoder.vectors([text]) for text in texts])
    assert np.array_equal(encoder.vectors(texts), singly)


def test_the_folder_gives_the_same_vectors(encoder: StaticEncoder, tmp_path: Path) -> None:
    encoder.save(tmp_path / "small")
    assert is_static(tmp_path / "small")
    assert not is_static(tmp_path)
    again = StaticEncoder.load(tmp_path / "small")
    assert (again.name, again.dimensions) == ("small", 2)
    texts = ["steel bridge", "桥"]
    assert np.array_equal(again.vectors(texts), encoder.vectors(texts))


def test_a_mapping_shares_rows(encoder: StaticEncoder, tmp_path: Path) -> None:
    """As model2vec stores a table of fewer rows than words."""
    mapping = np.array([0, 1, 1, 0])
    shared = StaticEncoder(encoder.rows[:2], encoder.weights, encoder.tokenizer, mapping=mapping)
    shared.save(tmp_path)
    found = StaticEncoder.load(tmp_path).vectors(["bridge", "steel", "桥"])
    np.testing.assert_allclose(found, [[1, 0], [1, 0], [0, 0]])


def test_eight_bits_are_near() -> None:
    generator = np.random.default_rng(0)
    table = generator.normal(size=(50, 64)).astype(np.float32) * generator.uniform(0, 3, (50, 1))
    table[7] = 0
    rows, weights = quantized(table.astype(np.float32))
    assert rows.dtype == np.int8
    error = np.abs(rows * weights[:, None] - table).max(axis=1)
    assert (error <= np.abs(table).max(axis=1) / 254 + 1e-6).all()


def test_cut_to_fewer_dimensions(encoder: StaticEncoder) -> None:
    assert encoder.cut(1).vectors(["steel bridge"]).tolist() == [[1.0]]
    with pytest.raises(InputError, match="1 to 2"):
        encoder.cut(3)


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json"])
def test_a_damaged_file_is_named(encoder: StaticEncoder, tmp_path: Path, file: str) -> None:
    encoder.save(tmp_path)
    (tmp_path / file).write_bytes(b"{")
    with pytest.raises(InputError, match=file):
        StaticEncoder.load(tmp_path)


def test_what_is_no_table_is_refused(encoder: StaticEncoder, tmp_path: Path) -> None:
    encoder.save(tmp_path)
    assert "embeddings" in load_file(tmp_path / "model.safetensors")
    write_json(
        tmp_path / "config.json", {**read_json(tmp_path / "config.json"), "model_type": "bert"}
    )
    with pytest.raises(InputError, match="no table"):
        StaticEncoder.load(tmp_path)


def test_a_tokenizer_of_more_words_is_refused(encoder: StaticEncoder) -> None:
    with pytest.raises(InputError, match="4 tokens, the table 3"):
        StaticEncoder(encoder.rows[:3], encoder.weights[:3], encoder.tokenizer)
    with pytest.raises(InputError, match="without a row"):
        StaticEncoder(encoder.rows[:3], encoder.weights, encoder.tokenizer)
