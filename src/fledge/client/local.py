"""The local engine as a chat model: conversations in, answers out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fledge.client.tool_calls import CallReader
from fledge.core.errors import InputError
from fledge.core.protocols import Delta, Reply, Sampling, TokenLogprob, Usage
from fledge.core.types import Message, ToolCall
from fledge.engine.errors import ContextLengthError

if TYPE_CHECKING:  # importing the engine imports torch
    from fledge.engine.chain.logprobs import Logprobs
    from fledge.engine.chain.sampler import Choice
    from fledge.engine.engine import Engine
    from fledge.engine.request import Generation, Token


class LocalModel:
    """A ``ChatModel`` and ``Completer`` over an ``Engine``.

    Conversations are written with the checkpoint's chat template; an answer ends with the turn.
    What does not fit the context raises ContextLengthError with both counts;
    nothing is cut silently.
    """

    def __init__(self, engine: Engine, *, adapter: str = "", client: str = "") -> None:
        """``adapter`` names one that the engine has loaded; work is charged to ``client``."""
        self.engine = engine
        self.name = adapter or engine.name
        self.adapter, self._client = adapter, client

    def for_client(self, client: str) -> LocalModel:
        """The same model for one of several clients, who take turns."""
        return LocalModel(self.engine, adapter=self.adapter, client=client)

    def chat(self, messages: Sequence[Message], sampling: Sampling) -> Reply:
        """The whole answer."""
        prompt = self.prompt(messages, _tools(sampling))
        made = self.engine.generate([prompt], sampling, adapter=self.adapter)[0]
        return self._reply(made, calls=bool(_tools(sampling)))

    def chat_each(
        self, conversations: Sequence[Sequence[Message]], sampling: Sampling
    ) -> Iterator[tuple[int, Reply]]:
        """(index of the conversation, answer) for many at once, each as soon as it is done."""
        tools = _tools(sampling)
        prompts = [self.prompt(messages, tools) for messages in conversations]
        return (
            (index, self._reply(made, calls=bool(tools)))
            for index, made in self.engine.generate_each(prompts, sampling, adapter=self.adapter)
        )

    def stream(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[Delta]:
        """The answer in pieces; closing the iterator stops the generation."""
        tools = _tools(sampling)
        tokens = self._stream(self.prompt(messages, tools), sampling)
        return self._calling(tokens) if tools else self._deltas(tokens)

    def stream_in_room(
        self, messages: Sequence[Message], sampling: Sampling, room: int
    ) -> Iterator[Delta]:
        """``stream``; raises ContextLengthError when too few tokens are free for the answer."""
        tools = _tools(sampling)
        prompt, context = self.prompt(messages, tools), self.engine.context
        if context - len(prompt) < min(room, sampling.max_new_tokens):
            raise ContextLengthError(
                f"the prompt has {len(prompt)} tokens, the model's context holds {context} with"
                f" the answer, which needs {min(room, sampling.max_new_tokens)}",
                tokens=len(prompt),
                context=context,
            )
        tokens = self._stream(prompt, sampling)
        return self._calling(tokens) if tools else self._deltas(tokens)

    def complete(self, prompt: str, sampling: Sampling) -> Iterator[Delta]:
        """The continuation of plain text in pieces, begun as a document of pretraining.

        With ``echo`` the text itself comes first, and is part of the reply.
        """
        ids = self.text_prompt(prompt)
        tokens = self._stream(ids, sampling)
        if not sampling.echo:
            return self._deltas(tokens)
        return self._echoing(prompt, ids if sampling.logprobs else (), tokens)

    def score(self, messages: Sequence[Message], answer: str) -> list[float]:
        """log p, in nats, of each token of ``answer``, the end of the turn not included."""
        prompt = self.prompt(messages)
        answer_ids = self.engine.tokenizer.encode(_whole(answer))
        return self.engine.logprobs(prompt + answer_ids, adapter=self.adapter)[len(prompt) - 1 :]

    def text_prompt(self, text: str) -> list[int]:
        """The ids of a text to continue."""
        return self.engine.encode_text(_whole(text))

    def prompt(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()
    ) -> list[int]:
        """The ids of a conversation up to where the answer begins; the template shows the tools."""
        if not messages:
            raise InputError("the conversation is empty", remedy="send at least one message")
        for message in messages:
            _whole(message.content)
        return self.engine.tokenizer.encode_chat(
            [message.to_openai() for message in messages],
            tools=tools or None,
            add_generation_prompt=True,
        )

    def _stream(self, prompt: Sequence[int], sampling: Sampling) -> Iterator[Token]:
        return self.engine.stream(prompt, sampling, client=self._client, adapter=self.adapter)

    def _deltas(self, tokens: Iterator[Token]) -> Iterator[Delta]:
        return (self._delta(token) for token in tokens)

    def _delta(self, token: Token) -> Delta:
        reply = None if token.generation is None else self._reply(token.generation)
        shown = () if token.choice is None else self._logprobs([token.choice])
        return Delta(text=token.text, answer=token.answer, logprobs=shown, reply=reply)

    def _echoing(self, prompt: str, ids: Sequence[int], tokens: Iterator[Token]) -> Iterator[Delta]:
        """Pieces of answers that begin with the prompt, whose log-probabilities are told, too."""
        told: dict[int, tuple[TokenLogprob, ...]] = {}
        with closing(tokens):  # type: ignore[type-var]
            for token in tokens:
                delta = self._delta(token)
                if token.answer not in told:
                    seen = token.prompt_choices
                    if token.generation is not None:
                        seen = token.generation.prompt_choices
                    before = told[token.answer] = self._told(ids, seen)
                    text, shown = prompt + delta.text, before + delta.logprobs
                    delta = replace(delta, text=text, logprobs=shown)
                if delta.reply is not None:
                    text, shown = delta.reply.text, told[token.answer] + delta.reply.logprobs
                    reply = replace(delta.reply, text=prompt + text, logprobs=shown)
                    delta = replace(delta, reply=reply)
                yield delta

    def _told(self, ids: Sequence[int], seen: Sequence[Choice]) -> tuple[TokenLogprob, ...]:
        """Of a prompt's tokens; the one that begins documents is not the user's."""
        if not ids:
            return ()
        tokenizer = self.engine.tokenizer
        alone = TokenLogprob(token=tokenizer.token_bytes(ids[0]), logprob=None)
        first = () if tokenizer.is_special(ids[0]) else (alone,)
        return (*first, *(self._logprob(choice.token, choice.before) for choice in seen))

    def _calling(self, tokens: Iterator[Token]) -> Iterator[Delta]:
        """Pieces of answers that may call tools: calls come with the reply, whole."""
        readers: dict[int, CallReader] = {}
        for token in tokens:
            reader = readers.setdefault(token.answer, CallReader(self.engine.tokenizer))
            text, reply = reader.show(token.id, token.text), None
            if token.generation is not None:
                reply = self._reply(token.generation, calls=True)
                text = reply.text if reader.shows_late else text
            shown = () if token.choice is None else self._logprobs([token.choice])
            yield Delta(text=text, answer=token.answer, logprobs=shown, reply=reply)

    def _reply(self, made: Generation, *, calls: bool = False) -> Reply:
        text = made.text
        called: tuple[ToolCall, ...] = ()
        if calls:
            before, called = CallReader(self.engine.tokenizer).read(made.token_ids)
            text = before if called else made.text
        return Reply(
            text=text,
            tool_calls=called,
            finish_reason="tool_calls" if called else made.finish_reason,
            usage=Usage(prompt_tokens=made.prompt_tokens, completion_tokens=len(made.token_ids)),
            token_ids=made.token_ids,
            logprobs=self._logprobs(made.choices[: len(made.token_ids)]),
            others=tuple(self._reply(other, calls=calls) for other in made.others),
            model=self.name,
        )

    def _logprobs(self, choices: Sequence[Choice]) -> tuple[TokenLogprob, ...]:
        """What was asked to be told of drawn tokens; the stop token is not among them."""
        return tuple(
            self._logprob(choice.token, choice.before)
            for choice in choices
            if choice.before is not None and choice.token not in self.engine.stop_ids
        )

    def _logprob(self, token: int, seen: Logprobs | None) -> TokenLogprob:
        name = self.engine.tokenizer.token_bytes
        if seen is None:
            return TokenLogprob(token=name(token), logprob=None)
        top = tuple((name(one), logp) for one, logp in seen.top)
        return TokenLogprob(token=name(token), logprob=seen.token, top=top)


def _tools(sampling: Sampling) -> Sequence[Mapping[str, Any]]:
    """The tools that an answer may call."""
    form = sampling.structure
    found: Sequence[Mapping[str, Any]] = ()
    if form is not None and form.kind == "tools":
        found = form.value["tools"]
    return found


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
