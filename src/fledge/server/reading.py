"""What is read from a connection: a bounded body, a valid key, and whether the client is gone."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from starlette.requests import Request

from fledge.core.types import content_hash
from fledge.server.errors import ApiError

T = TypeVar("T")

DISCARD_BODIES = 16
"""So many times the limit is read and thrown away, so that the client lives to see the 413."""


class ClientGone(Exception):
    """The client hung up before its answer was done."""


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body; raises ApiError 413 when it is longer than ``limit`` bytes."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= limit:
            chunks.append(chunk)
        elif size > limit * DISCARD_BODIES:
            break
    if size > limit:
        raise ApiError(413, f"the request is longer than {limit:,} bytes")
    return b"".join(chunks)


def check_key(request: Request, keys: Sequence[str]) -> None:
    """Raises ApiError 401 unless the client sent one of ``keys`` (or none is asked for)."""
    if not keys:
        return
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        given = ""
    sent = given.strip().encode("utf-8", "surrogateescape")
    # Every key is compared in constant time: timing must not tell how near a guess was.
    if not any([hmac.compare_digest(sent, key.encode()) for key in keys]):  # noqa: C419
        raise ApiError(
            401,
            "this server needs an API key: send it as 'Authorization: Bearer KEY'",
            code="invalid_api_key",
            headers={"WWW-Authenticate": "Bearer"},
        )


def client_of(request: Request, keys: Sequence[str]) -> str:
    """Tells clients apart, without giving a key away: by their keys, or else by address."""
    if keys:
        return content_hash(request.headers.get("Authorization", ""))
    return "" if request.client is None else request.client.host


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of ``work``; when the client hangs up first it is cancelled: ClientGone.

    The body must have been read.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientGone
    finally:
        task.cancel()
        gone.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
