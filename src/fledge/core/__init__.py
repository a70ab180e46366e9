"""The words everyone uses: types, protocols, configs, run directories, errors."""

from __future__ import annotations

from fledge.core.config import Config, parse_config
from fledge.core.errors import FledgeError, InputError
from fledge.core.protocols import (
    Bar,
    ChatModel,
    Delta,
    Embedder,
    Execution,
    Progress,
    Reply,
    Sampling,
    Sandbox,
    Silent,
    Tool,
    Usage,
)
from fledge.core.recipe import Recipe, load_recipe
from fledge.core.run import Outcome, StageFolder
from fledge.core.types import Document, Message, Span, ToolCall, Verdict, content_hash

__all__ = [
    "Bar",
    "ChatModel",
    "Config",
    "Delta",
    "Document",
    "Embedder",
    "Execution",
    "FledgeError",
    "InputError",
    "Message",
    "Outcome",
    "Progress",
    "Recipe",
    "Reply",
    "Sampling",
    "Sandbox",
    "Silent",
    "Span",
    "StageFolder",
    "Tool",
    "ToolCall",
    "Usage",
    "Verdict",
    "content_hash",
    "load_recipe",
    "parse_config",
]
