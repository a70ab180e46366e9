"""Small encoders with random weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import tokenizers
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from fledge.model.encoder import Encoder
from fledge.model.encoder_config import EncoderConfig, TextSettings
from fledge.model.text_encoder import TextEncoder

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"w{number}" for number in range(60)))


def small_tokenizer(words: Sequence[str] = WORDS) -> tokenizers.Tokenizer:
    """One token a word."""
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = tokenizers.Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


def small_folder(
    folder: Path, settings: TextSettings, *, seed: int = 1, activation: str = "gelu",
    dtype: str = "float32",
) -> Path:  # fmt: skip
    """A sentence-transformers folder: two layers of 32 dimensions."""
    config = EncoderConfig.model_validate(
        {"vocab_size": len(WORDS), "width": 32, "depth": 2, "heads": 4, "ffn": 64,
         "context": 40, "activation": activation}
    )  # fmt: skip
    model = Encoder(config).initialize(seed)
    for name, weight in model.named_parameters():
        if weight.ndim == 2:
            weight.data *= 10  # else all texts look alike
        elif name.endswith("bias"):
            weight.data += 0.1
    TextEncoder(model, small_tokenizer(), settings).save(folder, dtype=dtype)
    return folder
