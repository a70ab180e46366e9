"""What ``fledge data clean`` drops: its thresholds."""

from __future__ import annotations

from pydantic import Field

from fledge.core.config import Config


class SiftingConfig(Config):
    """Which examples of post-training data are dropped."""

    min_answer: int = Field(default=1, ge=0)
    """Least characters of an answer that is learnt."""

    max_characters: int = Field(default=32_000, ge=1)
    """Most characters of a whole conversation."""

    max_repeated: float = Field(default=0.3, ge=0, le=1)
    """Greatest share of an answer in lines or sentences that it has said before."""

    refusals: bool = False
    """Whether answers that refuse are dropped: by their first words, in English or Chinese."""

    languages_agree: bool = True
    """Whether an answer in another language than its question is dropped, if none is named."""

    near: bool = True
    """Whether to look for near duplicates besides exact ones."""

    threshold: float = Field(default=0.8, gt=0, le=1)
    """Jaccard similarity of 5-gram sets from which two rows are near duplicates."""

    bands: int = Field(default=20, ge=1)
    """Bands of the locality-sensitive hashing; more bands find less similar pairs."""

    rows: int = Field(default=6, ge=1)
    """Hash values per band; more rows make fewer candidates."""

    ngram: int = Field(default=13, ge=5)
    """Tokens in a row, words or Chinese characters, that give an evaluation item away."""

    min_score: float | None = None
    """Least score of an answer that is learnt; pairs must be in order, too.  None: no scoring."""
