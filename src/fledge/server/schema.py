"""Request bodies: JSON in, a checked request out; nothing is ignored silently.

Null means "not given".  Fields of the OpenAI API that this server does not implement are allowed
with the one value that changes nothing, and refused by name with any other.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal, NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fledge.core.config import nearest
from fledge.core.protocols import Sampling, Structure
from fledge.core.types import Message
from fledge.server.errors import ApiError

StopText = Annotated[str, Field(min_length=1, max_length=1000)]
Penalty = Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)]
MOST_ANSWERS = 16
"""Answers to one request at most: one request must not take the whole engine."""
MOST = 2**53
"""The largest whole number taken: what every JSON reader holds exactly."""

Empty = Annotated[list[Any], Field(max_length=0)]


class StreamOptions(BaseModel):
    """How a stream is written."""

    model_config = ConfigDict(strict=True, extra="forbid", use_attribute_docstrings=True)

    include_usage: bool = False
    """Send the token counts in a last event."""
    include_obfuscation: bool = False
    """Accepted; there is none."""


class GenerationRequest(BaseModel):
    """What both endpoints share; a value not given takes the default written here."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, use_attribute_docstrings=True
    )

    model: str
    """The name that ``/v1/models`` lists."""
    stream: bool = False
    """Send the answer in server-sent events as it is written."""
    stream_options: StreamOptions = StreamOptions()
    """Only with ``stream``."""
    temperature: float = Field(default=0.0, ge=0, le=2, allow_inf_nan=False)
    """0 always takes the likeliest token."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Draw from the smallest set of tokens with this probability; 1 is off."""
    top_k: int = Field(default=0, ge=0, le=MOST)
    """Draw from the k likeliest tokens; 0 is off."""
    min_p: float = Field(default=0.0, ge=0, le=1)
    """Draw from tokens at least this many times as likely as the likeliest; 0 is off."""
    repetition_penalty: float = Field(default=1.0, gt=0, le=10, allow_inf_nan=False)
    """Above 1, tokens that were there before become less likely."""
    seed: int | None = Field(default=None, ge=-MOST, le=MOST)
    """The same seed gives the same answer."""
    stop: StopText | Annotated[list[StopText], Field(max_length=16)] = ()  # type: ignore[assignment]
    """Texts that end the answer; they are not part of it."""
    n: int = Field(default=1, ge=1, le=MOST_ANSWERS)
    """Answers to give; with a seed each has the next one."""
    presence_penalty: Penalty = 0.0
    """Subtracted from the logits of tokens that the answer has already."""
    frequency_penalty: Penalty = 0.0
    """The same, once for each time the answer has the token."""
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] = {}
    """Token id -> what is added to its logit."""
    typical_p: float = Field(default=1.0, gt=0, le=1)
    """Draw from the tokens nearest the expected surprise, of this mass; 1 is off."""
    top_n_sigma: float = Field(default=0.0, ge=0, le=100)
    """Draw from logits within this many deviations of the largest; 0 is off."""
    min_tokens: int = Field(default=0, ge=0, le=MOST)
    """The answer does not end before it has this many tokens."""
    prompt_lookup: int = Field(default=0, ge=0, le=64)
    """Guess up to this many tokens at a time from what was said before; changes no answer, and
    is faster where the answer quotes.  Not in the OpenAI API."""
    # Accepted because it changes nothing here.
    user: str = ""

    @abstractmethod
    def limit(self) -> int:
        """The most tokens to write; the context may hold fewer."""

    @abstractmethod
    def shown_logprobs(self) -> int | None:
        """Likeliest tokens to show with each token; None: no log-probabilities."""

    def structure(self) -> Structure | None:
        """What the answer must look like."""
        return None

    def sampling(self) -> Sampling:
        """How to draw the answer; raises ApiError for values that contradict each other."""
        limit, shown = self.limit(), self.shown_logprobs()
        if self.min_tokens > limit:
            raise ApiError(
                400,
                f"min_tokens = {self.min_tokens} is more than the {limit} tokens to write",
                param="min_tokens",
                code="invalid_value",
            )
        return Sampling(
            max_new_tokens=limit,
            min_tokens=self.min_tokens,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            typical_p=self.typical_p,
            top_n_sigma=self.top_n_sigma,
            repetition_penalty=self.repetition_penalty,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            logit_bias=_biases(self.logit_bias),
            seed=self.seed,
            stop=(self.stop,) if isinstance(self.stop, str) else tuple(self.stop),
            logprobs=shown is not None,
            top_logprobs=shown or 0,
            n=self.n,
            best_of=self.best(),
            lookup=self.prompt_lookup,
            structure=self.structure(),
        )

    def best(self) -> int | None:
        """Answers to draw, of which the ``n`` likeliest are given."""
        return None


class ChatRequest(GenerationRequest):
    """``POST /v1/chat/completions``"""

    messages: Annotated[list[Any], Field(min_length=1)]
    """The conversation, oldest message first."""
    max_tokens: int | None = Field(default=None, ge=1, le=MOST)
    """The older name of ``max_completion_tokens``."""
    max_completion_tokens: int | None = Field(default=None, ge=1, le=MOST)
    """The most tokens to write: 1024 when neither is given, and what the context holds."""
    answer_room: int = Field(default=0, ge=0, le=MOST)
    """Refuse (400, ``context_length_exceeded``) a conversation that leaves fewer tokens of the
    context for the answer than this, or than the most tokens to write; not in the OpenAI API."""
    grounding: bool | None = None
    """Answer from the server's documents, with citations: true, false, or null for yes when it has
    any and the request has no tools, response_format, logprobs or n above 1; not in the OpenAI
    API."""
    metadata: dict[str, Any] = {}
    store: Literal[False] = False
    logprobs: bool = False
    """Tell the log-probability of each token."""
    top_logprobs: int = Field(default=0, ge=0, le=20)
    """And those of this many likeliest tokens; needs ``logprobs``."""
    response_format: dict[str, Any] = {}
    """``{"type": "json_schema", "json_schema": {"schema": ...}}``, ``{"type": "json_object"}`` or
    ``{"type": "text"}``; not in the OpenAI API: ``{"type": "regex", "regex": ...}`` and
    ``{"type": "choice", "choice": [...]}``.  The answer follows it to the character."""
    modalities: list[Literal["text"]] = []
    tools: list[dict[str, Any]] = []
    """Functions the answer may call; it can only write calls that fit their schemas."""
    tool_choice: Literal["none", "auto", "required"] | dict[str, Any] = "auto"
    """Whether it may, must, or which one it must."""
    parallel_tool_calls: bool = True
    """Whether one answer may hold several calls."""
    functions: Empty = []
    service_tier: Literal["auto", "default"] = "auto"
    safety_identifier: str = ""
    prompt_cache_key: str = ""

    def limit(self) -> int:
        if None not in (self.max_tokens, self.max_completion_tokens) and (
            self.max_tokens != self.max_completion_tokens
        ):
            raise ApiError(
                400,
                f"max_tokens = {self.max_tokens} and max_completion_tokens ="
                f" {self.max_completion_tokens} contradict each other; send one",
                param="max_tokens",
            )
        return self.max_completion_tokens or self.max_tokens or 1024

    def shown_logprobs(self) -> int | None:
        if self.top_logprobs and not self.logprobs:
            raise ApiError(
                400,
                "top_logprobs needs logprobs = true",
                param="top_logprobs",
                code="invalid_value",
            )
        return self.top_logprobs if self.logprobs else None

    def structure(self) -> Structure | None:
        form = _structure(self.response_format)
        if not self.tools or self.tool_choice == "none":
            return form
        if form is not None:
            raise ApiError(
                400,
                "an answer either follows response_format or calls tools",
                param="response_format",
                code="invalid_value",
            )
        choice = _choice(self.tool_choice)
        value = {"tools": self.tools, "choice": choice, "parallel": self.parallel_tool_calls}
        return Structure(kind="tools", value=value)

    def conversation(self) -> list[Message]:
        """The messages; raises ApiError naming the one that is wrong."""
        return [_message(place, value) for place, value in enumerate(self.messages)]


class CompletionRequest(GenerationRequest):
    """``POST /v1/completions``: plain text continued, without a chat template."""

    prompt: str
    """The text to continue."""
    max_tokens: int = Field(default=16, ge=0, le=MOST)
    """The most tokens to write; 0 with ``echo``, to score the text."""
    best_of: int | None = Field(default=None, ge=1, le=MOST_ANSWERS)
    """Answers to draw, of which the ``n`` likeliest a token are given; not with ``stream``."""
    logprobs: int | None = Field(default=None, ge=0, le=20)
    """Tell log-probabilities, and those of this many likeliest tokens."""
    echo: bool = False
    """Begin the answer with the text itself; with ``logprobs`` its tokens are told of, too."""
    suffix: Literal[""] = ""

    def limit(self) -> int:
        if not self.max_tokens and not self.echo:
            raise ApiError(
                400,
                "max_tokens = 0 needs echo",
                param="max_tokens",
                code="invalid_value",
            )
        return self.max_tokens

    def sampling(self) -> Sampling:
        return replace(super().sampling(), echo=self.echo)

    def shown_logprobs(self) -> int | None:
        return self.logprobs

    def best(self) -> int | None:
        if self.best_of is not None and (self.best_of < self.n or self.stream):
            why = "is less than n" if self.best_of < self.n else "cannot be streamed"
            raise ApiError(
                400, f"best_of = {self.best_of} {why}", param="best_of", code="invalid_value"
            )
        return self.best_of


RequestT = TypeVar("RequestT", bound=BaseModel)


def _biases(given: Mapping[str, float]) -> dict[int, float]:
    """Token id -> bias; raises ApiError for what is no id."""
    for key in given:
        if not (key.isascii() and key.isdecimal() and len(key) < 16):
            raise ApiError(
                400,
                f"logit_bias has {key[:80]!r} where a token id is expected",
                param="logit_bias",
                code="invalid_value",
            )
    return {int(key): value for key, value in given.items()}


_FORMATS: tuple[Any, ...] = ("text", "json_object", "json_schema", "regex", "choice")


def _structure(given: Mapping[str, Any]) -> Structure | None:
    """What ``response_format`` asks for; raises ApiError for what it cannot mean."""
    kind: Any = given.get("type", "text") if given else "text"
    if kind not in _FORMATS:
        raise ApiError(
            400,
            f"response_format.type = {kind!r} is not known; one of {', '.join(_FORMATS)}",
            param="response_format",
            code="invalid_value",
        )
    wanted = set() if kind in ("text", "json_object") else {kind}
    if given.keys() - {"type"} != wanted:
        shown = ", ".join(["type", *wanted])
        raise ApiError(
            400,
            f"response_format of type {kind} has the fields {shown} and no others",
            param="response_format",
            code="invalid_value",
        )
    if kind == "text":
        return None
    if kind == "json_object":
        return Structure(kind="json_schema", value={"type": "object"})
    return Structure(kind=kind, value=_schema(given[kind]) if "schema" in kind else given[kind])


def _choice(given: str | Mapping[str, Any]) -> str:
    """ "auto", "required" or the name of the tool to call."""
    if isinstance(given, str):
        return given
    function = given.get("function")
    name = function.get("name") if isinstance(function, Mapping) else None
    if given.get("type") != "function" or not isinstance(name, str):
        raise ApiError(
            400,
            'tool_choice is "none", "auto", "required" or {"type": "function", "function":'
            ' {"name": ...}}',
            param="tool_choice",
            code="invalid_value",
        )
    return name


def _schema(given: Any) -> Any:
    """The schema in OpenAI's wrapping: {"name": ..., "strict": ..., "schema": {...}}."""
    if not isinstance(given, Mapping) or not isinstance(given.get("schema"), Mapping):
        raise ApiError(
            400,
            'response_format.json_schema needs {"schema": {...}}',
            param="response_format",
            code="invalid_value",
        )
    return given["schema"]


_MESSAGE_KEYS = {"role", "content", "tool_calls", "tool_call_id"}


def parse_request(kind: type[RequestT], body: bytes) -> RequestT:
    """The request in ``body``; raises ApiError 400 naming the field at fault."""
    try:
        value = json.loads(body, parse_constant=_no_constant)
        body_text = json.dumps(value, ensure_ascii=False)
        body_text.encode("utf-8")
    except UnicodeEncodeError:
        raise ApiError(400, "the request has half a character (a lone surrogate)") from None
    except (ValueError, RecursionError) as error:
        said = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ApiError(400, f"the request is not valid JSON: {said}", code="bad_json") from None
    if not isinstance(value, dict):
        raise ApiError(400, "the request must be a JSON object", code="bad_json")
    given = {key: item for key, item in value.items() if item is not None}
    try:
        request = kind.model_validate(given)
    except ValidationError as error:
        raise _explain(kind, error) from None
    if "stream_options" in given and not getattr(request, "stream", True):
        raise ApiError(400, "stream_options is only for stream = true", param="stream_options")
    return request


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _explain(kind: type[BaseModel], error: ValidationError) -> ApiError:
    """The first thing that is wrong, in words, with the field as ``param``."""
    first = error.errors(include_url=False)[0]
    path = [str(part) for part in first["loc"]]
    field = path[0]
    param = ".".join(path[:2]) if field == "stream_options" else field
    if first["type"] == "extra_forbidden":
        known = list(StreamOptions.model_fields if len(path) > 1 else kind.model_fields)
        return ApiError(
            400,
            f"the field {param} is not supported; {nearest(path[-1], known)}",
            param=param,
            code="unknown_parameter",
        )
    if first["type"] == "missing":
        return ApiError(400, f"the field {param} is required", param=param, code="missing")
    shown = repr(first["input"])[:80]
    return ApiError(
        400,
        f"{param} = {shown} is not supported here: {first['msg']}",
        param=param,
        code="invalid_value",
    )


def _message(place: int, value: Any) -> Message:
    """One message; an unknown key is refused unless it is empty or a tool's ``name``."""
    param = f"messages[{place}]"
    if isinstance(value, Mapping):
        for key, item in value.items():
            named_tool = key == "name" and value.get("role") == "tool"
            if key not in _MESSAGE_KEYS and item not in (None, "", [], {}) and not named_tool:
                raise ApiError(
                    400,
                    f"{param}: the field {key} is not supported",
                    param=f"{param}.{key}",
                    code="unknown_parameter",
                )
    try:
        return Message.from_openai(value)
    except (ValueError, TypeError) as error:
        raise ApiError(400, f"{param}: {error}", param=param, code="invalid_value") from None
