"""E-mail to documents: a message with its header lines; attachments as what they are."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC
from email.errors import (
    CloseBoundaryNotFoundDefect,
    InvalidBase64CharactersDefect,
    InvalidBase64LengthDefect,
    MessageDefect,
    StartBoundaryNotFoundDefect,
)
from email.message import EmailMessage
from email.utils import parsedate_to_datetime
from typing import Any

from fledge.data.decode import decode
from fledge.index.load.blob import Blob, Budget, Parse, Refused, too_large
from fledge.index.load.page import page_text
from fledge.index.load.pen import Pen, Written, finish, one_line, settle
from fledge.index.loaded import Loaded, Unreadable

_HEADERS = ("Subject", "From", "To", "Cc", "Date")
_CUT = (StartBoundaryNotFoundDefect, CloseBoundaryNotFoundDefect)
_SPOILT = (InvalidBase64CharactersDefect, InvalidBase64LengthDefect)
_MAX_PARTS = 1_000


def read_mail(blob: Blob, budget: Budget, inner: Parse) -> Iterator[Loaded | Unreadable]:
    """A message and what is attached to it."""
    yield from _read(blob, budget.whole(blob), budget, inner)


def _read(blob: Blob, data: bytes, budget: Budget, inner: Parse) -> Iterator[Loaded | Unreadable]:
    message = email.message_from_bytes(data, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    if not message.keys():
        raise Refused("broken", "it has no header")
    parts = _parts(message)
    written = _message(message, [part for part in parts if not _is_attached(part)], budget)
    yield finish(blob, written, "mail")
    blob = replace(blob, modified=written.date or blob.modified)  # so old are its attachments
    for number, part in enumerate(parts, 1):
        if _is_attached(part):
            yield from _attachment(part, number, blob, budget, inner)


def _parts(message: EmailMessage) -> list[Any]:
    """The parts that hold something, in order; messages attached stay whole."""
    found: list[Any] = []
    stack: list[Any] = [message]
    while stack:
        part = stack.pop()
        if any(isinstance(defect, _CUT) for defect in part.defects):
            raise Refused("truncated", "a boundary between its parts is missing")
        if part.get_content_type() == "message/rfc822":
            found.append(part)
        elif part.is_multipart():
            children = list(part.iter_parts())
            if part.get_content_type() == "multipart/alternative":
                children = _best(children)
            stack.extend(reversed(children))
        else:
            found.append(part)
        if len(found) + len(stack) > _MAX_PARTS:
            raise Refused("broken", f"more than {_MAX_PARTS:,} parts")
    return found


def _best(parts: list[Any]) -> list[Any]:
    """Of alternatives, the plain text; else the last, which is the richest."""
    plain = [part for part in parts if part.get_content_type() == "text/plain"]
    return plain[:1] or parts[-1:]


def _is_attached(part: Any) -> bool:
    return (
        part.get_content_disposition() == "attachment"
        or part.get_content_type() == "message/rfc822"
        or part.get_content_maintype() != "text"
        or bool(part.get_filename())
    )


def _message(message: EmailMessage, parts: list[Any], budget: Budget) -> Written:
    pen = Pen(budget.config.limits.characters)
    for name in _HEADERS:
        value = one_line(_header(message, name))
        pen.block(f"{name}: {value}" if value else "", gap="\n")
    for part in parts:
        pen.block(_body(part))
    return pen.written(
        "plain",
        title=_header(message, "Subject"),
        date=_date(message),
        metadata={
            "author": one_line(_header(message, "From")),
            "to": one_line(_header(message, "To"))[:300],
            "message_id": one_line(_header(message, "Message-ID")),
        },
    )


def _header(message: EmailMessage, name: str) -> str:
    try:
        return str(message.get(name) or "")
    except Exception:  # parsing of addresses and dates fails in many ways on hostile headers
        raw = dict(message.raw_items()).get(name, "")
        return str(raw)


def _date(message: EmailMessage) -> str:
    try:
        moment = parsedate_to_datetime(_header(message, "Date"))
        return (moment.astimezone(UTC) if moment.tzinfo else moment).date().isoformat()
    except (ValueError, TypeError, OverflowError, IndexError):
        return ""


def _bytes(part: Any) -> bytes:
    """The decoded bytes of a part; refuses base64 that is spoilt."""
    data = part.get_payload(decode=True) or b""
    spoilt: list[MessageDefect] = [d for d in part.defects if isinstance(d, _SPOILT)]
    if spoilt:
        raise Refused("damaged", f"base64: {type(spoilt[0]).__name__}")
    return bytes(data)


def _body(part: Any) -> str:
    data = _bytes(part)
    text = decode(data, part.get_content_charset() or "")
    if text is None:
        raise Refused("binary", repr(data[:24]))
    if part.get_content_type() == "text/html":
        return page_text(text).text
    return settle(text).strip()


def _attachment(
    part: Any, number: int, blob: Blob, budget: Budget, inner: Parse
) -> Iterator[Loaded | Unreadable]:
    name = one_line(part.get_filename() or "") or f"part {number}{_extension(part)}"
    path = f"{blob.path}!{name}"
    budget.take_member("attachments")
    try:
        if part.get_content_type() == "message/rfc822":
            data = bytes(part.get_payload(0))
            name = name if name.endswith(".eml") else f"{name}.eml"
        else:
            data = _bytes(part)
    except Refused as refused:
        yield Unreadable(path=path, reason=refused.reason, evidence=refused.evidence)
        return
    budget.unpacked += len(data)
    yield from inner(blob.member(f"!{name}", name, data), budget)


def _extension(part: Any) -> str:
    kinds = {"text/html": ".html", "text/plain": ".txt", "application/pdf": ".pdf",
             "message/rfc822": ".eml"}  # fmt: skip
    return kinds.get(part.get_content_type(), "")


def read_mailbox(blob: Blob, budget: Budget, inner: Parse) -> Iterator[Loaded | Unreadable]:
    """The messages of an mbox file (RFC 4155), each named by its Message-ID."""
    seen: dict[str, int] = {}
    for number, data in enumerate(_messages(blob, budget), 1):
        budget.take_member("messages")
        headers = email.message_from_bytes(data[:100_000], policy=email.policy.compat32)
        name = one_line(str(headers.get("Message-ID") or "")).strip("<>")[:200] or str(number)
        again = seen[name] = seen.get(name, 0) + 1
        name = name if again == 1 else f"{name}~{again}"
        message = blob.member(f"#{name}", f"{number}.eml", data)
        try:
            yield from _read(message, data, budget, inner)
        except Refused as refused:
            yield Unreadable(path=message.path, reason=refused.reason, evidence=refused.evidence)


def _messages(blob: Blob, budget: Budget) -> Iterator[bytes]:
    """The bytes of each message, without the "From " line before it."""
    limit = budget.config.limits.file_bytes
    lines: list[bytes] = []
    size, began, blank = 0, False, True
    with blob.open() as stream:
        if stream.read(5) != b"From ":
            raise Refused("broken", 'an mbox begins with "From "')
        stream.seek(0)
        while line := stream.readline(limit + 1):
            if blank and line.startswith(b"From "):
                if began and lines:
                    yield b"".join(lines)
                lines, size, began = [], 0, True
                continue
            blank = not line.strip(b"\r\n")
            size += len(line)
            if size > limit:
                raise too_large("a message has more bytes", "file_bytes", limit)
            lines.append(line[1:] if line.startswith(b">From ") else line)
    if lines:
        yield b"".join(lines)
