"""Samples and tools in, a model's answers out: it calls, reads the result and goes on.

Nothing forces the form of a call, so that the share of valid ones is the model's own.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from fledge.client.tool_calls import OPEN, CallReader
from fledge.core.protocols import Sampling, Tool
from fledge.core.types import Message, ToolCall
from fledge.engine.engine import Engine
from fledge.engine.request import Generation
from fledge.evals.dataset import Sample
from fledge.evals.solvers import TOO_LONG, Advance, Answer, Call, Solver

ROUNDS = "rounds"
"""Finish reason of an answer that still called when it had called often enough."""


@dataclass
class _Talk:
    """A conversation on its way."""

    messages: list[Message]
    tokens: int = 0
    calls: list[Call] = field(default_factory=list)
    answer: Answer | None = None

    def finish(self, text: str, reason: str) -> None:
        self.answer = Answer(
            text=text.strip(), tokens=self.tokens, finish_reason=reason, calls=tuple(self.calls)
        )


def tool_solver(
    engine: Engine,
    tools: Sequence[Tool],
    max_new_tokens: int,
    *,
    rounds: int = 3,
    listed: bool = False,
) -> Solver:
    """Asks in the chat template, greedily, and carries out calls for at most ``rounds`` rounds.

    ``listed`` writes the tools' definitions into the prompt, as models that met them there expect.
    Calls that cannot be carried out are told to the model as an error, and it goes on.
    """
    by_name = {tool.name: tool for tool in tools}
    shown = [_definition(tool) for tool in tools] if listed else None
    sampling = Sampling(max_new_tokens=max_new_tokens)
    reader = CallReader(engine.tokenizer)

    def solve(samples: Sequence[Sample], advance: Advance) -> list[Answer]:
        talks = [_Talk(messages=list(sample.messages)) for sample in samples]
        for number in range(rounds + 1):
            _next_turn(engine, [talk for talk in talks if talk.answer is None], shown, sampling,
                       reader, by_name, advance, last=number == rounds)  # fmt: skip
        return [talk.answer for talk in talks if talk.answer is not None]

    return solve


def _next_turn(
    engine: Engine,
    talks: Sequence[_Talk],
    shown: Sequence[dict[str, Any]] | None,
    sampling: Sampling,
    reader: CallReader,
    tools: dict[str, Tool],
    advance: Advance,
    *,
    last: bool,
) -> None:
    """Every open talk gets the model's next turn, and is finished or told what its calls gave."""
    asked: list[tuple[_Talk, list[int]]] = []
    for talk in talks:
        prompt = engine.tokenizer.encode_chat(
            [message.to_openai() for message in talk.messages], shown, add_generation_prompt=True
        )
        if len(prompt) < engine.context:
            asked.append((talk, prompt))
        else:
            talk.finish("", TOO_LONG)
            advance(1)
    made = engine.generate_each([prompt for _, prompt in asked], sampling)
    for index, generation in made:
        talk = asked[index][0]
        _read(talk, generation, reader, tools, last=last)
        advance(talk.answer is not None)


def _read(
    talk: _Talk, made: Generation, reader: CallReader, tools: dict[str, Tool], *, last: bool
) -> None:
    talk.tokens += len(made.token_ids)
    text, calls = reader.read(made.token_ids)
    if not calls:
        if _begins_call(reader, made):
            talk.calls.append(Call(name="", arguments="", result="no whole call", valid=False))
        talk.finish(made.text, made.finish_reason)
        return
    results = [_carried_out(call, tools) for call in calls]
    talk.calls += results
    if last:
        talk.finish(text, ROUNDS)
        return
    talk.messages.append(Message(role="assistant", content=text, tool_calls=calls))
    talk.messages += [
        Message(role="tool", content=result.result, tool_call_id=call.id)
        for call, result in zip(calls, results, strict=True)
    ]


def _begins_call(reader: CallReader, made: Generation) -> bool:
    """Whether the answer begins a call that it does not finish, or not as JSON."""
    return OPEN in reader.whole(made.token_ids)


def _carried_out(call: ToolCall, tools: dict[str, Tool]) -> Call:
    """The call with its result; ``valid`` when there is such a tool and it took the arguments."""

    def told(result: str, valid: bool) -> Call:
        return Call(name=call.name, arguments=call.arguments, result=result, valid=valid)

    if call.name not in tools:
        return told(f"error: there is no tool {call.name!r}", False)
    arguments = json.loads(call.arguments)
    if not isinstance(arguments, dict):
        return told("error: the arguments must be an object", False)
    try:
        return told(tools[call.name].call(arguments), True)
    except ValueError as error:
        return told(f"error: {error}", False)


def _definition(tool: Tool) -> dict[str, Any]:
    """The tool as the OpenAI API writes it."""
    function = {
        "name": tool.name,
        "description": tool.description,
        "parameters": dict(tool.parameters),
    }
    return {"type": "function", "function": function}
