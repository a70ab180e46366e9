"""Code in, what came of it out, by pydantic-monty: a Python of its own, without files or network.

An interpreter written in Rust that has no way out of itself, in worker processes that are kept.
No numpy, no ``yield``, few modules; about a millisecond a run.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fledge.core.errors import FledgeError, InputError
from fledge.core.protocols import Ending, Execution
from fledge.core.run import usable_cores
from fledge.guard.exam import Exam, ExamResult, Outcome
from fledge.guard.inside import LONGEST_TEXT
from fledge.guard.limits import SandboxLimits
from fledge.guard.process import refused, unfit
from fledge.guard.supervise import FLOOD

if TYPE_CHECKING:
    from pydantic_monty import Monty, MontySession

GRACE_SECONDS = 0.5
"""Given to the interpreter to end code by itself, before its process is killed."""

_SUSPENSIONS = 1_000_000
_DEPTH = 1000


class MontySandbox:
    """A ``Sandbox`` of Monty's subset of Python; workers are started on first use and kept."""

    name = "monty"

    def __init__(self, limits: SandboxLimits) -> None:
        self.limits = limits
        self._lock = threading.Lock()
        self._pools: dict[str, Monty] = {}

    def run(self, code: str, *, timeout_seconds: float) -> Execution:
        """What came of the code."""
        refusal = unfit(code, self.limits)
        if refusal:
            return Execution(ending="refused", error=refusal)
        output = _Output(self.limits.output_bytes)
        with self._session("code", timeout_seconds) as feed:
            ending, error = feed.run(code, output)
            return Execution(
                ending=ending,
                error=error,
                stdout=output.text("stdout"),
                stderr=output.text("stderr"),
                seconds=feed.spent(),
                cut=output.cut,
            )

    def examine(self, exam: Exam, *, timeout_seconds: float) -> ExamResult:
        """Run the code in one worker and its tests in another; values pass through this process."""
        refusal = unfit(exam.code, self.limits)
        if refusal:
            return refused(exam, refusal)
        output = _Output(self.limits.output_bytes)
        with (
            self._session("code", timeout_seconds) as code,
            self._session("tests", timeout_seconds) as tests,
        ):
            ending, error = code.run(exam.code, output)
            if ending != "finished":
                failed = Outcome(passed=False, reason=error)
                outcomes = [failed] * len(exam.tests)
            else:
                names = {name: _Asked(code, name, output) for name in exam.names}
                outcomes = _take_tests(exam, tests, names)
                ending, error = code.ending or (ending, error)
            return ExamResult(
                outcomes=tuple(outcomes),
                ending=ending,
                error=error,
                stdout=output.text("stdout"),
                seconds=code.spent(),
            )

    def close(self) -> None:
        """End the workers; the next run starts new ones."""
        with self._lock:
            pools, self._pools = list(self._pools.values()), {}
        for pool in pools:
            pool.__exit__(None, None, None)

    @contextmanager
    def _session(self, purpose: str, seconds: float) -> Iterator[_Feed]:
        """A worker to oneself.  Code and tests have a pool each: who holds one never waits for
        another of the same."""
        limits: Any = {
            "max_feed_duration_secs": seconds,
            "max_memory": self.limits.memory_bytes,
            "max_recursion_depth": _DEPTH,
            "max_suspensions": _SUSPENSIONS,
            "max_total_sleep_secs": seconds,
        }
        policy: Any = {"sleep_system_max": float("inf"), "random_start": {"seed": 0}}
        checkout = self._pool(purpose).checkout(
            script_name="code.py",
            limits=limits,
            os_policy=policy,
            assert_message_annotations=False,
        )
        with checkout as session:
            yield _Feed(session, seconds)

    def _pool(self, purpose: str) -> Monty:
        with self._lock:
            if purpose not in self._pools:
                from pydantic_monty import Monty

                pool = Monty(min_processes=1, max_processes=max(2, usable_cores()))
                self._pools[purpose] = pool.__enter__()
            return self._pools[purpose]


class _Feed:
    """One session, its clock, and the watchman who kills its worker when the clock runs out."""

    def __init__(self, session: MontySession, seconds: float) -> None:
        self.ending: tuple[Ending, str] | None = None
        """Set when the session is over before its code is."""
        self._session = session
        self._seconds = seconds
        self._began = time.monotonic()

    def spent(self) -> float:
        return time.monotonic() - self._began

    def run(self, code: str, output: _Output, **how: Any) -> tuple[Ending, str]:
        """Run a piece of code; how it ended, and why."""
        try:
            self.value(code, output, **how)
        except Exception as error:
            return self.explain(error, output)
        return "finished", ""

    def value(self, code: str, output: _Output, **how: Any) -> Any:
        """The value of the last expression; raises what Monty raises."""
        with self._watched(output):
            return self._session.feed_run(code, print_callback=output.take, **how)

    @contextmanager
    def _watched(self, output: _Output) -> Iterator[None]:
        """Kill the worker when the time is over: Monty does not count what code sleeps."""
        process = self._session.worker_pid
        lock, over = threading.Lock(), False

        def kill() -> None:
            with lock:  # not a moment after the feed: then the worker serves someone else
                if not over and process is not None:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(process, signal.SIGKILL)

        output.flooded = kill
        left = max(0.0, self._seconds - self.spent()) + GRACE_SECONDS
        watchman = threading.Timer(left, kill)
        watchman.daemon = True
        watchman.start()
        try:
            yield
        finally:
            with lock:
                over = True
            watchman.cancel()

    def explain(self, error: Exception, output: _Output) -> tuple[Ending, str]:
        """How code ended that raised ``error`` here; raises what is no fault of the code."""
        from pydantic_monty import (
            MontyCrashedError,
            MontyError,
            MontyRuntimeError,
            MontySyntaxError,
        )

        if not isinstance(error, MontyError):
            raise error
        if output.floods:
            found: tuple[Ending, str] = ("crashed", f"wrote more than {FLOOD:,} bytes; ended")
        elif self.spent() >= self._seconds:
            found = ("timed_out", f"not done within {self._seconds:g} s; ended")
        elif isinstance(error, MontyCrashedError):
            found = ("crashed", f"the interpreter died: {error}")
        else:
            kind = error.exception()
            shown = (MontyRuntimeError, MontySyntaxError)
            text = error.display() if isinstance(error, shown) else str(error)
            ending: Ending = "out_of_memory" if isinstance(kind, MemoryError) else "raised"
            return ending, text[-LONGEST_TEXT:]
        self.ending = found
        return found


class _Asked:
    """A function of the tests' session that the code's session computes."""

    def __init__(self, code: _Feed, name: str, output: _Output) -> None:
        self._code, self._name, self._output = code, name, output

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._code.ending is not None:
            raise RuntimeError(self._code.ending[1])
        call = f"{self._name}(*_args, **_kwargs)"
        inputs = {"_args": list(args), "_kwargs": kwargs}
        try:
            value = self._code.value(call, self._output, inputs=inputs)
        except Exception as error:
            raise _as_python(error, self._code, self._output) from None
        return plain(value)


def _as_python(error: Exception, code: _Feed, output: _Output) -> Exception:
    """What the code raised, for the tests; exits are no exceptions."""
    ending, why = code.explain(error, output)
    kind = getattr(error, "exception", lambda: None)()
    if ending == "raised" and isinstance(kind, Exception):
        return kind
    return RuntimeError(why)


def plain(value: Any) -> Any:
    """The value, if it is made of Python's own data and nothing else; raises TypeError."""
    kind = type(value)
    if value is None or kind in (bool, int, float, str, bytes):
        return value
    if kind in (list, tuple, set, frozenset):
        return kind(plain(item) for item in value)
    if kind is dict:
        return {plain(key): plain(item) for key, item in value.items()}
    raise TypeError(f"a value of type {kind.__name__}, which is no plain data")


def _take_tests(exam: Exam, tests: _Feed, names: Mapping[str, Callable[..., Any]]) -> list[Outcome]:
    """One outcome a test; a set-up that fails, or a session that is over, fails the rest."""
    heard = _Output(0)
    known = {f"_asked_{name}": function for name, function in names.items()}
    # by assignment: a name of Python's own is looked up here only when it is not bound
    bound = "".join(f"{name} = _asked_{name}\n" for name in names)
    before = tests.run(bound + exam.setup, heard, external_lookup=known)
    outcomes: list[Outcome] = []
    for test in exam.tests:
        ending, error = before
        if ending == "finished":
            ending, error = tests.ending or tests.run(test, heard, external_lookup=known)
        passed = ending == "finished"
        outcomes.append(Outcome(passed=passed, reason="" if passed else error))
    return outcomes


class _Output:
    """What code prints: the first bytes of each stream, and a word to whom it may concern."""

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._texts = {"stdout": b"", "stderr": b""}
        self._written = {"stdout": 0, "stderr": 0}
        self.flooded: Callable[[], None] = lambda: None
        self.cut = False

    def take(self, stream: str, text: str) -> None:
        data = text.encode(errors="replace")
        self._written[stream] += len(data)
        room = self._kept - len(self._texts[stream])
        self._texts[stream] += data[:room] if room > 0 else b""
        self.cut = self.cut or len(data) > room
        if self.floods:
            self.flooded()

    @property
    def floods(self) -> bool:
        return max(self._written.values()) > FLOOD

    def text(self, stream: str) -> str:
        return self._texts[stream].decode(errors="ignore")


def open_monty(limits: SandboxLimits) -> MontySandbox:
    """A sandbox; raises InputError where the package is missing or its program does not run."""
    try:
        import pydantic_monty  # noqa: F401
    except ImportError:
        raise InputError(
            "the Monty sandbox is not installed", remedy="pip install 'fledge[sandbox]'"
        ) from None
    sandbox = MontySandbox(limits)
    try:
        done = sandbox.run("print(6 * 7)", timeout_seconds=10)
    except Exception as error:
        sandbox.close()
        raise InputError(
            f"the Monty sandbox does not start: {error}",
            remedy="pip install --force-reinstall 'fledge[sandbox]', or use --kind bubblewrap",
        ) from None
    if done.stdout != "42\n":
        raise FledgeError(f"the Monty sandbox says that 6 * 7 is {done.stdout!r}: {done.error}")
    return sandbox
