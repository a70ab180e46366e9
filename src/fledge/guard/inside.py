"""Runs inside the sandbox's process: locks it down, then runs the code it was given on stdin.

The host sends this file's text to a bare Python, with one JSON object on stdin; so it imports
nothing but the standard library, and nothing of fledge.  What it tells goes to a pipe, one JSON
object a line: first ``{"ready": true}``, when the lock has closed and before the code begins.
"""

from __future__ import annotations

import builtins
import ctypes
import json
import os
import resource
import struct
import sys
from base64 import b64decode
from collections.abc import Callable, Iterator
from importlib.util import spec_from_file_location
from typing import Any

LONGEST_LINE = 16 << 20
"""Bytes of a value that crosses from the code to its tests."""

NO_ANSWER = "the code's process gave no answer"

LONGEST_TEXT = 8 << 10
"""Characters kept of a traceback: its end."""

PROCESS = 0x7FEDFEED
"""Stands in the filter for the number of the process, which only the process knows."""


# -- the lock ----------------------------------------------------------------------------------


def lock_down(job: dict[str, Any]) -> None:
    """Limits, scratch folder, rights, files and calls, in this order; raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if job["parent"] is not None:  # no namespace ends this process with the host's
        _prctl(libc, 1, 9)  # PR_SET_PDEATHSIG, SIGKILL
        if os.getppid() != job["parent"]:
            os._exit(1)
    scratch = job["scratch"]
    if scratch is not None:
        options = f"size={scratch['bytes']},nr_inodes={scratch['files']},mode=1777"
        path, kind = scratch["path"].encode(), b"tmpfs"
        _call(libc.mount(kind, path, kind, 2 | 4 | 8, options.encode()))  # nosuid nodev noexec
        os.chdir(scratch["path"])
    for name, value in job["limits"].items():
        soft, hard = (value, value + 1) if name == "RLIMIT_CPU" else (value, value)
        resource.setrlimit(getattr(resource, name), (soft, hard))
    if job["uid"] is not None:
        os.setgroups([])
        os.setresgid(job["uid"], job["uid"], job["uid"])
        os.setresuid(job["uid"], job["uid"], job["uid"])
    _prctl(libc, 47, 4)  # PR_CAP_AMBIENT_CLEAR_ALL
    header = struct.pack("<II", 0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process
    _call(libc.capset(header, bytes(24)))
    _prctl(libc, 38, 1)  # PR_SET_NO_NEW_PRIVS
    if job["landlock"] is not None:
        _restrict_files(libc, job["landlock"])
    _filter_calls(libc, b64decode(job["filter"]))


def _restrict_files(libc: ctypes.CDLL, rules: dict[str, Any]) -> None:
    """Landlock (linux/landlock.h): of the file system only what the rules name can be opened."""
    libc.syscall.restype, number = ctypes.c_long, ctypes.c_long
    fields = struct.pack("<QQQ", rules["handled"], 0, rules["scoped"])
    size = 24 if rules["scoped"] else 8
    ruleset = _call(libc.syscall(number(444), fields, number(size), number(0)))
    for path, access in rules["paths"]:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        rule = struct.pack("<Qi", access, place)
        _call(libc.syscall(number(445), number(ruleset), number(1), rule, number(0)))
        os.close(place)
    _call(libc.syscall(number(446), number(ruleset), number(0)))
    os.close(ruleset)


def _filter_calls(libc: ctypes.CDLL, program: bytes) -> None:
    """seccomp(2): for this process and its threads, for good."""
    own = struct.pack("<I", os.getpid())
    steps = [program[at : at + 8] for at in range(0, len(program), 8)]
    steps = [step[:4] + own if step[4:] == struct.pack("<I", PROCESS) else step for step in steps]
    code = ctypes.create_string_buffer(b"".join(steps))
    program_header = struct.pack("@HP", len(steps), ctypes.addressof(code))
    place = ctypes.create_string_buffer(program_header)
    _prctl(libc, 22, 2, ctypes.addressof(place))  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER


def _prctl(libc: ctypes.CDLL, *values: int) -> None:
    words = [*values, 0, 0, 0, 0][:5]
    _call(libc.prctl(*map(ctypes.c_ulong, words)))


def _call(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


# -- plain values as JSON ----------------------------------------------------------------------


_KINDS: tuple[type[Any], ...] = (list, tuple, set, frozenset)


def encode(value: Any, depth: int = 0) -> Any:
    """A value of Python's own types as JSON; raises TypeError for anything else.

    A subclass is sent as what it is a kind of, an iterator as its items.
    """
    if depth > 200:
        raise TypeError("a value nested more than 200 deep")
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return ["int", hex(int.__index__(value))]
    if isinstance(value, float):
        return ["float", float.hex(value)]
    if isinstance(value, complex):
        return ["complex", float.hex(value.real), float.hex(value.imag)]
    if isinstance(value, bytes | bytearray):
        return ["bytes" if isinstance(value, bytes) else "bytearray", bytes(value).hex()]
    if isinstance(value, dict):
        return ["dict", [[encode(k, depth + 1), encode(v, depth + 1)] for k, v in value.items()]]
    for kind in _KINDS:
        if isinstance(value, kind):
            return [kind.__name__, [encode(one, depth + 1) for one in value]]
    return _encode_other(value, depth)


def _encode_other(value: Any, depth: int) -> Any:
    kind = type(value)
    if kind is range:
        return ["range", value.start, value.stop, value.step]
    if kind.__module__ == "collections" and kind.__name__ == "deque":
        return ["list", [encode(item, depth + 1) for item in value]]
    if kind.__module__ == "numpy":
        return encode(value.tolist() if value.ndim else value.item(), depth + 1)
    if hasattr(kind, "__next__"):
        return ["iterator", [encode(one, depth + 1) for one in value]]
    if kind.__name__ in ("dict_keys", "dict_values", "dict_items"):
        return ["list", [encode(one, depth + 1) for one in value]]
    raise TypeError(f"a value of type {kind.__name__}, which is no plain data")


def decode(value: Any) -> Any:
    """The value that ``encode`` turned into JSON, of exactly Python's own types."""
    if not isinstance(value, list):
        if value is None or isinstance(value, bool | str):
            return value
        raise TypeError("not an encoded value")
    kind, *rest = value
    if kind == "range":
        return range(*rest)
    if kind == "complex":
        return complex(*map(float.fromhex, rest))
    [inner] = rest
    if kind == "dict":
        return {decode(key): decode(item) for key, item in inner}
    if kind in _SCALARS:
        return _SCALARS[kind](inner)
    return _GROUPS[kind](map(decode, inner))


_SCALARS: dict[str, Callable[[Any], Any]] = {
    "int": lambda text: int(text, 16),
    "float": float.fromhex,
    "bytes": bytes.fromhex,
    "bytearray": bytearray.fromhex,
}
_GROUPS: dict[str, Callable[[Iterator[Any]], Any]] = {
    "list": list,
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "iterator": lambda items: iter(list(items)),
}


# -- what is run -------------------------------------------------------------------------------


def run_code(job: dict[str, Any], tell: Callable[[dict[str, Any]], None]) -> None:
    """Run ``job["code"]`` as a script and tell how it ended."""
    tell(_executed(job["code"], "code.py", {"__name__": "__main__", "__builtins__": __builtins__}))


def serve_code(job: dict[str, Any], tell: Callable[[dict[str, Any]], None]) -> None:
    """Run ``job["code"]``, then answer calls of what it defines, a JSON line each."""
    names: dict[str, Any] = {"__name__": "code", "__builtins__": __builtins__}
    done = _executed(job["code"], "code.py", names)
    tell(done)
    if done["ending"] != "finished" or "left" in done:
        return
    with open(job["reads"], "rb") as asked, open(job["writes"], "wb") as answers:
        for line in asked:
            answers.write(json.dumps(_answer(json.loads(line), names)).encode() + b"\n")
            answers.flush()


def _answer(call: dict[str, Any], names: dict[str, Any]) -> dict[str, Any]:
    try:
        args = [decode(value) for value in call["args"]]
        kwargs = {key: decode(value) for key, value in call["kwargs"].items()}
        value = encode(names[call["name"]](*args, **kwargs))
        return {"value": value, "args": [_left(argument) for argument in args]}
    except KeyError as error:
        if call["name"] not in names:
            return {"raised": "NameError", "text": f"name {call['name']!r} is not defined"}
        return {"raised": "KeyError", "text": str(error)}
    except BaseException as error:
        return {"raised": type(error).__name__, "text": _short(error)}


def _left(argument: Any) -> Any:
    """What became of an argument that a function can change in place."""
    return encode(argument) if isinstance(argument, list | dict | set | bytearray) else None


def run_tests(job: dict[str, Any], tell: Callable[[dict[str, Any]], None]) -> None:
    """Run ``job["tests"]`` one after the other; ``job["names"]`` live in the other process."""
    with open(job["reads"], "rb") as answers, open(job["writes"], "wb") as asked:
        names: dict[str, Any] = {"__name__": "tests", "__builtins__": __builtins__}
        names |= {name: _stand_in(name, asked, answers) for name in job["names"]}
        done = _executed(job["setup"], "setup", names)
        for number, test in enumerate(job["tests"]):
            if done["ending"] == "finished":
                tell({"test": number, **_executed(test, f"test {number}", names)})
            else:
                tell({"test": number, **done})


def _stand_in(name: str, asked: Any, answers: Any) -> Callable[..., Any]:
    """A function that has the code's process compute ``name(...)``."""

    def call(*args: Any, **kwargs: Any) -> Any:
        question = {
            "name": name,
            "args": [encode(value) for value in args],
            "kwargs": {key: encode(value) for key, value in kwargs.items()},
        }
        try:
            asked.write(json.dumps(question).encode() + b"\n")
            asked.flush()
            line = answers.readline(LONGEST_LINE)
        except BrokenPipeError:
            line = b""
        if not line.endswith(b"\n"):
            raise RuntimeError("the answer is too long" if line else NO_ANSWER)
        answer = json.loads(line)
        if "raised" in answer:
            raise _error(str(answer["raised"]), str(answer["text"]))
        for argument, left in zip(args, answer["args"], strict=True):
            _update(argument, left)
        return decode(answer["value"])

    call.__name__ = name
    return call


def _error(kind: str, text: str) -> Exception:
    """An exception as the code raised it, if Python has it; exits are no exceptions."""
    found = getattr(builtins, kind, None)
    if isinstance(found, type) and issubclass(found, Exception):
        try:
            return found(text)
        except TypeError:
            pass  # one that wants more arguments
    return RuntimeError(f"{kind}: {text}")


def _update(argument: Any, left: Any) -> None:
    if left is None:
        return
    new = decode(left)
    if type(new) is type(argument) and new != argument:
        if isinstance(argument, list | bytearray):
            argument[:] = new
        else:
            argument.clear()
            argument.update(new)


def _executed(code: str, name: str, names: dict[str, Any]) -> dict[str, Any]:
    """Run code in ``names``; how it ended, as the host is told."""
    import linecache

    linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
    try:
        exec(compile(code, name, "exec"), names)
    except SystemExit as error:
        if error.code is None or error.code == 0:
            return {"ending": "finished", "left": True}
        return {"ending": "raised", "error": f"SystemExit: {error.code}"[:LONGEST_TEXT]}
    except MemoryError:
        names.clear()
        return {"ending": "out_of_memory", "error": "MemoryError"}
    except BaseException as error:
        return {"ending": "raised", "error": _traceback(error)}
    return {"ending": "finished"}


def _traceback(error: BaseException) -> str:
    """The traceback from the code's own first frame on."""
    import traceback

    try:
        below = error.__traceback__.tb_next if error.__traceback__ else None
        return "".join(traceback.format_exception(type(error), error, below))[-LONGEST_TEXT:]
    except BaseException:
        return _short(error)


def _short(error: BaseException) -> str:
    try:
        return f"{error}"[:LONGEST_TEXT]
    except BaseException:
        return type(error).__name__


class _Installed:
    """Finds the packages that the host names, and nothing beside them."""

    def __init__(self, packages: dict[str, str]) -> None:
        self.packages = packages

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        place = self.packages.get(name)
        if place is None:
            return None
        inside = [os.path.dirname(place)] if place.endswith("__init__.py") else None
        return spec_from_file_location(name, place, submodule_search_locations=inside)


def main() -> None:
    """Read the job, lock, run; what fails before the lock closes is shown on stderr."""
    with open(0, "rb", closefd=False) as given:
        job = json.loads(given.read())
    report = job["report"]

    def tell(fact: dict[str, Any]) -> None:
        os.write(report, json.dumps(fact).encode() + b"\n")

    vars(builtins).update(exit=sys.exit, quit=sys.exit)  # as in a script
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # seen, though killed
    sys.meta_path.append(_Installed(job["packages"]))
    lock_down(job)
    tell({"ready": True})
    {"run": run_code, "serve": serve_code, "test": run_tests}[job["mode"]](job, tell)


if __name__ == "__main__":
    main()
