"""The words everyone uses: Document, Span, Message, ToolCall, Verdict."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, kw_only=True)
class Document:
    """A text with its origin.  ``date`` is ISO 8601 or empty; ``lang`` a BCP 47 tag or empty."""

    id: str
    text: str
    url: str = ""
    source: str = ""
    lang: str = ""
    date: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)


def content_hash(text: str) -> str:
    """The first 16 hex digits of SHA-256 of the text in UTF-8: names a version of a document."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class Span:
    """A quotation: ``text[start:end]`` of one version of one document, in Unicode code points."""

    document: str
    hash: str
    start: int
    end: int

    @classmethod
    def of(cls, document: Document, start: int, end: int) -> Span:
        """The span [start, end) of ``document``; raises ValueError outside the text."""
        if not 0 <= start <= end <= len(document.text):
            raise ValueError(f"span [{start}, {end}) lies outside document {document.id!r}")
        return cls(document=document.id, hash=content_hash(document.text), start=start, end=end)

    def quote(self, document: Document) -> str:
        """The quoted text; raises ValueError when ``document`` is another text or version."""
        if document.id != self.document or content_hash(document.text) != self.hash:
            raise ValueError(f"document {document.id!r} is not the version this span quotes")
        return document.text[self.start : self.end]


@dataclass(frozen=True, kw_only=True)
class ToolCall:
    """A call the model asks for; ``arguments`` is JSON text, as in the OpenAI API."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, kw_only=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None

    def to_openai(self) -> dict[str, Any]:
        """The message as the OpenAI API writes it."""
        message: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.tool_calls:
            message["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                }
                for call in self.tool_calls
            ]
        if self.tool_call_id is not None:
            message["tool_call_id"] = self.tool_call_id
        return message

    @classmethod
    def from_openai(cls, value: Any) -> Message:
        """A message from its OpenAI form; raises ValueError naming the field that is wrong."""
        if not isinstance(value, dict):
            raise ValueError("a message must be an object with 'role' and 'content'")
        role = value.get("role")
        if role not in ("system", "user", "assistant", "tool"):
            raise ValueError(f"role {role!r} is not one of system, user, assistant, tool")
        calls = tuple(_tool_call(call) for call in value.get("tool_calls") or ())
        content = _content(value.get("content"), required=not calls)
        return cls(
            role=role, content=content, tool_calls=calls, tool_call_id=value.get("tool_call_id")
        )


def _content(value: Any, *, required: bool) -> str:
    """Text of a ``content`` field: a string, a list of text parts, or null beside tool calls."""
    if isinstance(value, str):
        return value
    if value is None and not required:
        return ""
    if isinstance(value, list) and all(
        isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
        for part in value
    ):
        return "".join(part["text"] for part in value)
    raise ValueError("content must be a string or a list of text parts")


def _tool_call(value: Any) -> ToolCall:
    function = value.get("function") if isinstance(value, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise ValueError("a tool call must have 'function' with 'name' and 'arguments'")
    arguments = function.get("arguments", "{}")
    if not isinstance(arguments, str):
        raise ValueError("the arguments of a tool call must be JSON text")
    return ToolCall(id=str(value.get("id", "")), name=function["name"], arguments=arguments)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A decision about a text: ``reason`` is a stable short word, ``evidence`` what was seen."""

    reason: str
    evidence: str = ""
