"""How post-training data is made with a model: one config for all methods."""

from __future__ import annotations

from pydantic import Field

from fledge.core.config import Config
from fledge.data.synthesis.asking import Language


class SynthesisConfig(Config):
    """How a method asks, and what it keeps."""

    count: int = Field(default=100, ge=1)
    """Items to make at most; with an input of fewer rows, one an input row."""

    language: Language = "en"
    """Of the prompts: "en", "zh-Hans" or "zh-Hant"."""

    seed: int = 0
    """The same seed draws the same inputs and asks the model with the same seeds."""

    temperature: float = Field(default=0.8, ge=0)
    """Of the model; judges are asked at 0."""

    top_p: float = Field(default=0.95, gt=0, le=1)
    """The model draws from this much probability."""

    max_new_tokens: int = Field(default=1024, ge=1)
    """Longest answer in tokens; one that is cut off is not used."""

    shown: int = Field(default=8, ge=1)
    """self-instruct: examples shown, three of four from the seeds."""

    most_alike: float = Field(default=0.7, gt=0, le=1)
    """self-instruct: ROUGE-L with an earlier instruction from which a new one is not new."""

    rounds: int = Field(default=2, ge=1)
    """evolve: times that an instruction is made harder."""

    questions: int = Field(default=3, ge=1)
    """documents, personas: questions a passage or persona."""

    passage: int = Field(default=2_000, ge=100)
    """documents, personas: most characters of a passage."""

    votes: int = Field(default=1, ge=1)
    """chain-of-thought: answers drawn; the majority's is kept (self-consistency)."""

    agreement: float = Field(default=0.5, gt=0, le=1)
    """chain-of-thought: least share of the votes for the final answer."""

    branches: int = Field(default=4, ge=1)
    """branch-solve-merge: most parts of a question."""
