"""Request bodies: JSON in, a checked request out; nothing is ignored silently.

Null means "not given".  Fields of the OpenAI API that this server does not implement are allowed
with the one value that changes nothing, and refused by name with any other.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fledge.core.config import nearest
from fledge.core.protocols import Sampling
from fledge.core.types import Message
from fledge.server.errors import ApiError

StopText = Annotated[str, Field(min_length=1, max_length=1000)]
Zero = Annotated[float, Field(ge=0, le=0)]
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
    # Accepted because they change nothing here, or only with the value that changes nothing.
    user: str = ""
    n: Literal[1] = 1
    presence_penalty: Zero = 0.0
    frequency_penalty: Zero = 0.0
    logit_bias: Annotated[dict[str, Any], Field(max_length=0)] = {}

    @abstractmethod
    def limit(self) -> int:
        """The most tokens to write; the context may hold fewer."""

    def sampling(self) -> Sampling:
        """How to draw the answer."""
        return Sampling(
            max_new_tokens=self.limit(),
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            seed=self.seed,
            stop=(self.stop,) if isinstance(self.stop, str) else tuple(self.stop),
        )


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
    metadata: dict[str, Any] = {}
    store: Literal[False] = False
    logprobs: Literal[False] = False
    top_logprobs: Literal[0] = 0
    response_format: dict[Literal["type"], Literal["text"]] = {}
    modalities: list[Literal["text"]] = []
    tools: Empty = []
    functions: Empty = []
    tool_choice: Literal["none", "auto"] = "none"
    parallel_tool_calls: bool = True
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

    def conversation(self) -> list[Message]:
        """The messages; raises ApiError naming the one that is wrong."""
        return [_message(place, value) for place, value in enumerate(self.messages)]


class CompletionRequest(GenerationRequest):
    """``POST /v1/completions``: plain text continued, without a chat template."""

    prompt: str
    """The text to continue."""
    max_tokens: int = Field(default=16, ge=1, le=MOST)
    """The most tokens to write."""
    echo: Literal[False] = False
    best_of: Literal[1] = 1
    logprobs: Literal[0] = 0
    suffix: Literal[""] = ""

    def limit(self) -> int:
        return self.max_tokens


RequestT = TypeVar("RequestT", bound=GenerationRequest)

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
    if "stream_options" in given and not request.stream:
        raise ApiError(400, "stream_options is only for stream = true", param="stream_options")
    return request


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _explain(kind: type[GenerationRequest], error: ValidationError) -> ApiError:
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
