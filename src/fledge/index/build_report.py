"""What a build did: counts, seconds a phase, what failed and why."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from fledge.index.loaded import Unreadable

PHASES = ("discover", "parse", "split", "terms", "embed", "commit")
_COUNTS = (
    "new",
    "changed",
    "unchanged",
    "removed",
    "chunks",
    "characters",
    "terms",
    "embedded",
    "reused",
)


@dataclass
class BuildReport:
    """Filled while a build runs."""

    new: int = 0
    changed: int = 0
    unchanged: int = 0
    removed: int = 0
    chunks: int = 0
    """Level-0 chunks written."""
    characters: int = 0
    terms: int = 0
    embedded: int = 0
    """Chunks that were embedded."""
    reused: int = 0
    """Chunks whose vector the former version of their document had already."""
    failed: list[Unreadable] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PHASES, 0.0))
    total_seconds: float = 0.0
    sizes: dict[str, int] = field(default_factory=dict)
    """Of the whole index, at the end."""

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Add the block's seconds to a phase."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[phase] += time.perf_counter() - start

    def as_json(self) -> dict[str, Any]:
        """The report as it is written: flat figures beside the details."""
        counts = {name: getattr(self, name) for name in _COUNTS}
        figures: dict[str, float] = {f"index.{name}": value for name, value in counts.items()}
        figures["index.failed"] = len(self.failed)
        figures |= {f"index.total.{name}": value for name, value in self.sizes.items()}
        figures |= {
            f"seconds.index.{name}": round(value, 3) for name, value in self.seconds.items()
        }
        figures["seconds.index"] = round(self.total_seconds, 3)
        return {
            "figures": figures,
            "reasons": dict(Counter(each.reason for each in self.failed).most_common()),
            "failed": [vars(each) for each in self.failed],
        }
