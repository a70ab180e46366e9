"""Pretraining: token shards in, a checkpoint out; and the one loop every stage trains with.

The stage itself is ``fledge.train.pretrain.pretrain``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fledge.core.lazy import facade

if TYPE_CHECKING:
    from fledge.train.batch import Batch as Batch
    from fledge.train.config import LoopConfig as LoopConfig
    from fledge.train.config import PretrainConfig as PretrainConfig
    from fledge.train.loader import PackedLoader as PackedLoader
    from fledge.train.loop import Training as Training
    from fledge.train.loop import train as train
    from fledge.train.shards import TokenShards as TokenShards

__all__ = [
    "Batch",
    "LoopConfig",
    "PackedLoader",
    "PretrainConfig",
    "TokenShards",
    "Training",
    "train",
]

__getattr__ = facade(
    __name__,
    {
        "Batch": "batch",
        "LoopConfig": "config",
        "PackedLoader": "loader",
        "PretrainConfig": "config",
        "TokenShards": "shards",
        "Training": "loop",
        "train": "loop",
    },
)
