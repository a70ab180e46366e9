"""Config of the stage ``[ground]``: the clean documents of a run, made to answer."""

from __future__ import annotations

from pydantic import Field

from fledge.core.config import Config
from fledge.data.config import Strings
from fledge.index.split.config import SplitConfig


class GroundConfig(Config):
    """An index, and the ladder's questions asked of it."""

    input: Strings = Field(default=[])
    """Files, folders, globs, archives and URLs; empty: the documents of [corpus]."""

    embedder: str = "bilingual"
    """What makes vectors of chunks, as in ``fledge index build``."""

    split: SplitConfig = SplitConfig()
    """How documents are cut into chunks."""

    limit: int = Field(default=200, ge=1)
    """The most questions asked of a set; larger sets are sampled by ``seed``."""

    seed: int = Field(default=0, ge=0)
    """Decides the sampled questions and the draws of the bootstrap."""
