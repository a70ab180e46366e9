"""Configs of post-training.  No torch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from fledge.train.config import LoopConfig


def _as_list(value: Any) -> Any:
    """A single string stands for a list of one."""
    return [value] if isinstance(value, str) else value


class SftConfig(LoopConfig):
    """The stage ``[sft]``: a model that answers, from a base model and conversations."""

    conversations: Annotated[list[str], BeforeValidator(_as_list)] = Field(default_factory=list)
    """JSONL files (OpenAI ``messages``, Alpaca or ShareGPT)."""

    context: int | None = Field(default=None, ge=2)
    """Tokens per row; at most the model's context, which is what None means."""

    batch_rows: int = Field(default=32, ge=1)
    """Rows per optimizer step; several conversations share a row, blind to each other."""

    overlong: Literal["drop", "truncate"] = "drop"
    """What to do with conversations longer than a row: leave them out, or keep as many whole
    turns as fit.  Either is counted."""

    held_out: float = Field(default=0.02, ge=0, lt=1)
    """Share of the conversations kept for measuring the loss, never trained on."""

    replay_share: float = Field(default=0.0, ge=0, lt=1)
    """Share of the rows that are pretraining text, against forgetting."""
