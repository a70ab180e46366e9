"""A model's code and assert statements in; passed or failed, with the reason, out.

The tests run in another process than the code, which never sees them: it is asked for values and
can only answer with plain data.  So nothing it does to its own Python makes a test pass.
"""

from __future__ import annotations

import ast
import builtins
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from fledge.core.errors import InputError
from fledge.core.protocols import Ending, Sandbox


@dataclass(frozen=True, kw_only=True)
class Exam:
    """What is run: code that defines ``names``, and tests, each a few statements."""

    code: str
    tests: tuple[str, ...]
    names: tuple[str, ...]
    """Functions that the tests call and the code defines."""
    setup: str = ""
    """Runs before the tests, in their process."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Of one test.  ``reason`` says why it failed."""

    passed: bool
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class ExamResult:
    """What came of the tests, in their order, and of the code itself."""

    outcomes: tuple[Outcome, ...]
    ending: Ending
    """How the code ended: "finished" if it could be defined and asked to the last."""
    error: str = ""
    stdout: str = ""
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether the code stood to the end and every test passed."""
        right = all(outcome.passed for outcome in self.outcomes)
        return bool(self.outcomes) and right and self.ending == "finished"

    @property
    def share(self) -> float:
        """Share of the tests that passed."""
        return sum(outcome.passed for outcome in self.outcomes) / max(1, len(self.outcomes))


class ExaminingSandbox(Sandbox, Protocol):
    """A sandbox that keeps code and tests apart."""

    def examine(self, exam: Exam, *, timeout_seconds: float) -> ExamResult:
        """What came of the tests, whatever the code did."""


def run_tests(
    sandbox: ExaminingSandbox,
    code: str,
    tests: Sequence[str],
    *,
    timeout_seconds: float = 10.0,
    entry_point: str = "",
    setup: str = "",
) -> ExamResult:
    """Run tests against code.  A test is source text, such as ``assert f(2) == 4``.

    With ``entry_point`` each test defines ``check(candidate)``, as HumanEval's do, which is called
    with that function.  ``setup`` runs before the tests, on their side.  The time is for all
    tests together.  Raises InputError for tests that do not parse.
    """
    whole = [f"{test}\n\ncheck({entry_point})\n" if entry_point else test for test in tests]
    foreign = foreign_names([setup, *whole])
    own = set(_DEFINED.findall(code))
    modules = sorted((foreign & sys.stdlib_module_names) - own)  # as code may have imported them
    names = {name for name in foreign if name in own or not hasattr(builtins, name)}
    imports = "".join(f"import {name}\n" for name in modules)
    exam = Exam(
        code=code,
        tests=tuple(whole),
        names=tuple(sorted(names - set(modules))),
        setup=imports + setup,
    )
    return sandbox.examine(exam, timeout_seconds=timeout_seconds)


_DEFINED = re.compile(r"^(?:async[ \t]+)?(?:def|class)[ \t]+(\w+)", re.MULTILINE)
"""A definition at the top of code, which is not parsed here: Python's parser can be crashed."""


def foreign_names(tests: Sequence[str]) -> set[str]:
    """Names that the tests read and do not bind: Python's own, modules, and the code's."""
    loaded: set[str] = set()
    bound: set[str] = set()
    for number, test in enumerate(tests):
        try:
            tree = ast.parse(test)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            where = f"test {number - 1}" if number else "the set-up of the tests"
            raise InputError(f"{where} is not Python: {error}", remedy="mend it") from None
        for node in ast.walk(tree):
            _sort_name(node, loaded, bound)
    return loaded - bound


def _sort_name(node: ast.AST, loaded: set[str], bound: set[str]) -> None:
    if isinstance(node, ast.Name):
        (loaded if isinstance(node.ctx, ast.Load) else bound).add(node.id)
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        bound.add(node.name)
    elif isinstance(node, ast.arg):
        bound.add(node.arg)
    elif isinstance(node, ast.alias):
        bound.add((node.asname or node.name).partition(".")[0])
    elif isinstance(node, ast.ExceptHandler) and node.name:
        bound.add(node.name)
