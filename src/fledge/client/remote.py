"""A chat model behind an OpenAI-compatible URL: hosted, vLLM, SGLang, Ollama, fledge serve."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self

import httpx

from fledge.core.errors import FledgeError
from fledge.core.protocols import Delta, Reply, Sampling, Structure, TokenLogprob, Usage
from fledge.core.types import Message, ToolCall
from fledge.engine.errors import ContextLengthError

CONNECT_SECONDS = 10.0
_OLD_WORDING = re.compile(r"maximum context length is (\d{1,9})")

READ_SECONDS = 300.0
"""Longest silence of a server before it counts as lost: a queue, a long prompt."""


class RemoteModel:
    """A ``ChatModel`` that speaks to ``url`` (ending in ``/v1``).

    ``model``: the server's name for it; None asks the server and takes the first it lists.
    ``transport`` replaces the network in tests.
    """

    def __init__(
        self,
        url: str,
        model: str | None = None,
        api_key: str = "",
        *,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._client = httpx.Client(
            headers=headers,
            timeout=httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS),
            transport=transport,
        )
        self._is_fledge = False  # until its list of models says so
        try:
            self.name = model or self._first_model()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connections; the model cannot be used any more."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _first_model(self) -> str:
        with self._errors():
            answer = self._json(self._client.get(f"{self.url}/models"))
        try:
            first = answer["data"][0]
            self._is_fledge = first.get("owned_by") == "fledge"
            return str(first["id"])
        except (KeyError, IndexError, TypeError, AttributeError):
            raise FledgeError(
                f"{self.url} lists no model", remedy="name one, or check the URL (…/v1)"
            ) from None

    def chat(self, messages: Sequence[Message], sampling: Sampling) -> Reply:
        """The whole answer."""
        body = self._body(messages, sampling)
        with self._errors():
            answer = self._json(self._client.post(f"{self.url}/chat/completions", json=body))
        with self._shape():
            choice = answer["choices"][0]
            message = choice["message"]
            calls = tuple(_call(call) for call in message.get("tool_calls") or ())
            return Reply(
                text=message.get("content") or "",
                finish_reason=choice.get("finish_reason") or "stop",
                usage=_usage(answer.get("usage")),
                tool_calls=calls,
                logprobs=_logprobs(choice.get("logprobs")),
                model=self.name,
            )

    def stream(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[Delta]:
        """The answer in pieces; closing the iterator hangs up, which stops the server."""
        return self._stream(self._body(messages, sampling))

    def stream_in_room(
        self, messages: Sequence[Message], sampling: Sampling, room: int
    ) -> Iterator[Delta]:
        """``stream``; a fledge server refuses with ContextLengthError if too few tokens are free.

        Other servers do not know the field and are not sent it: they refuse what does not fit.
        """
        return self._stream(
            self._body(messages, sampling) | ({"answer_room": room} if self._is_fledge else {})
        )

    def _stream(self, body: Mapping[str, Any]) -> Iterator[Delta]:
        body = {**body, "stream": True, "stream_options": {"include_usage": True}}
        text, finish, usage = "", "", Usage(prompt_tokens=0, completion_tokens=0)
        told: list[TokenLogprob] = []
        calls: dict[int, dict[str, str]] = {}
        for event in self._events(body):
            with self._shape():
                if event.get("usage"):
                    usage = _usage(event["usage"])
                if not event["choices"]:
                    continue
                choice = event["choices"][0]
                piece = (choice.get("delta") or {}).get("content") or ""
                finish = choice.get("finish_reason") or finish
                shown = _logprobs(choice.get("logprobs"))
                for part in (choice.get("delta") or {}).get("tool_calls") or ():
                    _gather(calls, part)
            if piece or shown:
                text += piece
                told += shown
                yield Delta(text=piece, logprobs=shown)
        if not finish:
            raise FledgeError(f"{self.url} broke off in the middle of an answer", remedy="retry")
        reply = Reply(
            text=text,
            finish_reason=finish,
            usage=usage,
            logprobs=tuple(told),
            tool_calls=tuple(ToolCall(**calls[index]) for index in sorted(calls)),
            model=self.name,
        )
        yield Delta(text="", reply=reply)

    def score(self, messages: Sequence[Message], answer: str) -> list[float]:
        """Raises FledgeError: chat APIs give no log-probabilities of a text you bring."""
        raise FledgeError(
            f"{self.url} cannot score: chat APIs give no log-probabilities of given answers",
            remedy="use a model on disk",
        )

    def _body(self, messages: Sequence[Message], sampling: Sampling) -> dict[str, Any]:
        if sampling.n > 1 or sampling.best_of is not None:
            raise FledgeError(
                f"{self.url} is asked for one answer at a time", remedy="leave n and best_of out"
            )
        body: dict[str, Any] = {
            "model": self.name,
            "messages": [message.to_openai() for message in messages],
            "max_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
        }
        optional: dict[str, tuple[Any, Any]] = {
            "top_p": (sampling.top_p, 1.0),
            "top_k": (sampling.top_k, 0),  # from here on: not OpenAI, but vLLM, SGLang, fledge
            "min_p": (sampling.min_p, 0.0),
            "repetition_penalty": (sampling.repetition_penalty, 1.0),
            "seed": (sampling.seed, None),
            "stop": (list(sampling.stop), []),
            "presence_penalty": (sampling.presence_penalty, 0.0),
            "frequency_penalty": (sampling.frequency_penalty, 0.0),
            "logit_bias": ({str(k): v for k, v in sampling.logit_bias.items()}, {}),
            "logprobs": (sampling.logprobs, False),
            "top_logprobs": (sampling.top_logprobs, 0),
            "min_tokens": (sampling.min_tokens, 0),
            "typical_p": (sampling.typical_p, 1.0),
            "top_n_sigma": (sampling.top_n_sigma, 0.0),
            "prompt_lookup": (sampling.lookup if self._is_fledge else 0, 0),
            **_form(sampling.structure),
        }
        return body | {key: value for key, (value, off) in optional.items() if value != off}

    def _events(self, body: Mapping[str, Any]) -> Iterator[Any]:
        """The JSON of each server-sent event, up to ``[DONE]``."""
        with (
            self._errors(),
            self._client.stream("POST", f"{self.url}/chat/completions", json=body) as response,
        ):
            if response.is_error:
                response.read()
                self._check(response)
            for line in _lines(response.iter_bytes()):
                if not line.startswith(b"data:"):
                    continue
                data = line.removeprefix(b"data:").strip()
                if data == b"[DONE]":
                    return
                yield self._event(data)

    def _event(self, data: bytes) -> Any:
        try:
            event = json.loads(data)
        except ValueError:
            shown = data[:80].decode("utf-8", "replace")
            raise FledgeError(f"{self.url} sent an event that is not JSON: {shown}") from None
        if isinstance(event, dict) and "error" in event:
            raise FledgeError(f"{self.url} failed: {_message(event)}")
        return event

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Network trouble as one line with a remedy."""
        try:
            yield
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise FledgeError(f"{self.url} is not a URL: {error}") from None
        except httpx.ConnectError as error:
            raise FledgeError(
                f"cannot reach {self.url}: {error}", remedy="is the server running?"
            ) from None
        except httpx.TimeoutException:
            raise FledgeError(f"{self.url} did not answer in time", remedy="try later") from None
        except httpx.HTTPError as error:
            raise FledgeError(
                f"the connection to {self.url} broke: {error}", remedy="retry"
            ) from None

    @contextmanager
    def _shape(self) -> Iterator[None]:
        try:
            yield
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise FledgeError(
                f"{self.url} answered in another shape than the OpenAI API ({error!r})",
                remedy="check the URL (…/v1)",
            ) from None

    def _json(self, response: httpx.Response) -> Any:
        self._check(response)
        try:
            return response.json()
        except ValueError:
            raise FledgeError(
                f"{response.url} answered {response.status_code} but not in JSON",
                remedy="check the URL (…/v1)",
            ) from None

    def _check(self, response: httpx.Response) -> None:
        """Raise what an HTTP error means."""
        if response.is_success:
            return
        try:
            body = response.json()
            said = _message(body)
        except ValueError:
            body, said = None, response.text[:200]
        if response.status_code == 400:
            _check_length(body, said)
        remedies = {
            401: "give its API key",
            403: "this API key may not do that",
            404: "check the URL (…/v1) and the model's name",
            429: f"wait {response.headers.get('Retry-After', 'some')} seconds",
            503: "try later",
        }
        raise FledgeError(
            f"{self.url} answered {response.status_code}: {said}",
            remedy=remedies.get(response.status_code, ""),
        )


def _message(value: Any) -> str:
    """The text of an error in the OpenAI shape, or all of it."""
    error = value.get("error") if isinstance(value, dict) else None
    if isinstance(error, dict) and "message" in error:
        return str(error["message"])
    return str(error or value)[:200]


def _check_length(body: Any, said: str) -> None:
    """Raise ContextLengthError if a 400 means that: by its code, or by OpenAI's old wording."""
    error = body.get("error") if isinstance(body, dict) else None
    fields: Mapping[str, Any] = error if isinstance(error, dict) else {}
    worded = _OLD_WORDING.search(said)
    if fields.get("code") != "context_length_exceeded" and not worded:
        return
    tokens, context = fields.get("prompt_tokens"), fields.get("context_tokens")
    if context is None and worded:
        context = int(worded[1])
    raise ContextLengthError(
        said,
        tokens=tokens if isinstance(tokens, int) else None,
        context=context if isinstance(context, int) else None,
        remedy="",
    )


def _lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The lines of a stream of events.  They end with a newline and nothing else: JSON may hold
    U+2028 and its kin, at which text is split by other rules."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
    yield rest


def _logprobs(value: Any) -> tuple[TokenLogprob, ...]:
    """Log-probabilities as chat APIs tell them."""

    def name(row: Mapping[str, Any]) -> bytes:
        return bytes(row["bytes"]) if row.get("bytes") else str(row["token"]).encode()

    rows = (value or {}).get("content") or ()
    return tuple(
        TokenLogprob(
            token=name(row),
            logprob=float(row["logprob"]),
            top=tuple((name(one), float(one["logprob"])) for one in row.get("top_logprobs") or ()),
        )
        for row in rows
    )


def _form(structure: Structure | None) -> dict[str, tuple[Any, Any]]:
    """A structure as the fields of the API: (value, value that is left out)."""
    if structure is None:
        return {}
    value: Any = structure.value
    if structure.kind == "tools":
        choice = value.get("choice", "auto")
        if choice not in ("auto", "required"):
            choice = {"type": "function", "function": {"name": choice}}
        return {
            "tools": (list(value["tools"]), []),
            "tool_choice": (choice, "auto"),
            "parallel_tool_calls": (value.get("parallel", True), True),
        }
    if structure.kind == "json_schema":
        schema = json.loads(value or "{}") if isinstance(value, str) else value
        value = {"name": "answer", "strict": True, "schema": schema}
    return {"response_format": ({"type": structure.kind, structure.kind: value}, None)}


def _usage(value: Any) -> Usage:
    counts = value or {}
    return Usage(
        prompt_tokens=int(counts.get("prompt_tokens") or 0),
        completion_tokens=int(counts.get("completion_tokens") or 0),
    )


def _gather(calls: dict[int, dict[str, str]], part: Mapping[str, Any]) -> None:
    """Add a piece of a streamed call to those begun: id and name come first, arguments in bits."""
    call = calls.setdefault(part.get("index") or 0, {"id": "", "name": "", "arguments": ""})
    function = part.get("function") or {}
    call["id"] = part.get("id") or call["id"]
    call["name"] += function.get("name") or ""
    call["arguments"] += function.get("arguments") or ""


def _call(value: Mapping[str, Any]) -> ToolCall:
    function = value["function"]
    return ToolCall(
        id=str(value.get("id", "")), name=function["name"], arguments=function["arguments"]
    )
