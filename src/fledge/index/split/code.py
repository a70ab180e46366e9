"""Source code in, its lines with the breaks between them out; and the definitions as titles.

By indentation and blank lines, which all languages share; nothing is parsed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from fledge.index.split.outline import Outline, Title
from fledge.index.split.unit import Break, Unit

_LINE = re.compile(r"[^\r\n]+")
_CLOSING = re.compile(
    r"[})\]]|(?:end|fi|done|esac|else|elif|elsif|except|finally|catch|rescue|ensure|then|do)\b"
)
_LEADING = re.compile(
    r"@|#\[|//|/\*|\*|#(?!include|define|if|endif|pragma)|--|;;|\"\"\"|template\b"
)
_MODIFIERS = (
    r"(?:(?:export|default|public|private|protected|internal|static|final|abstract|async|override|"
    r"pub(?:\([a-z]+\))?|unsafe|const|sealed|partial|inline|virtual|open|data|local|extern)\s+)*"
)
_DEFINITION = re.compile(
    rf"{_MODIFIERS}(?:class|def|fn|func|function|interface|struct|enum|impl|trait|module|namespace"
    r"|protocol|object|type|record|sub|proc|macro_rules!)\s+(?:\([^)]{0,80}\)\s*)?([\w$.:]+)"
)
_C_FUNCTION = re.compile(r"(?:[\w:<>,*&~\[\]]+\s+){1,5}[*&]?([\w:~]+)\s*\([^;=]{0,300}\{?\s*$")
_NO_NAME = frozenset(("if", "for", "while", "switch", "return", "else", "new", "throw", "case"))
TAB = 4
"""Columns of a tab."""
LONGEST = 400
"""Characters of a line that may be a definition."""


@dataclass(frozen=True)
class _Line:
    start: int
    end: int
    indent: int
    text: str


def code_outline(text: str) -> Outline:
    """Definitions as titles, from their comments and decorators on.

    A line that is no further indented than a definition ends it: a title without a name.
    """
    titles: list[Title] = []
    lines = _lines(text)
    within: list[int] = []  # indentation of the definitions that a line is in
    for number, line in enumerate(lines):
        name = _defined(line)
        if not name and (not within or line.indent > within[-1] or _CLOSING.match(line.text)):
            continue
        ended = line.indent
        while within and line.indent <= within[-1]:
            ended = within.pop()
        if name:
            start = _first_of(text, lines, number).start
            if titles and not titles[-1].name and titles[-1].start >= start:
                titles.pop()  # its comments and decorators had ended what was before
            titles.append(Title(start, line.end, line.indent + 1, name))
            within.append(line.indent)
        else:
            titles.append(Title(line.start, line.start, ended + 1, ""))
    return Outline(text, titles)


def _first_of(text: str, lines: list[_Line], number: int) -> _Line:
    """The first of the comments and decorators right above a line, or the line."""
    line = lines[number]
    for above in reversed(lines[max(0, number - 50) : number]):
        if not _LEADING.match(above.text) or _blank_between(text, above, line):
            break
        line = above
    return line


def code_units(text: str, start: int = 0, end: int | None = None) -> list[Unit]:
    """Lines of [start, end).

    A break is the stronger, the further out the line begins, and after a blank one.
    """
    lines = _lines(text, start, end)
    steps = sorted({line.indent for line in lines})
    depths = {indent: depth for depth, indent in enumerate(steps)}
    units: list[Unit] = []
    for number, line in enumerate(lines):
        before = lines[number - 1] if number else None
        units.append(Unit(line.start, line.end, _strength(text, before, line, depths[line.indent])))
    return units


def _strength(text: str, before: _Line | None, line: _Line, depth: int) -> int:
    if before is None:
        return Break.HEADING
    blank = _blank_between(text, before, line)
    if not blank and (_CLOSING.match(line.text) or _leads(before)):
        return Break.NEVER
    opens = _defined(line) or _LEADING.match(line.text)
    if blank or opens:
        return max(Break.SENTENCE, Break.HEADING + 2 * blank - depth)
    return max(Break.PIECE, Break.LINE - depth)


def _blank_between(text: str, one: _Line, other: _Line) -> bool:
    gap = text[one.end : other.start]
    return (gap.count("\n") or gap.count("\r")) > 1


def _leads(line: _Line) -> bool:
    """Whether a line belongs to the one below: a comment, a decorator, the head of a block."""
    return bool(_LEADING.match(line.text)) or bool(_defined(line))


def _lines(text: str, start: int = 0, end: int | None = None) -> list[_Line]:
    found = []
    for match in _LINE.finditer(text, start, len(text) if end is None else end):
        body = match[0].lstrip()
        if not body:
            continue
        at = match.end() - len(body)
        columns = len(match[0][: -len(body)].replace("\t", " " * TAB))
        found.append(_Line(at, at + len(body.rstrip()), columns, body.rstrip()))
    return found


def _defined(line: _Line) -> str:
    """The name that a line defines, or ""."""
    if len(line.text) > LONGEST:
        return ""
    match = _DEFINITION.match(line.text)
    if match is None and line.indent == 0 and line.text.endswith(("{", ")")):
        match = _C_FUNCTION.match(line.text)
    name = match[1].rstrip(".:") if match else ""
    return "" if name in _NO_NAME else name
