"""An answer and what it is compared with in, a reward and its reason out.  Pure but for tools.

A verifier is a function (messages, answer, reference) -> ``Score``.  ``messages`` are the prompt
and all that was said in between (calls of tools and their results); ``answer`` is the text of the
last turn without its thinking; ``reference`` is what the prompt's row says.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from fledge.core.errors import FledgeError, InputError
from fledge.core.protocols import Sandbox
from fledge.core.types import Message
from fledge.metrics.answers import answers as states
from fledge.metrics.declines import declines
from fledge.tune.json_schema import schema_problem
from fledge.tune.numbers import numbers_in, stated_number


class Score(NamedTuple):
    """What an answer earns, and why."""

    reward: float
    reason: str = ""


Verifier = Callable[[Sequence[Message], str, Mapping[str, Any]], Score]

RIGHT, WRONG = 1.0, 0.0


def _right(holds: bool, reason: str) -> Score:
    return Score(RIGHT, "right") if holds else Score(WRONG, reason)


def exact(messages: Sequence[Message], answer: str, reference: Mapping[str, Any]) -> Score:
    """The answer is the expected text (or one of a list), but for case, spaces and a full stop."""
    given = plain(answer)
    wanted = [plain(one) for one in _texts(reference, "answer")]
    return _right(given in wanted, f"{given!r} is not {' or '.join(map(repr, wanted))}")


def contains(messages: Sequence[Message], answer: str, reference: Mapping[str, Any]) -> Score:
    """The expected text (or one of a list) stands somewhere in the answer."""
    wanted = _texts(reference, "answer")
    return _right(any(plain(one) in plain(answer) for one in wanted), "it is not in the answer")


def numeric(messages: Sequence[Message], answer: str, reference: Mapping[str, Any]) -> Score:
    """The last number of the answer is the expected one, within ``tolerance`` (relative, 1e-6).

    Numbers are read in digits (1,280.5; 1.3e4; 12 %), in Chinese (一千二百八十) and with units of
    ten thousand (3.5万).
    """
    expected = stated_number(str(reference["answer"]))
    if expected is None:
        raise ValueError(f"the reference answer {reference['answer']!r} holds no number")
    found = stated_number(answer)
    if found is None:
        return Score(WRONG, "there is no number in the answer")
    tolerance = float(reference.get("tolerance", 1e-6))
    near = math.isclose(found, expected, rel_tol=tolerance, abs_tol=tolerance * 1e-3)
    return _right(near, f"{found:g} is not {expected:g}")


def fact(messages: Sequence[Message], answer: str, reference: Mapping[str, Any]) -> Score:
    """The answer states the expected text (or one of a list) and none of ``rivals`` in its place;
    where ``answer`` is null, nobody knows, and it says so.  ``language`` tells how one says so.
    """
    declined = declines(answer, str(reference.get("language", "")))
    if reference["answer"] is None:
        return _right(declined, "it makes an answer up")
    if declined:
        return Score(WRONG, "it declines what is known")
    rivals = [str(one) for one in reference.get("rivals", ())]
    asked = next((one.content for one in reversed(messages) if one.role == "user"), "")
    holds = any(states(answer, one, rivals, asked) for one in _texts(reference, "answer"))
    return _right(holds, "it does not state the fact, or another with it")


def regex(messages: Sequence[Message], answer: str, reference: Mapping[str, Any]) -> Score:
    """The pattern ``pattern`` matches somewhere in the answer (RE2: no pattern takes for ever)."""
    pattern = str(reference["pattern"])
    found = pc.match_substring_regex(pa.array([answer]), pattern=pattern)[0].as_py()
    return _right(bool(found), "the pattern does not match")


def choice(messages: Sequence[Message], answer: str, reference: Mapping[str, Any]) -> Score:
    """The answer names the right one of ``choices`` (a letter A, B, … or its text) and no other.

    ``answer`` of the reference is the letter, the text, or the place of the right one.
    """
    choices = [str(one) for one in reference["choices"]]
    letters = [chr(ord("A") + place) for place in range(len(choices))]
    wanted = reference["answer"]
    if isinstance(wanted, int):
        right = wanted
    elif str(wanted).upper() in letters:
        right = letters.index(str(wanted).upper())
    else:
        right = choices.index(str(wanted))
    named = re.findall(rf"(?<![A-Za-z])([{letters[0]}-{letters[-1]}])(?![A-Za-z'’])", answer)
    told = {letters.index(letter) for letter in named}
    told |= {place for place, text in enumerate(choices) if plain(text) == plain(answer)}
    if not told:
        told = {n for n, text in enumerate(choices) if plain(text) and plain(text) in plain(answer)}
    reason = "it names none of the choices" if not told else "it names another one, or several"
    return _right(told == {right}, reason)


def schema(messages: Sequence[Message], answer: str, reference: Mapping[str, Any]) -> Score:
    """The answer, or its only code block, is JSON that fits ``schema``."""
    try:
        value = json.loads(code_block(answer))
    except (ValueError, RecursionError) as error:
        return Score(WRONG, f"not JSON: {error}")
    problem = schema_problem(value, reference["schema"])
    return _right(problem is None, problem or "")


def form(messages: Sequence[Message], answer: str, reference: Mapping[str, Any]) -> Score:
    """Share of the demands on form that hold: ``prefix``, ``suffix``, ``include`` (a list),
    ``exclude`` (a list), ``most_words``, ``fewest_words``, ``lines``."""
    text, words = answer.strip(), len(answer.split())
    demands: dict[str, Callable[[Any], bool]] = {
        "prefix": lambda value: text.startswith(value),
        "suffix": lambda value: text.endswith(value),
        "include": lambda value: all(one in text for one in value),
        "exclude": lambda value: not any(one in text for one in value),
        "most_words": lambda value: words <= value,
        "fewest_words": lambda value: words >= value,
        "lines": lambda value: len(text.splitlines()) == value,
    }
    asked = [name for name in demands if name in reference]
    if not asked:
        raise ValueError(f"the row names none of {', '.join(demands)}")
    broken = [name for name in asked if not demands[name](reference[name])]
    reason = f"broken: {', '.join(broken)}" if broken else "right"
    return Score(1.0 - len(broken) / len(asked), reason)


def tool_call(messages: Sequence[Message], answer: str, reference: Mapping[str, Any]) -> Score:
    """A tool was called as asked: ``tool`` (any where absent), ``arguments`` where given.

    A call that named no tool or whose arguments were no JSON object counts as none.
    """
    calls = [call for message in messages for call in message.tool_calls]
    wanted, arguments = reference.get("tool"), reference.get("arguments")
    for call in calls:
        if wanted is None or call.name == wanted:
            given = json.loads(call.arguments)
            if arguments is None or given == arguments:
                return Score(RIGHT, "right")
    return Score(WRONG, "no such call" if calls else "no tool was called")


def tool_result(messages: Sequence[Message], answer: str, reference: Mapping[str, Any]) -> Score:
    """The answer repeats what the last tool said, so that it was not made up."""
    results = [message.content for message in messages if message.role == "tool"]
    if not results:
        return Score(WRONG, "no tool was called")
    said = stated_number(results[-1])
    if said is None:
        holds = plain(results[-1]) in plain(answer)
    else:
        holds = any(math.isclose(one, said, rel_tol=1e-6) for one in numbers_in(answer))
    return _right(holds, "the answer does not repeat the tool's result")


def length(messages: Sequence[Message], answer: str, reference: Mapping[str, Any]) -> Score:
    """0 up to ``most_characters`` (600), then down to -1 at twice that: a penalty on length."""
    most = int(reference.get("most_characters", 600))
    over = max(0, len(answer) - most) / most
    return Score(-min(1.0, over), f"{len(answer)} characters")


def repetition(messages: Sequence[Message], answer: str, reference: Mapping[str, Any]) -> Score:
    """-(share of the answer's groups of three words, or characters of Chinese, seen before)."""
    pieces = re.findall(r"[\u3400-\u9fff]|[^\s\u3400-\u9fff]+", answer)
    return Score(distinct_share(pieces, 3) - 1.0, "")


def not_empty(messages: Sequence[Message], answer: str, reference: Mapping[str, Any]) -> Score:
    """The answer says something."""
    return _right(bool(answer.strip()), "the answer is empty")


def code_tests(sandbox: Sandbox, seconds: float = 5.0) -> Verifier:
    """A verifier that runs the answer's code, and ``tests`` of the row after it, in ``sandbox``."""

    def code(messages: Sequence[Message], answer: str, reference: Mapping[str, Any]) -> Score:
        program = f"{code_block(answer)}\n\n{reference['tests']}\n"
        try:
            sandbox.run(program, timeout_seconds=seconds)
        except FledgeError as error:
            return Score(WRONG, error.message.splitlines()[0][:200])
        return Score(RIGHT, "right")

    return code


VERIFIERS: dict[str, Verifier] = {
    "exact": exact,
    "contains": contains,
    "numeric": numeric,
    "fact": fact,
    "regex": regex,
    "choice": choice,
    "schema": schema,
    "form": form,
    "tool_call": tool_call,
    "tool_result": tool_result,
    "length": length,
    "repetition": repetition,
    "not_empty": not_empty,
}
"""By the names that configs and rows use."""


def distinct_share(pieces: Sequence[Any], size: int) -> float:
    """Share of the groups of ``size`` that are different; 1 where there are none."""
    groups = list(zip(*(pieces[start:] for start in range(size)), strict=False))
    return len(set(groups)) / len(groups) if groups else 1.0


def plain(text: Any) -> str:
    """Without case, outer and repeated spaces and a full stop at the end."""
    return " ".join(str(text).casefold().split()).rstrip(".。!！").strip()


def code_block(answer: str) -> str:
    """The content of the answer's last fenced block, or all of it where there is none."""
    blocks = re.findall(r"```[^\n`]*\n(.*?)```", answer, re.DOTALL)
    return str(blocks[-1]) if blocks else answer


def _texts(reference: Mapping[str, Any], key: str) -> list[str]:
    if key not in reference:
        raise ValueError(f"the row has no {key!r} to compare with")
    value = reference[key]
    return [str(one) for one in value] if isinstance(value, list) else [str(value)]


def check_reference(name: str, reference: Mapping[str, Any], origin: str) -> None:
    """Raise InputError where a row lacks what its verifier reads, before anything is trained."""
    needed = {
        "exact": ["answer"],
        "contains": ["answer"],
        "numeric": ["answer"],
        "fact": ["answer"],
        "regex": ["pattern"],
        "choice": ["choices", "answer"],
        "schema": ["schema"],
        "code": ["tests"],
    }.get(name, [])
    for key in needed:
        if key not in reference:
            raise InputError(
                f"{origin}: the verifier {name!r} needs {key!r}", remedy=f"add {key!r} to the row"
            )
