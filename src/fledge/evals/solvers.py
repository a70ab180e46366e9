"""Samples in, a model's answers out: asked as a chat, or in plain text where it never chatted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fledge.core.protocols import ChatModel, Sampling
from fledge.core.types import Message
from fledge.engine.engine import Engine
from fledge.evals.dataset import Sample

TOO_LONG = "too_long"
"""Finish reason of a question that does not fit the model's context: not asked, not right."""

FORMS = {
    "en": ("Question: ", "Answer:"),
    "zh-Hans": ("问题：", "回答："),
    "zh-Hant": ("問題：", "回答："),
}
"""How a base model is asked: the way a page writes questions and answers, without examples."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """A tool that a model called, and what came back; ``valid``: the tool could carry it out."""

    name: str
    arguments: str
    result: str
    valid: bool

    def row(self) -> dict[str, str | bool]:
        """As it is written to JSONL."""
        return dict(vars(self))


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a model said; ``tokens`` it drew, ``calls`` it made on the way."""

    text: str
    tokens: int
    finish_reason: str
    calls: tuple[Call, ...] = ()


Advance = Callable[[int], None]
Solver = Callable[[Sequence[Sample], Advance], list[Answer]]
"""Answers in the order of the samples; told to ``Advance`` as they come."""


def chat_solver(engine: Engine, max_new_tokens: int) -> Solver:
    """Asks in the chat template, greedily; an answer ends with its turn."""
    sampling = Sampling(max_new_tokens=max_new_tokens)

    def prompt(sample: Sample) -> list[int]:
        messages = [message.to_openai() for message in sample.messages]
        return engine.tokenizer.encode_chat(messages, add_generation_prompt=True)

    return lambda samples, advance: _generate(
        engine, [prompt(sample) for sample in samples], sampling, advance
    )


def plain_solver(engine: Engine, max_new_tokens: int) -> Solver:
    """Asks a model that never saw a chat: ``Question: ...`` / ``Answer:``, up to the line's end."""
    sampling = Sampling(max_new_tokens=max_new_tokens, stop=("\n",))
    return lambda samples, advance: _generate(
        engine, [engine.encode_text(plain_form(sample)) for sample in samples], sampling, advance
    )


def remote_solver(model: ChatModel, max_new_tokens: int) -> Solver:
    """Asks any chat model, one question after the other."""
    sampling = Sampling(max_new_tokens=max_new_tokens)

    def ask(sample: Sample, advance: Advance) -> Answer:
        reply = model.chat(sample.messages, sampling)
        advance(1)
        return Answer(
            text=reply.text.strip(),
            tokens=reply.usage.completion_tokens,
            finish_reason=reply.finish_reason,
        )

    return lambda samples, advance: [ask(sample, advance) for sample in samples]


def plain_form(sample: Sample) -> str:
    """The conversation as lines of questions and answers, ending where the answer begins."""
    asks, replies = FORMS.get(sample.language, FORMS["en"])
    space = " " if replies.endswith(":") else ""
    lines = [_line(message, asks, replies + space) for message in sample.messages]
    return "\n".join([*lines, replies])


def _line(message: Message, asks: str, replies: str) -> str:
    before = {"user": asks, "assistant": replies}.get(message.role, "")
    return before + message.content


def _generate(
    engine: Engine, prompts: Sequence[Sequence[int]], sampling: Sampling, advance: Advance
) -> list[Answer]:
    fitting = [i for i, prompt in enumerate(prompts) if len(prompt) < engine.context]
    answers = [Answer(text="", tokens=0, finish_reason=TOO_LONG) for _ in prompts]
    advance(len(prompts) - len(fitting))
    for index, made in engine.generate_each([prompts[i] for i in fitting], sampling):
        answers[fitting[index]] = Answer(
            text=made.text.strip(), tokens=len(made.token_ids), finish_reason=made.finish_reason
        )
        advance(1)
    return answers
