"""Answers that may call tools: drawn tokens in, the text to show and the calls out."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Sequence

from fledge.core.types import ToolCall
from fledge.tokenizer.tokenizer import Tokenizer

OPEN, CLOSE = "<tool_call>", "</tool_call>"

_CALL = re.compile(re.escape(OPEN) + r"(.*?)(?:" + re.escape(CLOSE) + r"|\Z)", re.DOTALL)


class CallReader:
    """Tells the text of an answer from its calls, while it is drawn and when it is whole."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        known = tokenizer.has_token(OPEN) and tokenizer.is_special(tokenizer.token_id(OPEN))
        self._open = tokenizer.token_id(OPEN) if known else None
        self._calling = self._open is None  # a mark of several tokens shows only when it is whole

    def show(self, token: int, text: str) -> str:
        """What of the text of a token can be shown at once."""
        self._calling = self._calling or token == self._open
        return "" if self._calling else text

    @property
    def shows_late(self) -> bool:
        """Whether all text is shown at the end."""
        return self._open is None

    def whole(self, ids: Sequence[int]) -> str:
        """The text with the marks of calls in it."""
        return self._tokenizer.decode(ids, specials=True)

    def read(self, ids: Sequence[int]) -> tuple[str, tuple[ToolCall, ...]]:
        """(text before the first call, calls).  A call that was cut off is none."""
        whole = self.whole(ids)
        found = (_call(one[1]) for one in _CALL.finditer(whole))
        calls = tuple(call for call in found if call is not None)
        if self._open is None:
            return whole.partition(OPEN)[0], calls
        before = list(ids)[: ids.index(self._open)] if self._open in ids else ids
        return self._tokenizer.decode(before), calls


def _call(body: str) -> ToolCall | None:
    try:
        value = json.loads(body)
        name, arguments = value["name"], value["arguments"]
    except (ValueError, KeyError, TypeError):
        return None
    text = json.dumps(arguments, ensure_ascii=False)
    return ToolCall(id=f"call_{uuid.uuid4().hex[:24]}", name=str(name), arguments=text)
