"""Examples in; rows of the form that another house reads out, or why the form cannot hold them.

messages     {"messages": [...]}                             OpenAI, TRL
sharegpt     {"conversations": [{"from", "value"}, …]}       LLaMA-Factory, Axolotl
alpaca       {"instruction", "input", "output", "history"}   Alpaca
preference   {"prompt", "chosen", "rejected"} as messages    TRL
judged       {"prompt", "completion", "label"} as messages   TRL (KTO)
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal, get_args

from fledge.core.types import Message, ToolCall
from fledge.data.chat_forms import Conversation
from fledge.data.examples import Example
from fledge.data.preference_forms import Judged, Preference
from fledge.data.preferences import conversation_row, judged_row, preference_row

Form = Literal["messages", "sharegpt", "alpaca", "preference", "judged"]
FORMS: tuple[Form, ...] = get_args(Form)


def rows_in_form(example: Example, form: Form, *, best: bool = False) -> list[dict[str, Any]]:
    """The rows that hold ``example`` in ``form``; raises ValueError when the form cannot.

    ``best``: a pair is taken as the conversation with its chosen answer, a judged answer as one
    when it is good and as nothing when it is not.
    """
    if form == "preference":
        if not isinstance(example, Preference):
            raise ValueError(
                "only pairs can be written as preferences: a rejected answer is missing"
            )
        return [preference_row(example)]
    if form == "judged":
        return [judged_row(one) for one in _judgements(example)]
    conversation = _conversation(example, form, best=best)
    if conversation is None:
        return []
    write = {"messages": conversation_row, "sharegpt": sharegpt_row, "alpaca": alpaca_row}[form]
    return [write(conversation)]


def _judgements(example: Example) -> list[Judged]:
    if isinstance(example, Judged):
        return [example]
    if isinstance(example, Conversation):
        raise ValueError("a conversation says nothing of whether its answer is good")
    return [
        Judged(
            prompt=example.prompt,
            completion=example.answer(side),
            good=side == "chosen",
            tools=example.tools,
            origin=example.origin,
        )
        for side in ("chosen", "rejected")
    ]


def _conversation(example: Example, form: Form, *, best: bool) -> Conversation | None:
    """The conversation to write; None for a bad answer that is left out."""
    if isinstance(example, Conversation):
        return example
    if not best:
        what = "two answers" if isinstance(example, Preference) else "whether the answer is good"
        raise ValueError(f"the form {form} cannot hold {what}")
    if isinstance(example, Judged) and not example.good:
        return None
    answer = example.chosen if isinstance(example, Preference) else example.completion
    return Conversation(
        messages=(*example.prompt, *answer), tools=example.tools, origin=example.origin
    )


SENDERS = {"system": "system", "user": "human", "assistant": "gpt", "tool": "observation"}


def sharegpt_row(one: Conversation) -> dict[str, Any]:
    """The conversation in ShareGPT's form, calls as LLaMA-Factory writes them."""
    _refuse_untaught(one, "sharegpt")
    turns = []
    for number, message in enumerate(one.messages, 1):
        if message.tool_calls and message.content.strip():
            raise ValueError(f"message {number}: sharegpt cannot hold text beside a call")
        if message.tool_calls:
            turns.append({"from": "function_call", "value": _calls(message.tool_calls)})
        else:
            turns.append({"from": SENDERS[message.role], "value": message.content})
    row: dict[str, Any] = {"conversations": turns}
    if one.tools:
        row["tools"] = json.dumps(list(one.tools), ensure_ascii=False)
    return row


def _calls(calls: Sequence[ToolCall]) -> str:
    """One call as an object, several as a list; raises ValueError where one is no JSON."""
    values = []
    for call in calls:
        try:
            arguments = json.loads(call.arguments or "{}")
        except ValueError:
            raise ValueError(f"the arguments of {call.name} are not JSON") from None
        values.append({"name": call.name, "arguments": arguments})
    return json.dumps(values[0] if len(values) == 1 else values, ensure_ascii=False)


def alpaca_row(one: Conversation) -> dict[str, Any]:
    """The conversation in Alpaca's form: earlier turns are its history."""
    _refuse_untaught(one, "alpaca")
    if one.tools or any(message.tool_calls or message.role == "tool" for message in one.messages):
        raise ValueError("alpaca cannot hold tools")
    system, turns = _split_system(one.messages)
    roles = [message.role for message in turns]
    if not turns or roles != ["user", "assistant"] * (len(turns) // 2):
        raise ValueError(f"alpaca holds questions and answers in turn, not {', '.join(roles)}")
    texts = [message.content for message in turns]
    row: dict[str, Any] = {"instruction": texts[-2], "input": "", "output": texts[-1]}
    if system:
        row["system"] = system
    if len(texts) > 2:
        row["history"] = [list(pair) for pair in zip(texts[:-2:2], texts[1:-2:2], strict=True)]
    return row


def _split_system(messages: Sequence[Message]) -> tuple[str, Sequence[Message]]:
    if messages and messages[0].role == "system":
        return messages[0].content, messages[1:]
    return "", messages


def _refuse_untaught(one: Conversation, form: str) -> None:
    if one.untaught:
        number = min(one.untaught) + 1
        raise ValueError(f"{form} cannot hold that message {number} is not to be learnt")
