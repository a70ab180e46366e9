"""HTTP errors in the OpenAI shape: ``{"error": {"message", "type", "param", "code"}}``."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from fledge.core.errors import FledgeError, InputError
from fledge.engine.errors import ContextLengthError

_TYPES = {429: "rate_limit_error", 500: "server_error", 502: "server_error", 503: "server_error"}
_CODES = {
    404: "not_found",
    405: "method_not_allowed",
    413: "request_too_large",
    500: "internal_error",
}


class ApiError(Exception):
    """What a client is told: an HTTP status, a message with its remedy, the field at fault.

    ``counts`` are further numbers that belong to the error.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
        counts: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code or _CODES.get(status)
        self.headers = headers
        self.counts = counts or {}

    def body(self) -> dict[str, object]:
        """The JSON a client reads."""
        kind = _TYPES.get(self.status, "invalid_request_error")
        return {
            "error": {
                "message": self.message,
                "type": kind,
                "param": self.param,
                "code": self.code,
                **self.counts,
            }
        }

    def response(self) -> JSONResponse:
        return JSONResponse(self.body(), self.status, headers=self.headers)


def too_long(error: ContextLengthError, param: str) -> ApiError:
    """A prompt, given as ``param``, that the context does not hold; with the counts if known."""
    counts = {"prompt_tokens": error.tokens, "context_tokens": error.context}
    return ApiError(
        400,
        str(error),
        param=param,
        code="context_length_exceeded",
        counts={name: count for name, count in counts.items() if count is not None},
    )


def as_api_error(error: Exception) -> ApiError:
    """Any error as what a client may know of it; what it may not know goes to the log."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, InputError):
        return ApiError(400, str(error))
    if isinstance(error, FledgeError):
        return ApiError(500, str(error))
    logging.getLogger("fledge.server").error("a request failed", exc_info=error)
    return ApiError(500, "internal error; the server's log has the details")


async def answer_error(request: Request, error: Exception) -> Response:
    """The exception handler of the application."""
    if isinstance(error, HTTPException):
        said = {
            404: f"there is nothing at {request.url.path}; the API is below /v1",
            405: f"{request.method} is not allowed at {request.url.path}",
        }
        message = said.get(error.status_code, error.detail)
        return ApiError(error.status_code, message, headers=error.headers).response()
    return as_api_error(error).response()
