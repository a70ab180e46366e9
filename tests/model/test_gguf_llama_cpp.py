"""llama.cpp reads our GGUF files: the same ids, the same logits, the same greedy tokens.

Runs where llama_cpp can be imported, or in the interpreter that $FLEDGE_LLAMA_PYTHON names.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from fledge.model.config import ModelConfig
from fledge.model.gguf import load_gguf, write_gguf
from fledge.tokenizer.config import TokenizerConfig
from fledge.tokenizer.tokenizer import Tokenizer
from fledge.tokenizer.train import train_tokenizer
from pico_model import pico_texts
from pico_shapes import BASE, SHAPES, decoder, shape

TEXTS = ["The Golden Gate Bridge", "金门大桥于1937年", "  x = {'a': 1}\n\n\t🙂 café I'LL"]


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "gguf_greedy.py"
    spec = importlib.util.spec_from_file_location("gguf_greedy", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def python(bench: ModuleType) -> str:
    python = os.environ.get("FLEDGE_LLAMA_PYTHON", sys.executable)
    if not bench.has_llama(python):
        pytest.skip("needs llama_cpp here or in $FLEDGE_LLAMA_PYTHON")
    return python


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(TokenizerConfig(vocab_size=420), pico_texts, pico_texts, folder)
    return folder


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("kind", ["f32", "q8_0"])
def test_llama_cpp_computes_the_same(
    name: str, kind: str, bench: ModuleType, python: str, tokenizer: Path, tmp_path: Path
) -> None:
    config = shape(name)
    if config.window is not None:  # which llama.cpp leaves out, as the note says: stay within it
        config = config.model_copy(update={"window": BASE["context"]})
    file = tmp_path / "m.gguf"
    write_gguf(decoder(config), tokenizer, file, kind)
    model, reader = load_gguf(file), Tokenizer.load(tokenizer)
    prompts = [reader.encode(text) * 2 for text in TEXTS]
    job = {"gguf": str(file), "context": 128, "tokens": 20, "texts": TEXTS, "prompts": prompts}
    for text, prompt, row in zip(TEXTS, prompts, bench.ask_peer(python, job), strict=True):
        assert row["read"] == reader.encode(text)
        logits, drawn, margins = bench.greedy(model, prompt, 20)
        delta = float((logits - torch.tensor(row["logits"])).abs().max())
        # With Q8_0 llama.cpp rounds activations to 8 bits as well.
        assert delta <= (1e-4 if kind == "f32" else 0.05 * float(logits.abs().max()))
        if kind == "f32":
            first = next((i for i in range(20) if drawn[i] != row["drawn"][i]), None)
            assert first is None or margins[first] < 1e-4


def test_the_shapes_differ_where_they_should() -> None:
    """The comparison above can fail: the same weights under another RoPE give other logits."""
    plain = ModelConfig(**{**BASE, "qk_norm": False})
    ids = torch.arange(60)[None]
    expected = decoder(plain)(ids)
    for name in ("llama3", "linear"):
        other = decoder(plain.model_copy(update={"rope_scaling": shape(name).rope_scaling}))
        assert float((other(ids) - expected).detach().abs().max()) > 1e-3
