"""Config of the stage ``[honesty]``.  No torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from fledge.tune.config import SftConfig, as_list


class HonestyConfig(SftConfig):
    """The stage ``[honesty]``: a model is asked what it knows, and learns to say what it does not.

    What it learns is fine-tuned as in ``[sft]``.  ``conversations`` are files to rehearse from,
    see ``rehearse``.
    """

    facts: Annotated[list[str], BeforeValidator(as_list)] = Field(default_factory=list)
    """JSONL files of facts: ``questions`` (one fact in several wordings) and ``answers`` that count
    as right (none: nobody can know); perhaps ``reply``, ``declines``, ``language``, ``subject``."""

    paraphrases: int = Field(default=3, ge=1)
    """Wordings in which a fact is asked; facts that bring more are measured in the others."""

    draws: int = Field(default=1, ge=0)
    """Answers drawn for each wording, besides the likeliest one."""

    temperature: float = Field(default=0.7, gt=0)
    """Of the drawn answers."""

    max_new_tokens: int = Field(default=64, ge=1)
    """The longest answer, in tokens."""

    known_at: float = Field(default=0.75, gt=0, le=1)
    """A fact is known when at least this share of its answers is right."""

    unknown_at: float = Field(default=0.34, ge=0, lt=1)
    """A fact is unknown when at most this share is right; between the two it is shaky, and nothing
    is taught about it."""

    wordings: int = Field(default=2, ge=1)
    """Conversations taught of each fact, in different wordings."""

    known_share: float = Field(default=0.6, gt=0, lt=1)
    """Share of the known among the facts taught; the rest is declined.  What is too many of one
    kind is left out, by chance."""

    measured: float = Field(default=0.2, gt=0, lt=1)
    """Share of the subjects that nothing is taught about: before and after training, the share of
    unknown facts that is made up and of known ones that is declined is measured on them."""

    rehearse: int = Field(default=0, ge=0)
    """Conversations of earlier stages that are learnt again, against forgetting."""

    @model_validator(mode="after")
    def _apart(self) -> HonestyConfig:
        if self.unknown_at >= self.known_at:
            raise ValueError("unknown_at must be below known_at")
        return self
