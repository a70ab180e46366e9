"""Configs of learning from preferences: losses, ``[dpo]``, ``[reward]``.  No torch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from fledge.core.config import Config
from fledge.train.config import LoopConfig
from fledge.tune.config import Adapted


def _as_list(value: Any) -> Any:
    """A single string stands for a list of one."""
    return [value] if isinstance(value, str) else value


Files = Annotated[list[str], BeforeValidator(_as_list)]

Overlong = Literal["drop", "truncate", "error"]

STRENGTHS = {
    "dpo": 0.1,
    "dpo_norm": 5.0,
    "robust": 0.1,
    "ipo": 0.1,
    "kto": 0.1,
    "orpo": 0.1,
    "simpo": 2.0,
}
"""``beta`` where none is given: of the papers."""


class PreferenceLoss(Config):
    """A loss of the DPO family and its dials."""

    loss: Literal["dpo", "dpo_norm", "robust", "ipo", "kto", "orpo", "simpo"] = "dpo"
    """dpo: direct preference optimisation, with ``label_smoothing`` cDPO; dpo_norm: the same a
    token; robust: unbiased under flipped labels; ipo; kto: answers judged one by one; orpo and
    simpo: without a reference."""

    beta: float | None = Field(default=None, gt=0)
    """How firmly the model is held to its reference (b or tau); for simpo the scale of the reward,
    for orpo the weight of the odds.  None: 0.1; dpo_norm 5, simpo 2."""

    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """Share of the pairs that are believed to be the wrong way round (dpo, dpo_norm, robust,
    simpo)."""

    gamma: float = Field(default=1.0, ge=0)
    """By how much the chosen answer's reward should be ahead (simpo)."""

    sft_weight: float = Field(default=0.0, ge=0)
    """Adds so much of -log p of the chosen answer, a token (RPO, arXiv:2404.19733)."""

    desirable_weight: float = Field(default=1.0, gt=0)
    """Weight of good answers (kto)."""

    undesirable_weight: float = Field(default=1.0, gt=0)
    """Weight of bad answers (kto)."""

    @property
    def strength(self) -> float:
        """``beta`` as given, or the usual one of the loss."""
        return self.beta or STRENGTHS[self.loss]

    @model_validator(mode="after")
    def _effective(self) -> PreferenceLoss:
        """Refuse a dial that the loss would not read."""
        if self.label_smoothing and self.loss in ("ipo", "kto", "orpo"):
            raise ValueError(f"loss = '{self.loss}' has no label_smoothing: use dpo or robust")
        if self.loss == "robust" and not self.label_smoothing:
            raise ValueError("loss = 'robust' needs label_smoothing, the share of wrong labels")
        if self.sft_weight and self.loss in ("kto", "orpo"):
            raise ValueError(f"sft_weight does not go with loss = '{self.loss}': set it to 0")
        return self


class PairConfig(LoopConfig):
    """What the stages that read preferences share."""

    preferences: Files = Field(default_factory=list)
    """Files of pairs in any form that ``fledge data check`` reads, also .gz and .zst."""

    context: int | None = Field(default=None, ge=2)
    """Tokens of a prompt with one of its answers, at most; None: the model's context.  A row holds
    whole pairs, and so up to twice as many."""

    batch_rows: int = Field(default=16, ge=1)
    """Rows per optimizer step; several pairs share a row, all answers blind to each other."""

    overlong: Overlong = "drop"
    """What to do with longer ones: leave the pair out, cut its prompt from the left, or stop.
    Those left out and cut are counted; an answer is never cut."""

    held_out: float = Field(default=0.1, ge=0, lt=1)
    """Share of the pairs kept for measuring, never trained on, nor any of their prompts."""

    @model_validator(mode="after")
    def _no_z_loss(self) -> PairConfig:
        """Refuse what these losses do not have."""
        if self.z_loss:
            raise ValueError("z_loss is of next-token prediction: preferences have none")
        return self


class DpoConfig(PreferenceLoss, PairConfig, Adapted):
    """The stage ``[dpo]``: a model that prefers what people prefer.

    The reference is the model that the stage starts from.
    """


class RewardConfig(PairConfig):
    """The stage ``[reward]``: a model that scores answers."""

    kind: Literal["answers", "steps"] = "answers"
    """Learn which of two answers is better, or which steps of an answer are right (a process
    reward model); then ``preferences`` are files of steps with labels."""

    centre: float = Field(default=0.01, ge=0)
    """Weight of (sum of a pair's scores)^2, which keeps scores around zero."""

    margins: bool = True
    """Ask a chosen answer to be ahead by the ``margin`` of its row, where rows have one."""
