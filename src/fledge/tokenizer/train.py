"""Texts in, a byte-level BPE tokenizer folder and its report out.

Byte-level BPE: Sennrich et al. 2016 (arXiv:1508.07909) over bytes, after splitting with the
pre-tokenization pattern of Qwen2, in which every digit stands alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, repeat
from pathlib import Path

from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Model

from fledge.core.errors import InputError
from fledge.core.files import write_json
from fledge.core.protocols import Progress, Silent
from fledge.core.run import Outcome
from fledge.tokenizer.config import TokenizerConfig
from fledge.tokenizer.template import CHAT_TEMPLATE, ENDOFTEXT, IM_END, SPECIAL_TOKENS
from fledge.tokenizer.tokenizer import Tokenizer

QWEN2_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

Texts = Callable[[], Iterable[tuple[str, str]]]
"""Gives (language, text) pairs, anew at each call."""


def train_tokenizer(
    config: TokenizerConfig,
    train: Texts,
    held_out: Texts,
    out: Path,
    progress: Progress | None = None,
) -> Outcome:
    """Train on ``train``, report bytes per token by language on ``held_out``, write to ``out``.

    Raises InputError when there is no text.
    """
    progress = progress or Silent()
    if config.source:
        tokenizer = Tokenizer.load(config.source)
    else:
        tokenizer = Tokenizer(_train(config, train, progress), _hf_config())
    tokenizer.save(out)
    fertility = bytes_per_token(tokenizer, held_out())
    report = {
        "vocab_size": tokenizer.vocab_size,
        "bytes_per_token": fertility,
        "examples": _examples(tokenizer, held_out()),
    }
    write_json(out / "report.json", report)
    return Outcome(
        counts={"vocab_size": tokenizer.vocab_size},
        figures={f"tokenizer.bytes_per_token.{lang}": value for lang, value in fertility.items()},
    )


def _train(config: TokenizerConfig, train: Texts, progress: Progress) -> Model:
    model = Model(models.BPE(byte_fallback=False))
    model.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    model.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[AddedToken(token, special=True) for token in SPECIAL_TOKENS],
        show_progress=False,
    )
    total = sum(len(text.encode("utf-8", "replace")) for _, text in train())
    if total == 0:
        raise InputError("there is no text to train a tokenizer on", remedy="check the corpus")
    taken = min(total, config.sample_bytes)
    with progress.bar("tokenizer: reading", taken, "B") as bar:
        sample = _sample(train(), taken / total, bar.advance)
        model.train_from_iterator(chain(sample, _terms(config, taken)), trainer)
    return model


def _terms(config: TokenizerConfig, taken: int) -> Iterator[str]:
    """The terms, each so often that the pairs within its words are worth a merge: once for each
    ``vocab_size`` bytes of text, where the last merges of a vocabulary come far more seldom.
    """
    for term in config.terms:
        yield from repeat(term, max(1, taken // config.vocab_size))


def _sample(
    texts: Iterable[tuple[str, str]], share: float, advance: Callable[[float], None]
) -> Iterator[str]:
    """Every document, or evenly spread ones holding about ``share`` of the bytes."""
    seen = taken = 0
    for _, text in texts:
        size = len(text.encode("utf-8", "replace"))
        seen += size
        if taken + size <= seen * share or share >= 1:
            taken += size
            advance(size)
            yield text


def _hf_config() -> dict[str, object]:
    """``tokenizer_config.json`` as transformers reads it."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": None,
        "eos_token": IM_END,
        "pad_token": ENDOFTEXT,
        "unk_token": None,
        "add_bos_token": False,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 1_000_000,
        "chat_template": CHAT_TEMPLATE,
    }


def bytes_per_token(tokenizer: Tokenizer, texts: Iterable[tuple[str, str]]) -> dict[str, float]:
    """UTF-8 bytes per token for each language of ``texts`` (more is better)."""
    sizes: dict[str, list[int]] = {}
    for lang, text in texts:
        bytes_tokens = sizes.setdefault(lang, [0, 0])
        bytes_tokens[0] += len(text.encode("utf-8", "replace"))
        bytes_tokens[1] += len(tokenizer.encode(text))
    return {lang: round(b / t, 4) for lang, (b, t) in sorted(sizes.items()) if t}


def _examples(tokenizer: Tokenizer, texts: Iterable[tuple[str, str]]) -> list[dict[str, object]]:
    """The beginning of the first text of each language, with its (id, start, end) tokens."""
    first: dict[str, str] = {}
    for lang, text in texts:
        first.setdefault(lang, text[:160])
    return [
        {"lang": lang, "text": text, "tokens": tokenizer.tokens(text)}
        for lang, text in sorted(first.items())
    ]
