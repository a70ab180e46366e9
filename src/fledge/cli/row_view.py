"""Examples of post-training data in; what a terminal shows of them out, without control characters.

Differences of two answers stand in ⟦ ⟧, with colour as well where there is any.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from fledge.cli.chat import harmless
from fledge.core.types import Message
from fledge.data.chat_forms import Conversation
from fledge.data.examples import Example, text_of_messages
from fledge.data.preference_forms import Judged, Preference

COLOURS = {"system": "magenta", "user": "cyan", "assistant": "green", "tool": "yellow"}
SIDES = {"chosen": "green", "rejected": "red"}

BESIDE = 100
"""From this width, in columns, on the two answers stand side by side."""

ALIKE = 0.3
"""Below this share of common words two answers are different altogether, and nothing is marked."""

MOST_COMPARED = 4_000_000
"""Pairs of words that are compared at most: beyond, the comparison takes seconds."""

_WORD = re.compile(r"\s+|[\u3040-\u30ff\u3400-\u9fff]|[^\s\u3040-\u30ff\u3400-\u9fff]+")


def show_example(example: Example, console: Console) -> None:
    """Print an example: where it is from, who says what, the answers with their differences."""
    # The line at the end of a long path says more than its beginning.
    origin, room = harmless(example.origin), console.width - 4
    shown = origin if cell_len(origin) <= room else f"…{origin[-room // 2 :]}"
    console.rule(Text(shown, style="bold"), align="left")
    if example.tools:
        names = [str(tool.get("function", tool).get("name", "?")) for tool in example.tools]
        console.print(Text(harmless(f"tools: {', '.join(names)}"), style="dim"))
    if isinstance(example, Conversation):
        for number, message in enumerate(example.messages):
            note = " (not learnt)" if number in example.untaught else ""
            console.print(_message(message, note=note))
        return
    for message in example.prompt:
        console.print(_message(message))
    if isinstance(example, Judged):
        word, colour = ("good", "green") if example.good else ("bad", "red")
        console.print(Text(f"judged {word}", style=f"bold {colour}"))
        for message in example.completion:
            console.print(_message(message))
    else:
        console.print(_pair(example, console.width))


def _message(message: Message, *, note: str = "") -> Text:
    """Role and text of a message, calls below it."""
    shown = Text()
    shown.append(f"{message.role}{note}\n", style=f"bold {COLOURS[message.role]}")
    shown.append(harmless(text_of_messages([message])))
    return shown.append("\n")


def _pair(pair: Preference, width: int) -> RenderableType:
    """Both answers: side by side where there is room, otherwise one below the other."""
    told = "" if pair.margin is None else f" (by {pair.margin:g})"
    better, worse = (harmless(text_of_messages(one)) for one in (pair.chosen, pair.rejected))
    heads = [
        Text(f"{side}{told if side == 'chosen' else ''}", style=f"bold {colour}")
        for side, colour in SIDES.items()
    ]
    if better == worse:
        return Group(*heads, Text(f"(identical) {better}"))
    texts = marked(better, worse)
    if width < BESIDE:
        return Group(heads[0], texts[0], Text(), heads[1], texts[1])
    table = Table.grid(expand=True, padding=(0, 2))
    table.add_column(ratio=1)
    table.add_column(ratio=1)
    table.add_row(*heads)
    table.add_row(*texts)
    return table


def marked(left: str, right: str) -> tuple[Text, Text]:
    """Two texts with what only one of them has in ⟦ ⟧ and in the colour of its side."""
    ours, theirs = _WORD.findall(left), _WORD.findall(right)
    if len(ours) * len(theirs) > MOST_COMPARED:
        return Text(left), Text(right)
    matcher = SequenceMatcher(None, ours, theirs, autojunk=False)
    if matcher.ratio() < ALIKE:
        return Text(left), Text(right)
    shown = (Text(), Text())
    for kind, first, last, begin, end in matcher.get_opcodes():
        stretches = ("".join(ours[first:last]), "".join(theirs[begin:end]))
        for text, stretch, colour in zip(shown, stretches, SIDES.values(), strict=True):
            if kind == "equal":
                text.append(stretch)
            elif stretch:
                text.append(f"⟦{stretch}⟧", style=colour)
    return shown


def show_fault(origin: str, fault: str, console: Console) -> None:
    """Print a row that cannot be read."""
    console.rule(Text(harmless(origin), style="bold"), align="left")
    console.print(Text(f"cannot be read: {harmless(fault)}", style="red"))


def columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows as lines of aligned columns: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        yield "  ".join(cells).rstrip()
