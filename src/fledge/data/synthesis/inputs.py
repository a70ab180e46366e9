"""Files in; what methods start from out: questions with known answers, or passages of text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fledge.core.errors import InputError
from fledge.core.types import Message
from fledge.data.chat_forms import alpaca_prompt, openai_messages
from fledge.data.examples import asked, kind_of, parse_examples
from fledge.data.json_rows import read_parsed, read_rows

PLAIN = (".txt", ".md")
TARGETS = ("target", "answer", "output", "completion")
"""Fields in which a known answer stands, tried in this order."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked, and the answer where one is known.  ``origin`` names its file and line."""

    messages: tuple[Message, ...]
    target: str = ""
    origin: str = ""

    @property
    def text(self) -> str:
        """The last that the user says."""
        return next(one.content for one in reversed(self.messages) if one.role == "user")


def read_questions(files: Sequence[Path]) -> list[Question]:
    """The questions of files: rows of any form, with or without answers; their order is kept.

    Besides the forms of conversations and pairs: ``{"input"}`` (evaluation sets), ``{"question"}``,
    ``{"prompt"}``, ``{"instruction"}``, each with or without an answer.
    """
    return [one for file in files for one in read_parsed(file, "questions", _questions)]


def _questions(row: Any, origin: str) -> Iterator[Question]:
    if not isinstance(row, dict):
        raise ValueError("a question must be a JSON object")
    prompts = [_bare(row)] if _is_bare(row) else _prompts(row, origin)
    target = next((str(row[key]) for key in TARGETS if isinstance(row.get(key), str | int)), "")
    target = target.rpartition("####")[2].strip()  # how GSM8K marks the result
    for prompt in prompts:
        if not any(one.role == "user" and one.content.strip() for one in prompt):
            raise ValueError("nobody asks anything")
        yield Question(messages=prompt, target=target, origin=origin)


def _is_bare(row: Mapping[str, Any]) -> bool:
    """Whether a row is a question that no other form covers."""
    whole = {"messages", "conversations", "instances", "chosen", "response_chosen"}
    return not whole & set(row)


def _bare(row: Mapping[str, Any]) -> tuple[Message, ...]:
    for key in ("prompt", "question", "input"):
        if isinstance(row.get(key), list):
            return openai_messages(row[key], f"'{key}'")[0]
    for key in ("instruction", "prompt", "question", "input"):
        if isinstance(row.get(key), str):
            more = row if key == "instruction" else {**row, "input": ""}
            return alpaca_prompt({**more, "instruction": row[key]})
    raise ValueError(f"expected a question, found {', '.join(row) or 'nothing'}")


def _prompts(row: Mapping[str, Any], origin: str) -> list[tuple[Message, ...]]:
    found = [asked(one) for one in parse_examples(row, origin, kind_of(row))]
    return [prompt for prompt in found if prompt]


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A piece of a document."""

    text: str
    origin: str


def read_passages(files: Sequence[Path], most: int) -> list[Passage]:
    """Documents (plain text, Markdown, or rows with ``text``) in pieces of ``most`` characters."""
    found = []
    for file in files:
        for origin, text in _documents(file):
            found += [
                Passage(text=piece, origin=f"{origin}#{number}")
                for number, piece in enumerate(pieces(text, most), 1)
            ]
    return found


def _documents(file: Path) -> Iterator[tuple[str, str]]:
    if file.suffix.lower() in PLAIN:
        try:
            yield str(file), file.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"{file} is not UTF-8: {error}", remedy="re-encode it") from None
        return
    for row in read_rows(file, "documents"):
        text = row.value.get("text") if isinstance(row.value, dict) else None
        if not isinstance(text, str):
            raise InputError(f"{row.origin}: {row.fault or 'no text'}", remedy="mend that line")
        yield row.origin, text


def pieces(text: str, most: int) -> list[str]:
    """``text`` cut at paragraphs, else at lines, else anywhere, into pieces of at most ``most``."""
    found: list[str] = []
    current = ""
    for part in _parts(text, most):
        if current and len(current) + len(part) > most:
            found.append(current)
            current = ""
        current += part
    found.append(current)
    return [piece.strip() for piece in found if piece.strip()]


def _parts(text: str, most: int) -> Iterator[str]:
    for paragraph in text.split("\n\n"):
        if len(paragraph) <= most - 2:
            yield paragraph + "\n\n"
            continue
        for line in paragraph.splitlines(keepends=True):
            yield from (line[at : at + most] for at in range(0, len(line), most))
        yield "\n\n"
