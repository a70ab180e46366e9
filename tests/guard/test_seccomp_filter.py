"""The filter of system calls, run by an interpreter of its language, for both architectures."""

from __future__ import annotations

import errno
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fledge.core.errors import FledgeError
from fledge.guard.seccomp import ALLOW, ERRNO, KILL, build_filter
from fledge.guard.syscalls import (
    ALLOWED,
    ARCHITECTURES,
    CONDITIONAL,
    CONDITIONS,
    DENIED,
    FILES,
    numbers,
)

OWN = 4711
REFUSED = ERRNO | errno.EPERM
UNKNOWN = ERRNO | errno.ENOSYS


def verdict(program: bytes, audit: int, number: int, *args: int) -> int:
    """What the kernel would decide: classic BPF over ``struct seccomp_data``."""
    data = struct.pack("<iIQ6Q", number, audit, 0, *(list(args) + [0] * 6)[:6])
    steps = list(struct.iter_unpack("<HBBI", program))
    at = register = 0
    while True:
        code, true, false, value = steps[at]
        at += 1
        if code == 0x20:
            [register] = struct.unpack_from("<I", data, value)
        elif code == 0x54:
            register &= value
        elif code == 0x06:
            return int(value)
        else:
            hit = register == value if code == 0x15 else register >= value
            assert code in (0x15, 0x35)
            at += true if hit else false


@pytest.fixture(params=ARCHITECTURES)
def machine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_every_call_of_the_tables_is_decided_as_they_say(machine: str) -> None:
    audit, column = ARCHITECTURES[machine]
    program = build_filter(machine, OWN, own_files=True, threads=True)
    for table, expected in ((ALLOWED + FILES, ALLOW), (DENIED, REFUSED)):
        for name, number in numbers(table, column).items():
            assert verdict(program, audit, number) == expected, name
    shut = build_filter(machine, OWN, own_files=False, threads=False)
    for name, number in numbers(FILES, column).items():
        assert verdict(shut, audit, number) == REFUSED, name


def test_tables_are_disjoint(machine: str) -> None:
    _, column = ARCHITECTURES[machine]
    tables = [numbers(table, column) for table in (ALLOWED, FILES, CONDITIONAL, DENIED)]
    names = [name for table in tables for name in table]
    found = [number for table in tables for number in table.values()]
    assert len(set(names)) == len(names)
    assert len(set(found)) == len(found)
    assert set(numbers(CONDITIONAL, column)) == set(CONDITIONS)


@settings(max_examples=60, deadline=None)
@given(number=st.integers(0, 2**31 - 1))
def test_what_no_table_names_does_not_exist(number: int) -> None:
    for machine, (audit, column) in ARCHITECTURES.items():
        known = numbers(ALLOWED + FILES + CONDITIONAL + DENIED, column).values()
        program = build_filter(machine, OWN, own_files=True, threads=True)
        if number not in known:
            assert verdict(program, audit, number) == UNKNOWN


def test_newer_ways_to_start_a_process_do_not_exist(machine: str) -> None:
    audit, _ = ARCHITECTURES[machine]
    program = build_filter(machine, OWN, own_files=True, threads=True)
    assert verdict(program, audit, 435) == UNKNOWN  # clone3: the C library falls back to clone


def test_conditions(machine: str) -> None:
    audit, column = ARCHITECTURES[machine]
    program = build_filter(machine, OWN, own_files=True, threads=True)
    call = numbers(CONDITIONAL, column)
    cases = [
        ("clone", (0x3D0F00,), ALLOW),  # what pthread_create asks for
        ("clone", (17,), REFUSED),  # fork
        ("clone", (0x10000000,), REFUSED),  # CLONE_NEWUSER
        ("kill", (OWN, 9), ALLOW),
        ("kill", (1, 9), REFUSED),
        ("kill", (0, 9), REFUSED),
        ("kill", (2**64 - 1, 9), REFUSED),
        ("tgkill", (OWN, OWN, 6), ALLOW),
        ("tgkill", (1, 1, 6), REFUSED),
        ("prlimit64", (0, 7), ALLOW),
        ("prlimit64", (1, 7), REFUSED),
        ("prctl", (15,), ALLOW),
        ("prctl", (1,), REFUSED),  # PR_SET_PDEATHSIG
        ("socketpair", (1, 1), ALLOW),
        ("socketpair", (1, 0x80001), ALLOW),
        ("socketpair", (1, 2), REFUSED),  # datagrams go to any address
        ("socketpair", (2, 1), REFUSED),
        ("fcntl", (3, 3), ALLOW),
        ("fcntl", (3, 8), REFUSED),  # F_SETOWN
        ("fcntl", (3, 1031), REFUSED),  # F_SETPIPE_SZ
        ("ioctl", (0, 0x5401), ALLOW),
        ("ioctl", (0, 0x5412), REFUSED),  # TIOCSTI
    ]
    for name, args, expected in cases:
        assert verdict(program, audit, call[name], *args) == expected, (name, args)
    assert {name for name, _, _ in cases} == set(CONDITIONS)
    one = build_filter(machine, OWN, own_files=True, threads=False)
    assert verdict(one, audit, call["clone"], 0x3D0F00) == REFUSED


def test_calls_of_another_architecture_kill() -> None:
    for machine, (own, _) in ARCHITECTURES.items():
        program = build_filter(machine, OWN, own_files=True, threads=True)
        others = [audit for audit, _ in ARCHITECTURES.values() if audit != own]
        for audit in [*others, 0x40000003, 0]:  # i386
            assert verdict(program, audit, 0) == KILL
    audit, _ = ARCHITECTURES["x86_64"]
    program = build_filter("x86_64", OWN, own_files=True, threads=True)
    assert verdict(program, audit, 0x40000000) == UNKNOWN  # read(2) of the x32 table


@pytest.mark.parametrize("machine", ["riscv64", "armv7l", "i686", "s390x", ""])
def test_a_machine_without_a_table_is_refused(machine: str) -> None:
    with pytest.raises(FledgeError, match="system calls are not known"):
        build_filter(machine, OWN, own_files=True, threads=True)


def test_the_filter_is_short_enough_for_the_kernel(machine: str) -> None:
    assert len(build_filter(machine, OWN, own_files=False, threads=True)) // 8 < 4096
