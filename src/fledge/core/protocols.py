"""What lower floors ask of higher ones, as protocols: a door passes the implementation in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from fledge.core.types import Message, ToolCall


@dataclass(frozen=True, kw_only=True)
class Structure:
    """What an answer must look like, to the character."""

    kind: Literal["json_schema", "regex", "choice", "lark", "tools"]
    value: Any
    """A schema (object or JSON text; {} is any JSON), a pattern, a list of texts, a grammar, or
    ``{"tools": [OpenAI tools], "choice": "auto", "required" or a name, "parallel": bool}``."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How to draw tokens; defaults are greedy, with every step off."""

    max_new_tokens: int = 256
    """The most tokens to draw; 0, with ``echo``: none."""

    min_tokens: int = 0
    """Stop tokens are not drawn before this many others are."""

    temperature: float = 0.0
    """Divides the logits; 0 is greedy: the likeliest token, and the filters below have no say."""

    top_k: int = 0
    """Keep the k likeliest tokens; 0 is off."""

    top_p: float = 1.0
    """Keep the smallest set of the likeliest tokens that reaches this mass; 1 is off."""

    min_p: float = 0.0
    """Keep tokens at least this many times as likely as the likeliest; 0 is off."""

    typical_p: float = 1.0
    """Keep the smallest set, nearest the expected surprise first, of this mass; 1 is off."""

    top_n_sigma: float = 0.0
    """Keep logits within this many standard deviations of the largest; 0 is off."""

    repetition_penalty: float = 1.0
    """Divides (negative: multiplies) logits of tokens in prompt or answer; 1 is off."""

    presence_penalty: float = 0.0
    """Subtracted from the logits of tokens that the answer has; 0 is off."""

    frequency_penalty: float = 0.0
    """Subtracted once for each time the answer has the token; 0 is off."""

    logit_bias: Mapping[int, float] = field(default_factory=dict, hash=False)
    """Token id -> what is added to its logit; -inf forbids it."""

    seed: int | None = None
    """Makes the draws repeatable, whatever else is computed beside them."""

    stop: tuple[str, ...] = ()
    """Texts that end the answer and are not part of it."""

    logprobs: bool = False
    """Report log-probabilities, in nats, of each drawn token before and after the chain."""

    top_logprobs: int = 0
    """Report those of this many likeliest tokens, too."""

    echo: bool = False
    """Begin the continuation of a text with the text; ``logprobs`` are those of its tokens, too."""

    n: int = 1
    """Answers to give."""

    best_of: int | None = None
    """Answers to draw, of which the ``n`` likeliest per token are given; None: ``n``."""

    lookup: int = 0
    """The most tokens to guess at a time by prompt lookup, which changes no answer; 0 is off."""

    draft: int = 0
    """Tokens that the engine's draft model guesses at a time, which changes no answer; 0 is off."""

    structure: Structure | None = field(default=None, hash=False)
    """What the answer must look like."""


@dataclass(frozen=True, kw_only=True)
class TokenLogprob:
    """A token with its log-probability, in nats, as the model has it.

    ``logprob`` is None for the first token of an echoed text, which nothing came before.  ``top``
    are the likeliest tokens in its place, likeliest first.
    """

    token: bytes
    logprob: float | None
    top: tuple[tuple[bytes, float], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Tokens read and written."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, kw_only=True)
class Reply:
    """A finished answer.  ``finish_reason``: "stop", "length" or "tool_calls"."""

    text: str
    finish_reason: str
    usage: Usage
    tool_calls: tuple[ToolCall, ...] = ()
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    """One a token, when they were asked for."""
    others: tuple[Reply, ...] = ()
    """The other answers, with ``Sampling.n`` above 1."""
    model: str = ""


@dataclass(frozen=True, kw_only=True)
class Delta:
    """A piece of a streamed answer; the last one carries ``reply``, the whole answer.

    ``answer`` says which of ``Sampling.n`` answers it belongs to.
    """

    text: str
    answer: int = 0
    logprobs: tuple[TokenLogprob, ...] = ()
    reply: Reply | None = None


class ChatModel(Protocol):
    """Anything that answers a conversation."""

    name: str

    def chat(self, messages: Sequence[Message], sampling: Sampling) -> Reply:
        """The whole answer."""

    def stream(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[Delta]:
        """The answer in pieces; closing the iterator stops the generation."""

    def score(self, messages: Sequence[Message], answer: str) -> list[float]:
        """Log-probabilities, in nats, of the tokens of ``answer`` after ``messages``."""


class Embedder(Protocol):
    """Texts to vectors of ``dimensions`` floats, unit length."""

    name: str
    dimensions: int

    def embed(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        """One vector per text."""


class Tool(Protocol):
    """Something a model may call; ``parameters`` is a JSON Schema."""

    name: str
    description: str
    parameters: Mapping[str, Any]

    def call(self, arguments: Mapping[str, Any]) -> str:
        """The result as text; raises ValueError for arguments it cannot use."""


Ending = Literal["finished", "raised", "timed_out", "out_of_memory", "crashed", "refused"]
"""How code in a sandbox ended.  "crashed": its process died; "refused": it was never started."""


@dataclass(frozen=True, kw_only=True)
class Execution:
    """What came of a piece of code.  ``error`` says why it did not finish: a traceback, a limit."""

    ending: Ending
    stdout: str = ""
    stderr: str = ""
    error: str = ""
    seconds: float = 0.0
    """From the first line of the code to its end."""
    cut: bool = False
    """Whether the output was longer than what is kept."""


class Sandbox(Protocol):
    """Runs untrusted Python.  Refuses, by FledgeError, when it cannot isolate."""

    name: str

    def run(self, code: str, *, timeout_seconds: float) -> Execution:
        """What came of the code, whatever it did; safe to call from several threads."""

    def close(self) -> None:
        """End the processes it keeps ready."""


@runtime_checkable
class Bar(Protocol):
    """A running progress bar."""

    def advance(self, amount: float = 1, note: str = "") -> None:
        """``amount`` more units are done; ``note`` shows beside the bar."""


@runtime_checkable
class TableBar(Bar, Protocol):
    """A bar that can show named figures, too."""

    def table(self, values: Mapping[str, str]) -> None:
        """Figures to show below the bar, in the place of those before."""


class Progress(Protocol):
    """Where a stage tells how far it is."""

    def bar(
        self, label: str, total: float | None, unit: str, done: float = 0
    ) -> AbstractContextManager[Bar]:
        """A bar over ``total`` units (None: unknown), ``done`` of which lie behind already."""

    def say(self, line: str) -> None:
        """A line of plain text for the user."""


class Silent:
    """A Progress that shows nothing: the default for library use and tests."""

    def bar(
        self, label: str, total: float | None, unit: str, done: float = 0
    ) -> AbstractContextManager[Bar]:
        return _SilentBar()

    def say(self, line: str) -> None:
        return None


class _SilentBar:
    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def advance(self, amount: float = 1, note: str = "") -> None:
        return None
