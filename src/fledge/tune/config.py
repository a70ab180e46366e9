"""Configs of post-training.  No torch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from fledge.train.config import LoopConfig


def as_list(value: Any) -> Any:
    """A single string stands for a list of one."""
    return [value] if isinstance(value, str) else value


class SftConfig(LoopConfig):
    """The stage ``[sft]``: a model that answers, from a base model and conversations."""

    conversations: Annotated[list[str], BeforeValidator(as_list)] = Field(default_factory=list)
    """JSONL or JSON files, also .gz and .zst (OpenAI ``messages``, ShareGPT or Alpaca)."""

    context: int | None = Field(default=None, ge=2)
    """Tokens per row; at most the model's context, which is what None means."""

    batch_rows: int = Field(default=32, ge=1)
    """Rows per optimizer step; several conversations share a row, blind to each other."""

    overlong: Literal["drop", "truncate", "error"] = "drop"
    """What to do with conversations longer than a row: leave them out, keep as many whole turns
    as fit, or stop.  Those left out and cut are counted."""

    train_on: Literal["assistant", "last"] = "assistant"
    """Learn all of the assistant's messages, or only the last of each conversation."""

    neftune_alpha: float = Field(default=0.0, ge=0)
    """Noise on the embeddings while training (NEFTune, arXiv:2310.05914), 5 to 15; 0: none."""

    held_out: float = Field(default=0.02, ge=0, lt=1)
    """Share of the conversations kept for measuring the loss, never trained on."""

    replay_share: float = Field(default=0.0, ge=0, lt=1)
    """Share of the rows that are pretraining text, against forgetting."""
