"""Configs of embedder training.  No torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from fledge.core import Config
from fledge.train.config import LoopConfig
from fledge.tune.config import as_list

Files = Annotated[list[str], BeforeValidator(as_list)]


class TableConfig(Config):
    """A new embedder that is a table: a vector for each word, whose weighted mean is the text's."""

    dimensions: int = Field(default=256, ge=1)
    """Numbers of a vector; with a teacher no more than it has."""

    han_words: int = Field(default=22_000, ge=0)
    """The most Chinese words of two characters or more, taken from rows whose ``zh`` is a word."""

    other_words: int = Field(default=16_000, ge=0)
    """The most words of other scripts."""

    frequencies: str | None = None
    """JSONL of {word, count}: how common words are in general.  None: as in the training texts."""

    folding: str | None = None
    """JSON object, character to character, applied to every text: Traditional to Simplified."""

    storage: Literal["int8", "float16", "float32"] = "int8"
    """Numbers of the saved table; in int8 each row has a scale."""

    smoothing: float = Field(default=1e-3, gt=0)
    """a of the first weight a / (a + p) of a word of frequency p (SIF, ICLR 2017)."""


class EmbedderConfig(LoopConfig):
    """``fledge embed train``: an embedder from texts that belong together."""

    pairs: Files = Field(default_factory=list)
    """JSONL, also .gz and .zst: {query, positive, negatives?} or {en, zh}, each with ``source``."""

    table: TableConfig = TableConfig()
    """The shape of a new embedder; of no meaning when a model is given."""

    teacher: str | None = None
    """An embedder that shows where texts belong: {en, zh} both where it puts ``en``."""

    taught: Literal["en", "all", "none"] = "en"
    """Of {query, positive}: which texts the teacher reads; "en": those without Chinese."""

    distillation: float = Field(default=1.0, ge=0)
    """Weight of the distance to the teacher's vectors beside the contrastive loss."""

    contrast: float = Field(default=1.0, ge=0)
    """Weight of the contrastive loss."""

    temperature: float = Field(default=0.05, gt=0)
    """Divides the cosines: the smaller, the more the nearest wrong text counts."""

    negatives: int = Field(default=0, ge=0)
    """Negatives of a row that are read, the first ones (``fledge embed mine`` adds them)."""

    matryoshka: list[Annotated[int, Field(ge=1)]] = Field(default_factory=list)
    """Numbers of dimensions, from the first on, that shall do by themselves, too."""

    repeats: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    """How often an epoch reads the rows of a source; 1 where it is not named."""

    batch_rows: int = Field(default=512, ge=2)
    """Pairs of a step, all of one source: each is told from the others."""

    chunk_rows: int | None = Field(default=None, ge=1)
    """Texts whose layers are in memory at once; the others are computed again for the gradient
    (as GradCache, arXiv:2101.06983): large batches on small machines.  None: all."""

    max_tokens: int = Field(default=128, ge=1)
    """Tokens of a text that training reads."""

    optimizer: Literal["muon", "adamw", "lion", "adamw8bit"] = "adamw"
    """Only "adamw"."""

    spike_sigma: float = Field(default=0.0, ge=0)
    """As everywhere, but off: batches of one source lie as far apart as their sources."""

    held_out: float = Field(default=0.02, ge=0, lt=1)
    """Share of each source kept for measuring, never trained on."""

    @model_validator(mode="after")
    def _possible(self) -> EmbedderConfig:
        if self.optimizer != "adamw":
            raise ValueError(f"optimizer {self.optimizer!r} is not for embedders: use adamw")
        if self.micro_rows is not None:
            raise ValueError("micro_rows would split the pairs that are compared: use chunk_rows")
        return self


class MineConfig(Config):
    """``fledge embed mine``: which texts become hard negatives of a query."""

    negatives: int = Field(default=4, ge=1)
    """Negatives for each row, at most."""

    depth: int = Field(default=50, ge=1)
    """Nearest texts that are looked at."""

    skip: int = Field(default=0, ge=0)
    """Nearest texts that are left out whatever their score."""

    most: float = Field(default=0.95, gt=0)
    """A negative scores at most this share of the positive's cosine: what is nearer may well be
    another right answer (arXiv:2407.15831, TopK-PercPos)."""
