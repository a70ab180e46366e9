"""Post-training: supervised fine-tuning on conversations.

The stage itself is ``fledge.tune.sft.sft``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fledge.core.lazy import facade

if TYPE_CHECKING:
    from fledge.tune.config import SftConfig as SftConfig
    from fledge.tune.loader import ConversationLoader as ConversationLoader
    from fledge.tune.packing import pack as pack

__all__ = ["ConversationLoader", "SftConfig", "pack"]

__getattr__ = facade(
    __name__, {"ConversationLoader": "loader", "SftConfig": "config", "pack": "packing"}
)
