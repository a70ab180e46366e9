"""The folder of an index on the command line: its own, or that of a run that has one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


class IndexFolder(click.Path):
    """A folder that is there; a run's or a stage's stands for the index in it."""

    def __init__(self) -> None:
        super().__init__(exists=True, file_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The index's own folder."""
        from fledge.index.store.opening import find_index

        folder = super().convert(value, param, ctx)
        return find_index(folder) if isinstance(folder, Path) else folder


INDEX = IndexFolder()
