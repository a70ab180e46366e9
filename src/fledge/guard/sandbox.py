"""A kind in, a sandbox that works here out; where none does, an error and never plain ``exec``."""

from __future__ import annotations

from collections.abc import Callable

from fledge.core.config import nearest
from fledge.core.errors import FledgeError, InputError
from fledge.guard.bubblewrap import open_bubblewrap
from fledge.guard.exam import ExaminingSandbox
from fledge.guard.landlock import open_landlock
from fledge.guard.limits import SandboxLimits
from fledge.guard.monty import open_monty

KINDS: dict[str, Callable[[SandboxLimits], ExaminingSandbox]] = {
    "monty": open_monty,
    "bubblewrap": open_bubblewrap,
    "landlock": open_landlock,
}
"""In the order in which "auto" tries them."""

FULL = ("bubblewrap", "landlock")
"""Kinds that run all of Python, with numpy."""


def choose_sandbox(kind: str = "auto", limits: SandboxLimits | None = None) -> ExaminingSandbox:
    """The sandbox of a kind, tried with a line of code; "auto": the first that works,
    "full": the first that works and runs all of Python.

    Raises InputError, with the remedy, when the kind does not work here.
    """
    limits = limits or SandboxLimits()
    if kind in KINDS:
        return KINDS[kind](limits)
    if kind not in ("auto", "full"):
        raise InputError(
            f"no sandbox of kind {kind!r}", remedy=nearest(kind, [*KINDS, "auto", "full"])
        )
    reasons = []
    for name in KINDS if kind == "auto" else FULL:
        try:
            return KINDS[name](limits)
        except FledgeError as error:
            reasons.append(f"{name}: {error}")
    raise InputError(
        "no sandbox works here, so no code is run (" + "; ".join(reasons) + ")",
        remedy="pip install 'fledge[sandbox]', or apt-get install bubblewrap",
    )


def why_not(kind: str) -> str:
    """Why a kind does not work here, with the remedy, or ""."""
    try:
        KINDS[kind](SandboxLimits()).close()
    except FledgeError as error:
        return str(error)
    return ""
