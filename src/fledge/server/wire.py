"""Answers as the OpenAI API writes them: whole objects and server-sent events."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from fledge.core.protocols import Delta, Reply, TokenLogprob, Usage
from fledge.core.types import ToolCall


def _choice(
    index: int, content: dict[str, Any], logprobs: dict[str, Any] | None, finish: str | None
) -> dict[str, Any]:
    return {"index": index, **content, "logprobs": logprobs, "finish_reason": finish}


def _call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}


def _chat_logprob(token: TokenLogprob) -> dict[str, Any]:
    """A token as the chat endpoint tells of it; its bytes, since it may be part of a character."""
    pairs = [(token.token, token.logprob), *token.top]
    own, *top = ({"token": _text(one), "logprob": logp, "bytes": list(one)} for one, logp in pairs)
    return {**own, "top_logprobs": top}


def _text(token: bytes) -> str:
    return token.decode("utf-8", "replace")


def _key(token: bytes) -> str:
    """A token as a key; parts of characters all look alike as text, and are written as OpenAI does:
    ``bytes:\\xe6\\xa1``."""
    try:
        return token.decode("utf-8")
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{one:02x}" for one in token)


def _grounds(reply: Reply) -> dict[str, Any]:
    """What a grounded answer rests on, and whether it does; nothing for other answers."""
    if not hasattr(reply, "citations"):
        return {}
    cited = [citation.to_json() for citation in reply.citations]
    return {"citations": cited, "supported": getattr(reply, "supported", False)}


def total(replies: Sequence[Reply]) -> Usage:
    """What answers to one prompt used: it was read once."""
    return Usage(
        prompt_tokens=replies[0].usage.prompt_tokens,
        completion_tokens=sum(reply.usage.completion_tokens for reply in replies),
    )


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

    def whole(self, replies: Sequence[Reply]) -> dict[str, Any]:
        """The body of answers that are not streamed."""
        choices = []
        for index, reply in enumerate(replies):
            message: dict[str, Any] = {"role": "assistant", "content": reply.text, "refusal": None}
            if reply.tool_calls:
                message["content"] = reply.text or None
                message["tool_calls"] = [_call(call) for call in reply.tool_calls]
            message |= _grounds(reply)
            content = {"message": message} if self.chat else {"text": reply.text}
            shown = self._logprobs(reply.logprobs)
            choices.append(_choice(index, content, shown, reply.finish_reason))
        return {
            **self._head("chat.completion"),
            "choices": choices,
            "usage": usage_object(total(replies)),
        }

    def first(self, index: int = 0) -> bytes:
        """The event that opens an answer: who speaks.  None is needed for plain text."""
        if not self.chat:
            return b""
        return self._event(index, {"delta": {"role": "assistant", "content": ""}})

    def piece(self, delta: Delta) -> bytes:
        """The event of a piece of text."""
        content: dict[str, Any] = {"text": delta.text}
        if self.chat:
            content = {"delta": {"content": delta.text}}
            cited = getattr(delta, "citations", ())
            if cited:
                content["delta"]["citations"] = [citation.to_json() for citation in cited]
        return self._event(delta.answer, content, self._logprobs(delta.logprobs))

    def last(self, delta: Delta) -> bytes:
        """The event that closes an answer: why it ended."""
        assert delta.reply is not None
        content: dict[str, Any] = {"delta": _grounds(delta.reply)} if self.chat else {"text": ""}
        calls = [{"index": i, **_call(call)} for i, call in enumerate(delta.reply.tool_calls)]
        called = self._event(delta.answer, {"delta": {"tool_calls": calls}}) if calls else b""
        return called + self._event(delta.answer, content, None, delta.reply.finish_reason)

    def end(self, replies: Sequence[Reply]) -> bytes:
        """The events that close a stream: the counts when asked for, [DONE]."""
        if not self.counted:
            return DONE
        return event({**self._head(), "choices": [], "usage": usage_object(total(replies))}) + DONE

    def _event(
        self,
        index: int,
        content: dict[str, Any],
        logprobs: dict[str, Any] | None = None,
        finish: str | None = None,
    ) -> bytes:
        body = {**self._head(), "choices": [_choice(index, content, logprobs, finish)]}
        return event({**body, "usage": None} if self.counted else body)

    def _logprobs(self, tokens: Sequence[TokenLogprob]) -> dict[str, Any] | None:
        """As the endpoint writes them; None when there are none."""
        if not tokens:
            return None
        if self.chat:
            return {"content": [_chat_logprob(token) for token in tokens], "refusal": None}
        return {
            "tokens": [_text(token.token) for token in tokens],
            "token_logprobs": [token.logprob for token in tokens],
            "top_logprobs": [{_key(one): logp for one, logp in token.top} for token in tokens],
            "text_offset": list(
                accumulate((len(_text(token.token)) for token in tokens[:-1]), initial=0)
            ),
        }

    def _head(self, kind: str = "chat.completion.chunk") -> dict[str, Any]:
        return {
            "id": ("chatcmpl-" if self.chat else "cmpl-") + self.id,
            "object": kind if self.chat else "text_completion",
            "created": self.created,
            "model": self.model,
        }
