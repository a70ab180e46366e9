"""The tool ``calculator``: an arithmetic expression in, its value out, by a parser of its own.

    expression = term (("+" | "-") term)*
    term       = factor (("*" | "/" | "%") factor)*
    factor     = ("+" | "-") factor | power
    power      = atom ("**" factor)?
    atom       = number | name "(" expression ("," expression)* ")" | "(" expression ")"

Nothing is evaluated by Python, and every size is bounded: an expression comes from a model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import ROUND_FLOOR, Decimal, DivisionByZero, InvalidOperation, Overflow, localcontext
from typing import Any

LONGEST = 300
"""Characters of an expression."""

DEEPEST = 40
"""Parentheses, signs and powers within each other."""

DIGITS = 28
"""Significant digits of every result."""

LARGEST_POWER = 1000
"""The largest exponent."""

LARGEST = Decimal("1e100")
"""The largest value at any step."""

_PLAIN = r"\d+(?:\.\d+)?|\.\d+"
_REST = r"|(?P<name>[a-z]+)|(?P<sign>\*\*|[-+*/%(),]))"
_TOKEN = re.compile(rf"\s*(?:(?P<number>{_PLAIN}){_REST}")
_TOKEN_GROUPED = re.compile(  # 1,234.5
    rf"\s*(?:(?P<number>\d{{1,3}}(?:,\d{{3}})+(?:\.\d+)?(?![\d.])|{_PLAIN}){_REST}"
)

SYMBOLS = str.maketrans(
    {"×": "*", "÷": "/", "−": "-", "–": "-", "（": "(", "）": ")", "，": ",", "^": "\0"}
)
"""What people and models write for the same signs."""


class Calculator:
    """A ``Tool``: + - * / ** % ( ), decimals, 1,234.5, sqrt, round, abs, min, max."""

    name = "calculator"
    description = "Compute an arithmetic expression, such as (1,280 - 3.5) * 2 or sqrt(2)."
    parameters: Mapping[str, Any] = {
        "type": "object",
        "properties": {"expression": {"type": "string"}},
        "required": ["expression"],
        "additionalProperties": False,
    }

    def call(self, arguments: Mapping[str, Any]) -> str:
        """The value as text; raises ValueError for what is no expression it computes."""
        expression = arguments.get("expression")
        if not isinstance(expression, str) or set(arguments) - {"expression"}:
            raise ValueError("give one text, 'expression'")
        return written(calculate(expression))


def calculate(expression: str) -> Decimal:
    """The value of an expression; raises ValueError saying what is wrong with it."""
    if len(expression) > LONGEST:
        raise ValueError(f"the expression has {len(expression)} characters, at most {LONGEST}")
    parser = _Parser(_tokens(expression))
    with localcontext() as context:
        context.prec = DIGITS
        try:
            value = parser.sum()
            parser.end()
        except (DivisionByZero, ZeroDivisionError):
            raise ValueError("division by zero") from None
        except (InvalidOperation, Overflow):
            raise ValueError("there is no such value") from None
        return +value


def written(value: Decimal) -> str:
    """As people write a number: no exponent, no zeros at the end; 12 significant digits."""
    with localcontext() as context:
        context.prec = 12
        text = f"{+value:f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def _tokens(expression: str) -> list[str]:
    """Numbers, names and signs.  Inside a function's parentheses a comma parts its arguments."""
    text, place = expression.translate(SYMBOLS).replace("\0", "**").strip(), 0
    found: list[str] = []
    calls: list[bool] = []  # of each open parenthesis: whether it is a function's
    while place < len(text):
        match = (_TOKEN if any(calls) else _TOKEN_GROUPED).match(text, place)
        if match is None:
            raise ValueError(f"{text[place : place + 10]!r} is nothing it computes")
        token = match[match.lastgroup or 0].replace(",", "") or ","
        if token == "(":
            calls.append(bool(found) and found[-1] in FUNCTIONS)
        elif token == ")" and calls:
            calls.pop()
        found.append(token)
        place = match.end()
    return found


def _root(value: Decimal) -> Decimal:
    if value < 0:
        raise ValueError("the square root of a negative number")
    return value.sqrt()


def _round(value: Decimal, places: Decimal = Decimal(0)) -> Decimal:
    if places != int(places) or not -20 <= places <= 20:
        raise ValueError("round takes a number and how many places to keep, -20 to 20")
    return value.quantize(Decimal(1).scaleb(-int(places)))


FUNCTIONS: dict[str, tuple[Callable[..., Decimal], int, int]] = {
    "sqrt": (_root, 1, 1),
    "abs": (lambda value: abs(value), 1, 1),
    "round": (_round, 1, 2),
    "min": (lambda *values: min(values), 1, 20),
    "max": (lambda *values: max(values), 1, 20),
}
"""Name -> (function, fewest arguments, most)."""


class _Parser:
    """Reads tokens from left to right; each method is a line of the grammar above."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._place = 0
        self._depth = 0

    def end(self) -> None:
        """Raise ValueError unless everything was read."""
        if self._place < len(self._tokens):
            raise ValueError(f"{self._tokens[self._place]!r} is not expected there")

    def sum(self) -> Decimal:
        self._depth += 1
        if self._depth > DEEPEST:
            raise ValueError(f"more than {DEEPEST} parentheses within each other")
        value = self._term()
        while sign := self._take("+", "-"):
            other = self._term()
            value = _bounded(value + other if sign == "+" else value - other)
        self._depth -= 1
        return value

    def _term(self) -> Decimal:
        value = self._factor()
        while sign := self._take("*", "/", "%"):
            other = self._factor()
            if sign == "*":
                value = _bounded(value * other)
            elif sign == "/":
                value = _bounded(value / other)
            else:  # the sign of the divisor, as in Python and on paper
                if not other:
                    raise ValueError("division by zero")
                value = value - other * (value / other).to_integral_value(ROUND_FLOOR)
        return value

    def _factor(self) -> Decimal:
        if sign := self._take("+", "-"):
            self._depth += 1
            if self._depth > DEEPEST:
                raise ValueError(f"more than {DEEPEST} signs within each other")
            value = self._factor()
            self._depth -= 1
            return -value if sign == "-" else value
        value = self._atom()
        if self._take("**"):
            self._depth += 1
            if self._depth > DEEPEST:
                raise ValueError(f"more than {DEEPEST} powers within each other")
            value = _power(value, self._factor())
            self._depth -= 1
        return value

    def _atom(self) -> Decimal:
        if self._place == len(self._tokens):
            raise ValueError("the expression ends too early")
        token = self._tokens[self._place]
        self._place += 1
        if token in FUNCTIONS:
            return self._called(token)
        if token == "(":
            value = self.sum()
            self._expect(")")
            return value
        if token[0].isdigit() or token[0] == ".":
            return _bounded(Decimal(token))
        raise ValueError(f"{token!r} is nothing it computes")

    def _called(self, name: str) -> Decimal:
        function, fewest, most = FUNCTIONS[name]
        self._expect("(")
        values = [self.sum()]
        while self._take(","):
            values.append(self.sum())
        self._expect(")")
        if not fewest <= len(values) <= most:
            raise ValueError(f"{name} takes {fewest} to {most} numbers, not {len(values)}")
        return _bounded(function(*values))

    def _take(self, *signs: str) -> str:
        """The next token if it is one of these, else an empty text."""
        if self._place < len(self._tokens) and self._tokens[self._place] in signs:
            self._place += 1
            return self._tokens[self._place - 1]
        return ""

    def _expect(self, sign: str) -> None:
        if not self._take(sign):
            raise ValueError(f"{sign!r} is missing")


def _power(base: Decimal, exponent: Decimal) -> Decimal:
    if abs(exponent) > LARGEST_POWER:
        raise ValueError(f"exponents beyond {LARGEST_POWER} are not computed")
    if not base and exponent < 0:
        raise ValueError("division by zero")
    if base and exponent and abs(base.adjusted() * exponent) > 2 * LARGEST.adjusted():
        raise ValueError(TOO_LARGE)
    return _bounded(base**exponent)


TOO_LARGE = "the value is too large, or too small"


def _bounded(value: Decimal) -> Decimal:
    if abs(value) > LARGEST:
        raise ValueError(TOO_LARGE)
    return value
