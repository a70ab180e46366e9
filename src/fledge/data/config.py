"""Configs of the stages that prepare what a model reads: ``[corpus]`` and ``[tokens]``."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from fledge.core.config import Config


def _as_list(value: Any) -> Any:
    """A single string stands for a list of one."""
    return [value] if isinstance(value, str) else value


Strings = Annotated[list[str], BeforeValidator(_as_list)]


class QualityConfig(Config):
    """Thresholds of the quality rules (after Gopher arXiv:2112.11446, C4 arXiv:1910.10683)."""

    min_words: float = Field(default=30, ge=0)
    """Shortest web page kept, in words; a Chinese character counts ``cjk_word`` words."""

    min_words_text: float = Field(default=3, ge=0)
    """The same for plain text, Markdown, JSONL and Parquet, which somebody chose on purpose."""

    cjk_word: float = Field(default=0.6, gt=0, le=1)
    """Words per Chinese, Japanese or Korean character."""

    min_word_length: float = Field(default=2.5, ge=0)
    """Least mean length of alphabetic words, in characters."""

    max_word_length: float = Field(default=12.0, gt=0)
    """Greatest mean length of alphabetic words, in characters."""

    min_letter_share: float = Field(default=0.5, ge=0, le=1)
    """Least share of letters among the characters that are not white space."""

    max_bullet_share: float = Field(default=0.95, ge=0, le=1)
    """Greatest share of a web page's lines that start with a bullet."""

    max_ellipsis_share: float = Field(default=0.4, ge=0, le=1)
    """Greatest share of a web page's lines that end with an ellipsis."""

    min_function_words: int = Field(default=2, ge=0)
    """Least number of different function words on a web page in English or Chinese."""

    max_duplicate_lines: float = Field(default=0.4, ge=0, le=1)
    """Greatest share of characters in lines that occurred before."""

    max_duplicate_ngrams: float = Field(default=0.5, ge=0, le=1)
    """Greatest share of tokens inside 8-grams that occurred before."""

    max_duplicate_ngrams_text: float = Field(default=0.8, ge=0, le=1)
    """The same for plain text: laws and lists repeat themselves in good faith."""

    max_top_word: float = Field(default=0.18, ge=0, le=1)
    """Greatest share of one content word (or pair of Chinese characters) among the tokens."""

    max_spam_share: float = Field(default=0.05, ge=0, le=1)
    """Greatest share of advertising terms among the words of a web page."""

    min_compressed: float = Field(default=0.12, ge=0, le=1)
    """Least ratio of DEFLATE-compressed to plain size (texts of at least 1,000 bytes)."""

    max_link_share: float = Field(default=0.6, ge=0, le=1)
    """Greatest share of a web page's text (outside its navigation) that is link text."""

    min_links: int = Field(default=15, ge=1)
    """A page with fewer links than this is no link farm."""


class DuplicatesConfig(Config):
    """Exact and near duplicates (MinHash, Broder 1997)."""

    near: bool = True
    """Whether to look for near duplicates besides exact ones."""

    threshold: float = Field(default=0.65, gt=0, le=1)
    """Jaccard similarity of 5-gram sets from which two documents are near duplicates."""

    bands: int = Field(default=30, ge=1)
    """Bands of the locality-sensitive hashing; more bands find less similar pairs."""

    rows: int = Field(default=5, ge=1)
    """Hash values per band; more rows make fewer candidates."""


class CorpusConfig(Config):
    """From raw pages to clean documents."""

    incidental: ClassVar[frozenset[str]] = frozenset({"workers"})

    input: Strings = Field(default=[])
    """Files, folders (read with all below) and globs: WARC, HTML, text, Markdown, JSONL, Parquet,
    tar archives of these; ``.gz`` or ``.zst`` on any.  Empty: the pages of ``[samples]``."""

    jsonl_text: Strings = Field(default=[])
    """Keys of JSONL and Parquet records that hold the text, joined by line breaks; a dotted path
    such as ``doc.articles[].text`` reaches into nested records.  Empty: found by itself."""

    languages: Strings = Field(default=["en", "zh-Hans", "zh-Hant"])
    """Languages kept ("en", "zh-Hans", "zh-Hant", ISO 639-1, "code"); empty keeps all."""

    extraction: Literal["balanced", "precision", "recall"] = "balanced"
    """What the main-text extractor favours when it is in doubt."""

    quality: QualityConfig = QualityConfig()
    """Thresholds of the quality rules."""

    duplicates: DuplicatesConfig = DuplicatesConfig()
    """How duplicates are found."""

    pii: Literal["mask", "drop", "keep"] = "mask"
    """Personal data: replaced by a placeholder (``<EMAIL>``), its document dropped, or kept."""

    secrets: Literal["mask", "drop", "keep"] = "mask"
    """Keys, tokens and passwords: masked, their document dropped, or kept."""

    guard: bool = True
    """Whether unsafe, poisoned and prompt-injecting pages are dropped."""

    validation_share: float = Field(default=0.02, ge=0, lt=1)
    """Share of works held out for validation, chosen by a hash of the work's name."""

    validation: Strings = Field(default=[])
    """Patterns (``*pride*``) of inputs, records or URLs held out whole; replaces the share."""

    document_seconds: float = Field(default=10.0, gt=0)
    """Time limit for one document, in seconds of processor time."""

    document_bytes: int = Field(default=20_000_000, gt=0)
    """Size limit for one raw document, in bytes."""

    workers: int = Field(default=0, ge=0)
    """Worker processes; 0: one per usable core, at most 16.  The result does not depend on it."""


class TokensConfig(Config):
    """From documents to token shards."""

    shard_tokens: int = Field(default=10_000_000, ge=1)
    """Tokens per shard file; a document is never split."""
