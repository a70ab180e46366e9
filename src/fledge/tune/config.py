"""Configs of post-training.  No torch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from fledge.model.lora_config import LoraConfig
from fledge.train.config import LoopConfig


def as_list(value: Any) -> Any:
    """A single string stands for a list of one."""
    return [value] if isinstance(value, str) else value


class Adapted(LoopConfig):
    """What every stage of post-training can do: learn all weights, or small matrices beside them.

    docs/adapters.md tells of both; ``fledge.tune.adapters`` does it.
    """

    lora: LoraConfig | None = None
    """Train matrices of low rank beside the frozen model; none: train all weights."""

    quantize_base: Literal["int8", "nf4"] | None = None
    """Keep the frozen matrices in 8 or 4 bits (QLoRA, arXiv:2305.14314); for ``lora`` only."""

    @model_validator(mode="after")
    def _quantizes_what_is_frozen(self) -> Adapted:
        if self.quantize_base and self.lora is None:
            raise ValueError(
                f"quantize_base = {self.quantize_base!r} is for lora, whose base is frozen: "
                "set lora.rank, or leave quantize_base away"
            )
        return self


class SftConfig(Adapted):
    """The stage ``[sft]``: a model that answers, from a base model and conversations."""

    conversations: Annotated[list[str], BeforeValidator(as_list)] = Field(default_factory=list)
    """JSONL or JSON files, also .gz and .zst (OpenAI ``messages``, ShareGPT or Alpaca)."""

    practice: Annotated[list[str], BeforeValidator(as_list)] = Field(default_factory=list)
    """Files of conversations that are learnt first, once and by themselves: a skill that has to be
    there before others can be learnt with it."""

    context: int | None = Field(default=None, ge=2)
    """Tokens per row; at most the model's context, which is what None means."""

    batch_rows: int = Field(default=32, ge=1)
    """Rows per optimizer step; several conversations share a row, blind to each other."""

    overlong: Literal["drop", "truncate", "error"] = "drop"
    """What to do with conversations longer than a row: leave them out, keep as many whole turns
    as fit, or stop.  Those left out and cut are counted."""

    train_on: Literal["assistant", "last"] = "assistant"
    """Learn all of the assistant's messages, or only the last of each conversation."""

    learn_turns: bool | None = None
    """With ``lora``: train the rows of the special tokens of conversations, too.  None: where the
    base was pretrained only, so that it never met them; tokens it is given always learn."""

    neftune_alpha: float = Field(default=0.0, ge=0)
    """Noise on the embeddings while training (NEFTune, arXiv:2310.05914), 5 to 15; 0: none."""

    held_out: float = Field(default=0.02, ge=0, lt=1)
    """Share of the conversations kept for measuring the loss, never trained on."""

    replay_share: float = Field(default=0.0, ge=0, lt=1)
    """Share of the rows that are pretraining text, against forgetting."""
