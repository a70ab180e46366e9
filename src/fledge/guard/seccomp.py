"""System calls in, a seccomp filter (classic BPF, linux/seccomp.h) for one process out.

Every path through the filter begins with the architecture: a call by another table of numbers
(32-bit, x32) kills the process, or is refused.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Sequence

from fledge.core.errors import FledgeError
from fledge.guard.syscalls import (
    ALLOWED,
    ARCHITECTURES,
    CONDITIONAL,
    CONDITIONS,
    DENIED,
    FILES,
    OWN_PROCESS,
    Condition,
    numbers,
)

ALLOW = 0x7FFF0000
KILL = 0x80000000
ERRNO = 0x00050000

_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _AND, _RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
"""Offsets in ``struct seccomp_data``; an argument takes 8 bytes, its low word first."""

_X32 = 0x40000000


def build_filter(machine: str, process: int, *, own_files: bool, threads: bool) -> bytes:
    """The filter for process number ``process``, as instructions of 8 bytes.

    ``own_files``: the code has a file system of its own, in which it may rename and delete.
    ``threads``: it may start some, as their number is limited otherwise.
    Raises FledgeError for a machine whose numbers are not known.
    """
    if machine not in ARCHITECTURES:
        raise FledgeError(
            f"no sandbox on {machine}: its system calls are not known here",
            remedy=f"run code on {' or '.join(ARCHITECTURES)}, or use --kind monty",
        )
    audit, column = ARCHITECTURES[machine]
    rules = [
        _step(_LOAD, _ARCHITECTURE),
        _step(_JUMP_EQUAL, audit, 1, 0),
        _step(_RETURN, KILL),
        _step(_LOAD, _NUMBER),
    ]
    if column == 0:
        rules += [_step(_JUMP_AT_LEAST, _X32, 0, 1), _step(_RETURN, ERRNO | errno.ENOSYS)]
    allowed = numbers(ALLOWED + (FILES if own_files else ""), column)
    denied = numbers(DENIED + ("" if own_files else FILES), column)
    for number in allowed.values():
        rules += [_step(_JUMP_EQUAL, number, 0, 1), _step(_RETURN, ALLOW)]
    conditional = numbers(CONDITIONAL, column)
    if not threads:
        denied["clone"] = conditional.pop("clone")
    for name, number in conditional.items():
        body = _checks(CONDITIONS[name], process)
        rules += [_step(_JUMP_EQUAL, number, 0, len(body)), *body]
    for number in denied.values():
        rules += [_step(_JUMP_EQUAL, number, 0, 1), _step(_RETURN, ERRNO | errno.EPERM)]
    rules.append(_step(_RETURN, ERRNO | errno.ENOSYS))
    return b"".join(rules)


def _checks(conditions: Sequence[Condition], process: int) -> list[bytes]:
    """Instructions that end the filter: allowed when all conditions hold, else EPERM."""
    refuse = _step(_RETURN, ERRNO | errno.EPERM)
    body: list[bytes] = []
    for condition in conditions:
        body.append(_step(_LOAD, _ARGUMENTS + 8 * condition.argument))
        values = [process if value == OWN_PROCESS else value for value in condition.values]
        if condition.mask:
            body.append(_step(_AND, condition.mask))
            values = [condition.mask]
        for place, value in enumerate(values):  # a hit jumps over the other values and the refusal
            body.append(_step(_JUMP_EQUAL, value, len(values) - place, 0))
        body.append(refuse)
    return [*body, _step(_RETURN, ALLOW)]


def _step(code: int, value: int, true: int = 0, false: int = 0) -> bytes:
    """One ``struct sock_filter``; ``true`` and ``false`` are instructions to skip."""
    return struct.pack("<HBBI", code, true, false, value)
