"""Requests about LoRA adapters, as vLLM has them."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class AdapterName(BaseModel):
    """``POST /v1/unload_lora_adapter``"""

    model_config = ConfigDict(strict=True, extra="forbid", use_attribute_docstrings=True)

    lora_name: str = Field(min_length=1, max_length=200)
    """What requests call it in ``model``."""


class AdapterRequest(AdapterName):
    """``POST /v1/load_lora_adapter``"""

    lora_path: str = Field(min_length=1, max_length=1000)
    """Its folder, below the one that the server was started with."""
