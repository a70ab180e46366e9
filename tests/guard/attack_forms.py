"""Attacks on a sandbox: code in which ``@NAME@`` stands for a thing of the host (``Host.things``).

``REACHED`` in the output means that an attack came through; ``GOT n`` tells how much it obtained.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Attack:
    """Code, and how much of what it is after it may obtain (0: nothing)."""

    name: str
    code: str
    most: int = 0
    seconds: float = 4.0


LIBC = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
"""


def raw(name: str, calls: str) -> Attack:
    """System calls by their numbers on x86_64, as ``number, arguments...`` a line; none may work.

    A call that the filter does not stop would return 0 or more.
    """
    lines = [f"({line.strip()},)," for line in calls.strip().splitlines()]
    body = "\n    ".join(lines)
    return Attack(
        name,
        f"""{LIBC}
calls = [
    {body}
]
for number, *rest in calls:
    if os.uname().machine == "x86_64" and libc.syscall(number, *rest) >= 0:
        print("REACHED", number)
print("tried", len(calls))
""",
    )


def each(name: str, *statements: str, head: str = "import os", most: int = 0) -> Attack:
    """Statements of which none may succeed; each is tried, whatever became of those before."""
    body = "\n".join(
        f"try:\n    {statement}\n    print('REACHED', {number})\nexcept BaseException as error:\n"
        f"    print('stopped', type(error).__name__)"
        for number, statement in enumerate(statements)
    )
    return Attack(name, f"{head}\n{body}\n", most)
