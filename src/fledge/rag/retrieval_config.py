"""How passages are found: one table, each part a step that may be left out."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from fledge.core.config import Config

Language = Literal["en", "zh"]
MODEL_STEPS = ("rewrite", "multi_query", "fusion", "hyde", "decompose")


class LegWeights(Config):
    """How much each search counts for questions in one language."""

    dense: float = Field(ge=0, allow_inf_nan=False)
    lexical: float = Field(ge=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _something(self) -> LegWeights:
        if self.dense + self.lexical <= 0:
            raise ValueError("dense and lexical are both 0: nothing would be found")
        return self


class FusionConfig(Config):
    """How the searches become one ranking."""

    how: Literal["scores", "ranks"] = "scores"
    """scores: each stretched to [0, 1] and weighed; ranks: weighted reciprocal-rank fusion."""
    constant: float = Field(default=10.0, gt=0)
    """Of ranks: 1 / (constant + rank)."""
    weights: dict[Language, LegWeights] = Field(default_factory=dict)
    """By the question's language, as `calibrate_fusion` finds them.  A language that is not here
    gets .65 for the lexical search and for the dense one .35 times the embedder's own trust in that
    language, which is 0 for one it was not made for."""


class ExpandConfig(Config):
    """What is searched for beside the question as it was asked."""

    how: Literal["none", "multi_query", "fusion", "hyde", "decompose"] = "none"
    """multi_query: other wordings by a language model, each chunk with its best score.  fusion:
    the same, ranks summed (RAG-fusion).  hyde: the embedder reads an answer that the model made
    up.  decompose: the model asks step by step for what is missing."""
    count: int = Field(default=3, ge=1, le=10)
    """Wordings, or steps."""
    history: Literal["none", "terms", "rewrite"] = "terms"
    """How a follow-up question learns what it is about.  terms: the earlier questions are searched
    for, too, at a lower weight.  rewrite: a language model writes it out."""


class RerankConfig(Config):
    """A second look at the best candidates."""

    how: Literal["none", "terms", "model"] = "terms"
    """terms: how much of the question, weighted by rarity, one sentence holds, and in its order
    (no model).  model: a cross-encoder's folder or a /v1/rerank URL, given beside this."""
    depth: int = Field(default=10, ge=1, le=500)
    """Candidates that are looked at."""


class WidenConfig(Config):
    """What is shown of a document around the chunk that was found."""

    how: Literal["none", "window", "merge", "parent"] = "none"
    """window: whole sentences around it.  merge: the larger chunk, where enough of its parts were
    found (auto-merging).  parent: always the larger chunk (small-to-big)."""
    window: int = Field(default=2, ge=0, le=100)
    """Sentences on each side."""
    share: float = Field(default=0.5, gt=0, le=1)
    """Of merge: the part of a larger chunk's children that must be among the candidates."""


class RetrievalConfig(Config):
    """From a question to passages."""

    k: int = Field(default=5, ge=1, le=200)
    """Passages."""
    legs: Literal["hybrid", "dense", "lexical"] = "hybrid"
    depth: int = Field(default=50, ge=1, le=1000)
    """Chunks that each search gives."""
    fusion: FusionConfig = FusionConfig()
    expand: ExpandConfig = ExpandConfig()
    rerank: RerankConfig = RerankConfig()
    widen: WidenConfig = WidenConfig()
    diversity: float = Field(default=0.0, ge=0, le=1)
    """How much a passage loses for repeating a better one (MMR); 0 is off."""
    half_life: float | None = Field(default=None, gt=0)
    """Days after which a document's date halves its score; None: age does not count."""

    @property
    def needs_model(self) -> list[str]:
        """The steps that ask a language model."""
        steps = [self.expand.how] if self.expand.how != "none" else []
        return (["rewrite"] if self.expand.history == "rewrite" else []) + steps
