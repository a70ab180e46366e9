"""The local engine as a chat model: conversations in, answers out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from fledge.core.errors import InputError
from fledge.core.protocols import Delta, Reply, Sampling, TokenLogprob, Usage
from fledge.core.types import Message
from fledge.engine.errors import ContextLengthError

if TYPE_CHECKING:  # importing the engine imports torch
    from fledge.engine.chain.sampler import Choice
    from fledge.engine.engine import Engine
    from fledge.engine.request import Generation, Token


class LocalModel:
    """A ``ChatModel`` and ``Completer`` over an ``Engine``.

    Conversations are written with the checkpoint's chat template; an answer ends with the turn.
    What does not fit the context raises ContextLengthError with both counts;
    nothing is cut silently.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.name = engine.name

    def chat(self, messages: Sequence[Message], sampling: Sampling) -> Reply:
        """The whole answer."""
        return self._reply(self.engine.generate([self.prompt(messages)], sampling)[0])

    def chat_each(
        self, conversations: Sequence[Sequence[Message]], sampling: Sampling
    ) -> Iterator[tuple[int, Reply]]:
        """(index of the conversation, answer) for many at once, each as soon as it is done."""
        prompts = [self.prompt(messages) for messages in conversations]
        return (
            (index, self._reply(made))
            for index, made in self.engine.generate_each(prompts, sampling)
        )

    def stream(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[Delta]:
        """The answer in pieces; closing the iterator stops the generation."""
        return self._deltas(self.engine.stream(self.prompt(messages), sampling))

    def stream_in_room(
        self, messages: Sequence[Message], sampling: Sampling, room: int
    ) -> Iterator[Delta]:
        """``stream``; raises ContextLengthError when too few tokens are free for the answer."""
        prompt, context = self.prompt(messages), self.engine.context
        if context - len(prompt) < min(room, sampling.max_new_tokens):
            raise ContextLengthError(
                f"the prompt has {len(prompt)} tokens, the model's context holds {context} with"
                f" the answer, which needs {min(room, sampling.max_new_tokens)}",
                tokens=len(prompt),
                context=context,
            )
        return self._deltas(self.engine.stream(prompt, sampling))

    def complete(self, prompt: str, sampling: Sampling) -> Iterator[Delta]:
        """The continuation of plain text in pieces, begun as a document of pretraining."""
        return self._deltas(self.engine.stream(self.text_prompt(prompt), sampling))

    def score(self, messages: Sequence[Message], answer: str) -> list[float]:
        """log p, in nats, of each token of ``answer``, the end of the turn not included."""
        prompt = self.prompt(messages)
        answer_ids = self.engine.tokenizer.encode(_whole(answer))
        return self.engine.logprobs(prompt + answer_ids)[len(prompt) - 1 :]

    def text_prompt(self, text: str) -> list[int]:
        """The ids of a text to continue."""
        return self.engine.encode_text(_whole(text))

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """The ids of a conversation up to where the answer begins."""
        if not messages:
            raise InputError("the conversation is empty", remedy="send at least one message")
        for message in messages:
            _whole(message.content)
        return self.engine.tokenizer.encode_chat(
            [message.to_openai() for message in messages], add_generation_prompt=True
        )

    def _deltas(self, tokens: Iterator[Token]) -> Iterator[Delta]:
        for token in tokens:
            reply = None if token.generation is None else self._reply(token.generation)
            shown = () if token.choice is None else self._logprobs([token.choice])
            yield Delta(text=token.text, answer=token.answer, logprobs=shown, reply=reply)

    def _reply(self, made: Generation) -> Reply:
        return Reply(
            text=made.text,
            finish_reason=made.finish_reason,
            usage=Usage(prompt_tokens=made.prompt_tokens, completion_tokens=len(made.token_ids)),
            token_ids=made.token_ids,
            logprobs=self._logprobs(made.choices[: len(made.token_ids)]),
            others=tuple(self._reply(other) for other in made.others),
            model=self.name,
        )

    def _logprobs(self, choices: Sequence[Choice]) -> tuple[TokenLogprob, ...]:
        """What was asked to be told of drawn tokens; the stop token is not among them."""
        name = self.engine.tokenizer.token_bytes
        return tuple(
            TokenLogprob(
                token=name(choice.token),
                logprob=choice.before.token,
                top=tuple((name(token), logp) for token, logp in choice.before.top),
            )
            for choice in choices
            if choice.before is not None and choice.token not in self.engine.stop_ids
        )


def _whole(text: str) -> str:
    """``text``; raises InputError when it holds half a character (a lone surrogate)."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"the text is not valid Unicode at character {error.start}",
            remedy="remove the lone surrogate",
        ) from None
    return text
