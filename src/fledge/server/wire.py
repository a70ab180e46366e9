"""Answers as the OpenAI API writes them: whole objects and server-sent events."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from fledge.core.protocols import Reply, Usage

DONE = b"data: [DONE]\n\n"


def event(value: Any) -> bytes:
    """One server-sent event, in ASCII: some clients take U+2028 and its kin for a line's end."""
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def usage_object(usage: Usage) -> dict[str, int]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer on the wire.  ``chat``: a message; otherwise plain text.

    ``counted``: its stream ends with the token counts (``stream_options.include_usage``).
    """

    model: str
    chat: bool
    counted: bool = False
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, reply: Reply) -> dict[str, Any]:
        """The body of an answer that is not streamed."""
        message = {"role": "assistant", "content": reply.text, "refusal": None}
        choice = {"message": message} if self.chat else {"text": reply.text}
        return {
            **self._head("chat.completion"),
            "choices": [self._choice(choice, reply.finish_reason)],
            "usage": usage_object(reply.usage),
        }

    def first(self) -> bytes:
        """The event that opens a stream: who speaks.  None is needed for plain text."""
        return self._event({"delta": {"role": "assistant", "content": ""}}) if self.chat else b""

    def piece(self, text: str) -> bytes:
        """The event of a piece of text."""
        return self._event({"delta": {"content": text}} if self.chat else {"text": text})

    def last(self, reply: Reply) -> bytes:
        """The events that close a stream: why it ended, the counts when asked for, [DONE]."""
        end = self._event({"delta": {}} if self.chat else {"text": ""}, reply.finish_reason)
        if self.counted:
            end += event({**self._head(), "choices": [], "usage": usage_object(reply.usage)})
        return end + DONE

    def _event(self, choice: dict[str, Any], finish: str | None = None) -> bytes:
        body = {**self._head(), "choices": [self._choice(choice, finish)]}
        return event({**body, "usage": None} if self.counted else body)

    def _choice(self, content: dict[str, Any], finish: str | None) -> dict[str, Any]:
        return {"index": 0, **content, "logprobs": None, "finish_reason": finish}

    def _head(self, kind: str = "chat.completion.chunk") -> dict[str, Any]:
        return {
            "id": ("chatcmpl-" if self.chat else "cmpl-") + self.id,
            "object": kind if self.chat else "text_completion",
            "created": self.created,
            "model": self.model,
        }
