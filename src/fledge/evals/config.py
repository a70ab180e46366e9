"""Config of the stage ``[evals]``."""

from __future__ import annotations

from pydantic import Field

from fledge.core.config import Config


class EvalsConfig(Config):
    """The same questions and texts for every rung: base, SFT and what comes after."""

    limit: int = Field(default=400, ge=1)
    """The most questions asked of a set; larger sets are sampled by ``seed``."""

    max_new_tokens: int = Field(default=96, ge=1)
    """The longest answer, in tokens; worked calculations are the longest."""

    tool_rounds: int = Field(default=3, ge=1)
    """How often a model may call tools before it must answer."""

    list_tools: bool = False
    """Write the tools' definitions into the prompt: for models that met them there, which takes
    more room than the demo's context has."""

    pairs: int = Field(default=1000, ge=1)
    """The most prompts on which a rung is compared with the one before."""

    validation_tokens: int = Field(default=100_000, ge=1)
    """Held-out tokens read for bits per byte, in whole documents sampled by ``seed``."""

    stride: int | None = Field(default=None, ge=1)
    """Tokens a window moves on by when a text is scored.  None: half a window.

    A window is as long as the model's context, but at most 4096 tokens.
    """

    seed: int = Field(default=0, ge=0)
    """Decides the sampled questions and documents, and the draws of the bootstrap."""
