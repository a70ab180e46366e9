"""Code in, a locked-down process of full Python, what came of it out: what two kinds share.

The kinds (bubblewrap, Landlock) say how the process begins; ``inside.py`` closes the lock.
"""

from __future__ import annotations

import math
import os
import platform
import signal
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from fledge.core.errors import FledgeError
from fledge.core.protocols import Ending, Execution
from fledge.guard.exam import Exam, ExamResult, Outcome
from fledge.guard.inside import NO_ANSWER, PROCESS
from fledge.guard.limits import SandboxLimits
from fledge.guard.seccomp import build_filter
from fledge.guard.supervise import FLOOD, Child, start, watch

INTERPRETER = ("-s", "-P", "-S", "-B", "-X", "utf8", "-c")
"""No user's or site's packages, no current folder, no compiled files written; the program."""

ENVIRONMENT = {
    "PYTHONHASHSEED": "0",  # the same code, the same result
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "LANG": "C.UTF-8",
}


class Kind(Protocol):
    """How a process of one kind begins."""

    name: str

    def command(self, program: str) -> list[str]:
        """The words that start Python on ``program``, with ENVIRONMENT and nothing else."""

    def lock(self, limits: SandboxLimits) -> dict[str, Any]:
        """What ``lock_down`` does, and ``own_files`` and ``threads`` of ``build_filter``."""


class ProcessSandbox:
    """A ``Sandbox`` of full CPython; each run has a process of its own, and nothing stays."""

    def __init__(self, kind: Kind, limits: SandboxLimits) -> None:
        self.name = kind.name
        self.limits = limits
        self._kind = kind
        self._program = Path(__file__).with_name("inside.py").read_text(encoding="utf-8")
        build_filter(
            platform.machine(), PROCESS, own_files=False, threads=False
        )  # refuses a strange machine

    def run(self, code: str, *, timeout_seconds: float) -> Execution:
        """What came of the code."""
        refusal = unfit(code, self.limits)
        if refusal:
            return Execution(ending="refused", error=refusal)
        child = self._start({"mode": "run", "code": code}, timeout_seconds)
        seconds, timed_out = watch([child], timeout_seconds)
        ending, error = self._ending(child, timed_out, timeout_seconds)
        return Execution(
            ending=ending,
            error=error,
            stdout=child.text("stdout"),
            stderr=child.text("stderr"),
            seconds=seconds,
            cut=child.cut,
        )

    def examine(self, exam: Exam, *, timeout_seconds: float) -> ExamResult:
        """Run the code in one process and its tests in another, joined by two pipes."""
        refusal = unfit(exam.code, self.limits)
        if refusal:
            return refused(exam, refusal)
        asked, asks = os.pipe()
        answered, answers = os.pipe()
        children: list[Child] = []
        try:
            serve = {"mode": "serve", "code": exam.code, "reads": asked, "writes": answers}
            children.append(self._start(serve, timeout_seconds, (asked, answers)))
            test: dict[str, Any] = {
                "mode": "test",
                "tests": exam.tests,
                "names": exam.names,
                "setup": exam.setup,
            }
            test |= {"reads": answered, "writes": asks}
            children.append(self._start(test, timeout_seconds, (answered, asks)))
        except BaseException:
            for child in children:
                child.kill()
            watch(children, 0.0)
            raise
        finally:
            for end in (asked, asks, answered, answers):
                os.close(end)
        code, tests = children
        # tests that call nothing may be over before the code is: it still has to say how it ended
        seconds, timed_out = watch(
            children, timeout_seconds, lambda: tests.ended and code.told(facts=2)
        )
        ending, error = self._ending(code, timed_out, timeout_seconds)
        if not timed_out and not tests.ready:
            raise self._failure(tests)
        return ExamResult(
            outcomes=_outcomes(exam, tests, error if ending != "finished" else ""),
            ending=ending,
            error=error,
            stdout=code.text("stdout"),
            seconds=seconds,
        )

    def close(self) -> None:
        """Nothing is kept ready."""

    def _start(self, job: dict[str, Any], seconds: float, fds: Sequence[int] = ()) -> Child:
        lock = self._kind.lock(self.limits)
        program = build_filter(
            platform.machine(),
            PROCESS,
            own_files=lock.pop("own_files"),
            threads=lock.pop("threads"),
        )
        job |= {
            **lock,
            "filter": b64encode(program).decode("ascii"),
            "limits": {
                "RLIMIT_AS": self.limits.memory_bytes,
                "RLIMIT_CPU": math.ceil(seconds) + 1,
                "RLIMIT_FSIZE": self.limits.disk_bytes,
                "RLIMIT_NOFILE": self.limits.open_files,
                "RLIMIT_NPROC": self.limits.threads,
                "RLIMIT_CORE": 0,
                "RLIMIT_MEMLOCK": 0,
                "RLIMIT_MSGQUEUE": 0,
            },
        }
        command = self._kind.command(self._program)
        kept = self.limits.output_bytes
        return start(command, job, environment=ENVIRONMENT, kept=kept, fds=fds)

    def trial(self) -> str:
        """Why this does not work on this machine, or ""."""
        try:
            done = self.run("print(6 * 7)", timeout_seconds=10)
        except (FledgeError, OSError) as error:
            return error.message if isinstance(error, FledgeError) else str(error)
        return "" if done.stdout == "42\n" else f"6 * 7 gave {done.stdout!r}, {done.error}"

    def _ending(self, child: Child, timed_out: bool, seconds: float) -> tuple[Ending, str]:
        """(how the code ended, why); raises FledgeError when the lock never closed."""
        if not child.ready:
            raise self._failure(child)
        if timed_out:
            return "timed_out", f"not done within {seconds:g} s; ended"
        if child.flooded:
            return "crashed", f"wrote more than {FLOOD:,} bytes; ended"
        facts = child.facts()
        status = child.process.returncode
        number = -status if status < 0 else status - 128  # bwrap adds 128 to a signal's number
        if number in (signal.SIGXCPU, signal.SIGKILL) and len(facts) < 2:
            return (
                "timed_out",
                f"used the processor for more than {math.ceil(seconds) + 1} s; ended",
            )
        if len(facts) < 2:
            name = signal.Signals(number).name if number in list(signal.Signals) else ""
            return "crashed", f"killed by {name}" if name else f"left with exit code {status}"
        ending, error = facts[1].get("ending"), str(facts[1].get("error", ""))
        if ending == "out_of_memory":
            limit = self.limits.memory_bytes
            return "out_of_memory", f"needed more than {limit / 1e6:.0f} MB\n{error}"
        return ("finished" if ending == "finished" else "raised"), error

    def _failure(self, child: Child) -> FledgeError:
        said = child.text("stderr").strip().splitlines()
        return FledgeError(
            f"the {self.name} sandbox could not be set up, so nothing was run: "
            f"{said[-1] if said else f'exit code {child.process.returncode}'}",
            remedy="fledge doctor shows which sandboxes work here",
        )


def unfit(code: str, limits: SandboxLimits) -> str:
    """Why a text is not even started as code, or ""."""
    try:
        size = len(code.encode())
    except UnicodeEncodeError:
        return "the code is not valid Unicode"
    if size > limits.code_bytes:
        return f"the code has {size:,} bytes, more than {limits.code_bytes:,}"
    return "the code holds a NUL character" if "\0" in code else ""


def refused(exam: Exam, reason: str) -> ExamResult:
    """The result of code that is not even started."""
    outcomes = (Outcome(passed=False, reason=reason),) * len(exam.tests)
    return ExamResult(outcomes=outcomes, ending="refused", error=reason)


def _outcomes(exam: Exam, tests: Child, error: str) -> tuple[Outcome, ...]:
    """One a test; those that were not reached failed for the reason the code did."""
    told = [fact for fact in tests.facts()[1:] if "test" in fact]
    outcomes = []
    for number in range(len(exam.tests)):
        fact = told[number] if number < len(told) else {}
        passed = fact.get("ending") == "finished" and "left" not in fact
        reason = str(fact.get("error", "")) or error or "was not finished"
        if NO_ANSWER in reason and error:
            reason = error
        outcomes.append(Outcome(passed=passed, reason="" if passed else reason))
    return tuple(outcomes)
