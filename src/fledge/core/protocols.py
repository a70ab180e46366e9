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
    """How to draw tokens.  ``temperature`` 0 is greedy; 0 / 1.0 / 0.0 switch k / p / min-p off.

    What the engine makes of each is said in ``engine/chain/settings.py``.
    """

    max_new_tokens: int = 256
    min_tokens: int = 0
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    typical_p: float = 1.0
    top_n_sigma: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict, hash=False)
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: bool = False
    top_logprobs: int = 0
    n: int = 1
    best_of: int | None = None
    lookup: int = 0
    draft: int = 0
    structure: Structure | None = field(default=None, hash=False)


@dataclass(frozen=True, kw_only=True)
class TokenLogprob:
    """A drawn token with its log-probability, in nats, as the model has it.

    ``top`` are the likeliest tokens in its place, likeliest first.
    """

    token: bytes
    logprob: float
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


class Sandbox(Protocol):
    """Runs untrusted Python.  Refuses when it cannot isolate."""

    def run(self, code: str, *, timeout_seconds: float) -> str:
        """What the code printed; raises FledgeError on refusal, time-out or crash."""


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
