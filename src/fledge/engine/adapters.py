"""LoRA adapters of an engine by name: loaded, mixed in a batch per request, and unloaded."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from pathlib import Path

from fledge.core.config import nearest
from fledge.core.errors import InputError
from fledge.engine.runner import Runner


@dataclass(frozen=True, eq=False)
class Adapter:
    """An adapter in use; its memory is free when neither its name nor a request holds it."""

    name: str
    folder: Path
    scope: tuple[str, ...]
    """What keys and values of requests with it depend on: another each time it is loaded."""
    held: object
    """The runner's."""


class Adapters:
    """Those of one engine.  Names may be loaded anew: requests under way keep what they have."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._loaded: dict[str, Adapter] = {}
        self._numbers = count(1)

    @property
    def names(self) -> tuple[str, ...]:
        """Those that requests may name, in the order in which they came."""
        return tuple(self._loaded)

    def load(self, name: str, folder: str | Path) -> None:
        """Read the adapter in ``folder`` (PEFT's layout).

        Raises InputError when the name is taken or the adapter does not belong to the model.
        """
        if not name or name in self._loaded:
            raise InputError(
                f"an adapter called {name!r} is loaded already" if name else "it has no name",
                remedy="unload it first, or give another name",
            )
        scope = (f"{name}#{next(self._numbers)}",)
        held = self._runner.add_adapter(scope[0], Path(folder))
        self._loaded[name] = Adapter(name, Path(folder), scope, held)

    def unload(self, name: str) -> None:
        """Forget the name; requests that have the adapter are answered to their end."""
        self.get(name)
        del self._loaded[name]

    def get(self, name: str) -> Adapter:
        """Raises InputError where there is none of this name."""
        if name not in self._loaded:
            known = ", ".join(self.names) or "none is loaded"
            raise InputError(
                f"the adapter {name!r} is not loaded ({known})",
                remedy=nearest(name, list(self.names)) if self.names else "load it first",
            )
        return self._loaded[name]
