"""Post-training: supervised fine-tuning on conversations, honesty.

The stages themselves are ``fledge.tune.sft.sft`` and ``fledge.tune.honesty.honesty``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fledge.core.lazy import facade

if TYPE_CHECKING:
    from fledge.tune.config import SftConfig as SftConfig
    from fledge.tune.honesty_config import HonestyConfig as HonestyConfig
    from fledge.tune.loader import ConversationLoader as ConversationLoader
    from fledge.tune.packing import pack as pack

__all__ = ["ConversationLoader", "HonestyConfig", "SftConfig", "pack"]

__getattr__ = facade(
    __name__,
    {
        "ConversationLoader": "loader",
        "HonestyConfig": "honesty_config",
        "SftConfig": "config",
        "pack": "packing",
    },
)
