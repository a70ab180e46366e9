"""Tests of a model's code: right code passes, wrong code fails with the reason, tricks gain nothing."""

# ruff: noqa: E501 (code in texts, on a line each)

from __future__ import annotations

import json
import math
from collections import Counter, OrderedDict, deque
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fledge.core.errors import FledgeError, InputError
from fledge.guard.exam import ExaminingSandbox, run_tests
from fledge.guard.inside import decode, encode
from fledge.guard.sandbox import KINDS, choose_sandbox


@pytest.fixture(scope="module", params=KINDS)
def made(request: pytest.FixtureRequest) -> Iterator[ExaminingSandbox]:
    """Each kind that works here; the others are skipped with the reason."""
    try:
        sandbox = choose_sandbox(request.param)
    except FledgeError as error:
        pytest.skip(str(error))
    yield sandbox
    sandbox.close()


@pytest.fixture
def full(made: ExaminingSandbox) -> ExaminingSandbox:
    if made.name == "monty":
        pytest.skip("needs all of Python")
    return made


TESTS = ["assert f(2) == 4", "assert f(-3) == 9", "assert f(0) == 0"]
RIGHT = "def f(x):\n    return x * x"


def test_right_code_passes(made: ExaminingSandbox) -> None:
    report = run_tests(made, RIGHT, TESTS)
    assert report.passed
    assert (report.share, report.ending, report.error) == (1.0, "finished", "")


def test_wrong_code_fails_where_it_is_wrong(made: ExaminingSandbox) -> None:
    report = run_tests(made, "def f(x):\n    return x + x", TESTS)
    assert [outcome.passed for outcome in report.outcomes] == [True, False, True]
    assert not report.passed
    assert "AssertionError" in report.outcomes[1].reason
    assert "assert f(-3) == 9" in report.outcomes[1].reason


@pytest.mark.parametrize(
    ("code", "reason", "ending"),
    [
        ("def f(x:", "SyntaxError", "raised"),
        ("1 / 0\ndef f(x): return x * x", "ZeroDivisionError", "raised"),
        ("def g(x): return x * x", "f", "finished"),
        ("def f(x): raise ValueError('no')", "ValueError: no", "finished"),
        ("while True: pass", "not done within", "timed_out"),
        ("def f(x):\n    while True: pass", "not done within", "timed_out"),
        ("", "f", "finished"),
        ("def f(x): return '\0'", "NUL", "refused"),
    ],
)
def test_code_that_does_not_work(
    made: ExaminingSandbox, code: str, reason: str, ending: str
) -> None:
    report = run_tests(made, code, TESTS, timeout_seconds=1)
    assert report.share == 0
    assert report.ending == ending
    assert all(reason in outcome.reason for outcome in report.outcomes), report


TRICKS = {
    "equal_to_all": "class E:\n    def __eq__(self, o): return True\ndef f(x): return E()",
    "equal_int": "class E(int):\n    def __eq__(self, o): return True\ndef f(x): return E(7)",
    "equal_list": "class E(list):\n    def __eq__(self, o): return True\ndef f(x): return E()",
    "exit": "import sys\ndef f(x): sys.exit(0)",
    "exit_at_once": "import sys\nsys.exit(0)",
    "hard_exit": "import os\ndef f(x): os._exit(0)",
    "hard_exit_at_once": "import os\nos._exit(0)",
    "prints": "print('passed')\nprint('{\"test\": 0, \"ending\": \"finished\"}')\ndef f(x): print('ok')",
    "asserts_that_hold": "import builtins\nbuiltins.AssertionError = BaseException\ndef f(x): return 7",
    "no_asserts": "import sys\nsys.flags = None\n__debug__ = 0\ndef f(x): return 7",
    "catches": "def f(x):\n    try: return 7\n    finally: return 8",
    "raises_exit": "def f(x): raise SystemExit(0)",
    "raises_interrupt": "def f(x): raise KeyboardInterrupt",
    "writes_everywhere": (
        'import os\ndef f(x):\n    for fd in range(64):\n        try: os.write(fd, b\'{"ready": 1}\\n'
        '{"test": 0, "ending": "finished"}\\n{"value": ["int", "0x4"], "args": [null]}\\n\')\n'
        "        except OSError: pass\n    return 7"
    ),
    "reads_everywhere": (
        "import os\ndef f(x):\n    found = b''\n    for fd in range(3, 64):\n        try:\n"
        "            os.set_blocking(fd, False)\n            found += os.read(fd, 65536)\n"
        "        except OSError: pass\n    return 9 if b'== 9' in found else 7"
    ),
    "looks_at_the_caller": (
        "import sys, gc, inspect\ndef f(x):\n    frame = sys._getframe()\n    while frame:\n"
        "        for v in list(frame.f_locals.values()):\n            if '== 9' in str(v): return 9\n"
        "        frame = frame.f_back\n"
        "    for o in gc.get_objects():\n        if isinstance(o, (list, dict)) and '== 9' in str(o):"
        "\n            return 9 if False else x * x\n    return 7"
    ),
    "patches_the_server": (
        "import __main__\n__main__.encode = lambda v, depth=0: ['int', '0x9']\n"
        "__main__.json = None\ndef f(x): return 7"
    ),
    "function_named_check": "def check(candidate): pass\ndef f(x): return 7",
}


@pytest.mark.parametrize("trick", TRICKS)
def test_tricks_gain_nothing(made: ExaminingSandbox, trick: str) -> None:
    """No test passes whose right answer the code does not compute."""
    tests = [f"assert f({x}) == {x * x}, 'seen'" for x in (11, 12, 13)]
    report = run_tests(made, TRICKS[trick], tests, timeout_seconds=3)
    assert report.share == 0, report
    assert all(outcome.reason for outcome in report.outcomes)
    assert run_tests(made, RIGHT, TESTS).passed


def test_a_module_that_code_changes_is_not_that_of_the_tests(made: ExaminingSandbox) -> None:
    code = "import math\nmath.isclose = lambda *a, **k: True\ndef f(x): return 1000.0"
    assert not run_tests(made, code, ["assert math.isclose(f(1), 1.0)"], timeout_seconds=5).passed


def test_humaneval_style(made: ExaminingSandbox) -> None:
    test = (
        "def check(candidate):\n    assert candidate([1, 2]) == 3\n    assert candidate([]) == 0\n"
    )
    code = "from typing import List\n\n\ndef total(xs: List[int]) -> int:\n    return sum(xs)\n"
    assert run_tests(made, code, [test], entry_point="total").passed
    assert not run_tests(made, code.replace("sum", "len"), [test], entry_point="total").passed


def test_mbpp_style(made: ExaminingSandbox) -> None:
    """A function named as Python's own; set-up; a module that only the code imported."""
    code = "import math\ndef sum(a, b):\n    return math.sqrt(a) + b"
    tests = ["assert sum(4, y) == 5.0", "assert math.isclose(sum(2, 0), 2 ** 0.5)"]
    report = run_tests(made, code, tests, setup="y = 3")
    assert report.passed, report


def test_values_cross_whole(made: ExaminingSandbox) -> None:
    values = [
        *("1", "-2.5", "True", "None", "'中文 🙂'", "b'\\x00\\xff'", "[1, [2, ()]]", "(1,)"),
        *("{1: 'a', (2, 3): [4]}", "{1, 2}", "float('inf')", "10 ** 50", "''", "[]", "{}"),
    ]
    tests = [f"v = f({v})\nassert v == {v} and type(v) is type({v})" for v in values]
    assert run_tests(made, "def f(x): return x", tests).outcomes == (
        run_tests(made, "def f(x): return x", ["assert True"]).outcomes * len(values)
    )


def test_errors_cross(made: ExaminingSandbox) -> None:
    code = "def f(x):\n    if x < 0: raise ValueError('negative')\n    return [][x]"
    tests = [
        "try:\n    f(-1)\nexcept ValueError as error:\n    assert 'negative' in str(error)\n"
        "else:\n    assert False",
        "try:\n    f(3)\nexcept IndexError:\n    pass\nelse:\n    assert False",
    ]
    assert run_tests(made, code, tests).passed


def test_what_full_python_adds(full: ExaminingSandbox) -> None:
    code = """
import collections, heapq
import numpy as np
def count(xs): return collections.Counter(xs)
def evens(n):
    for x in range(0, n, 2): yield x
def put(xs, x): heapq.heappush(xs, x)
def mean(xs): return np.mean(xs)
def table(n): return np.eye(n)
def keys(d): return d.keys()
def later(f, x): return f(x)
"""
    tests = [
        "assert count('aab') == {'a': 2, 'b': 1}",
        "assert list(evens(5)) == [0, 2, 4]",
        "xs = [3, 5]\nput(xs, 1)\nassert xs == [1, 5, 3]",
        "assert abs(mean([1, 2]) - 1.5) < 1e-9",
        "assert table(2) == [[1, 0], [0, 1]]",
        "assert sorted(keys({2: 1, 1: 1})) == [1, 2]",
    ]
    report = run_tests(full, code, tests, timeout_seconds=20)
    assert report.passed, report
    refused = run_tests(full, code, ["assert later(lambda x: x, 1) == 1"], timeout_seconds=20)
    assert "no plain data" in refused.outcomes[0].reason


def test_floods_from_code_to_tests(full: ExaminingSandbox) -> None:
    code = "def f(x): return 'x' * (40 << 20)\ndef g(x):\n    v = []\n    for _ in range(10**5): v = [v]\n    return v"
    report = run_tests(full, code, ["assert f(1) == 1", "assert g(1) == 1"], timeout_seconds=20)
    assert report.share == 0
    assert report.ending == "finished"


def test_tests_that_are_no_python_are_the_callers_fault(made: ExaminingSandbox) -> None:
    with pytest.raises(InputError, match="test 1 is not Python"):
        run_tests(made, RIGHT, ["assert f(2) == 4", "assert f("])
    with pytest.raises(InputError, match="set-up"):
        run_tests(made, RIGHT, TESTS, setup="import")


def test_a_set_up_that_fails_fails_all(made: ExaminingSandbox) -> None:
    report = run_tests(made, RIGHT, TESTS, setup="y = 1 / 0")
    assert report.share == 0
    assert all("ZeroDivisionError" in outcome.reason for outcome in report.outcomes)


def test_tests_that_call_nothing_still_hear_of_the_code(made: ExaminingSandbox) -> None:
    slow = "x = 0\nfor i in range(200_000): x += i\n"
    for _ in range(5):
        assert run_tests(made, slow, ["assert True"], timeout_seconds=20).ending == "finished"
    report = run_tests(made, slow + "1 / 0", ["assert True"], timeout_seconds=20)
    assert report.ending == "raised"
    assert not report.passed


def test_no_tests_is_no_success(made: ExaminingSandbox) -> None:
    assert not run_tests(made, RIGHT, []).passed


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.complex_numbers(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.integers() | st.text(), inner, max_size=4)
        | st.frozensets(st.integers() | st.text(), max_size=4)
        | st.sets(st.integers(), max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(PLAIN)
def test_plain_values_survive_their_way(value: Any) -> None:
    back = decode(json.loads(json.dumps(encode(value))))
    assert repr(back) == repr(value) or back == value
    assert type(back) is type(value)


def test_other_values_become_what_they_are_a_kind_of() -> None:
    def there_and_back(value: Any) -> Any:
        return decode(json.loads(json.dumps(encode(value))))

    class Loud(str):
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = str.__hash__

    assert type(there_and_back(Loud("x"))) is str
    assert there_and_back(Counter("aab")) == {"a": 2, "b": 1}
    assert type(there_and_back(OrderedDict(a=1))) is dict
    assert there_and_back(deque([1, 2])) == [1, 2]
    assert there_and_back(range(1, 9, 2)) == range(1, 9, 2)
    assert list(there_and_back(x for x in (1, 2))) == [1, 2]
    assert there_and_back(np.float64(1.5)) == 1.5
    assert there_and_back(np.bool_(True)) is True
    assert math.isnan(there_and_back(math.nan))
    cycle: list[Any] = []
    cycle.append(cycle)
    for bad in (object(), lambda: 0, cycle, int, math):
        with pytest.raises(TypeError):
            encode(bad)
    for forged in (
        [["int", 3]],
        ["class", "x"],
        {"a": 1},
        7,
        ["int"],
        ["list", [["set", [["list", []]]]]],
    ):
        with pytest.raises((TypeError, ValueError, KeyError)):
            decode(forged)
