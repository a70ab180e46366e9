"""A URL to a source: fetched once, within limits on bytes and seconds."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

import httpx

from fledge.index.load.blob import Refused, too_large
from fledge.index.load.config import Limits
from fledge.index.load.formats import format_named
from fledge.index.load.source import Source, shown
from fledge.index.loaded import Unreadable

CONNECT_SECONDS = 10.0
REDIRECTS = 10
_EXTENSIONS = {
    "text/html": ".html",
    "application/xhtml+xml": ".html",
    "text/markdown": ".md",
    "text/csv": ".csv",
    "text/tab-separated-values": ".tsv",
    "application/json": ".json",
    "application/x-ndjson": ".jsonl",
    "application/jsonl": ".jsonl",
    "application/pdf": ".pdf",
    "message/rfc822": ".eml",
    "application/mbox": ".mbox",
    "application/zip": ".zip",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": ".docx",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": ".pptx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": ".xlsx",
}
_VAGUE = ("", "text/plain", "application/octet-stream", "binary/octet-stream")


def fetch(url: str, limits: Limits) -> Source | Unreadable:
    """The source at a URL, or why it was not fetched."""
    path = shown(plain_url(url))
    try:
        with client(limits) as http:
            answer, content = get(http, url, limits)
    except Refused as refused:
        return Unreadable(path=path, reason=refused.reason, evidence=refused.evidence)
    kind, _, rest = answer.headers.get("content-type", "").partition(";")
    return Source(
        id=path.replace("!", "%21"),
        path=path,
        name=_name(url, kind.strip().lower()),
        kind="url",
        stamp=answer.headers.get("etag") or answer.headers.get("last-modified") or "",
        content=content,
        charset=_charset(rest),
        modified=_date(answer.headers.get("last-modified", "")),
    )


def plain_url(url: str) -> str:
    """A URL as it is shown and named: without user, password and fragment."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2].lower()
    return urlunsplit((parts.scheme.lower(), host, parts.path or "/", parts.query, ""))


@contextmanager
def client(limits: Limits, headers: Mapping[str, str] | None = None) -> Iterator[httpx.Client]:
    """A client with the limits' patience."""
    timeout = httpx.Timeout(limits.download_seconds, connect=CONNECT_SECONDS)
    with httpx.Client(
        timeout=timeout, headers=dict(headers or {}), follow_redirects=True, max_redirects=REDIRECTS
    ) as http:
        yield http


def get(
    http: httpx.Client, url: str, limits: Limits, params: Mapping[str, Any] | None = None
) -> tuple[httpx.Response, bytes]:
    """The answer to GET and its body; refuses an error, too many bytes, and a slow server."""
    deadline = time.monotonic() + limits.download_seconds
    parts, size = [], 0
    try:
        with http.stream("GET", url, params=params or None) as answer:
            if answer.status_code != 200:
                raise Refused("http", f"the server answered {answer.status_code}")
            for part in answer.iter_bytes():
                parts.append(part)
                size += len(part)
                if size > limits.file_bytes:
                    raise too_large("the answer has more bytes", "file_bytes", limits.file_bytes)
                if time.monotonic() > deadline:
                    seconds = f"limits.download_seconds = {limits.download_seconds:g}"
                    raise Refused("timeout", f"the answer takes longer than {seconds}")
    except httpx.TimeoutException as error:
        raise Refused("timeout", f"{type(error).__name__}: the server does not answer") from None
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
        raise Refused("http", f"{type(error).__name__}: {error}"[:200]) from None
    return answer, b"".join(parts)


def _name(url: str, kind: str) -> str:
    """A name whose extension says the format: the server's word, else the URL's."""
    name = PurePosixPath(unquote(urlsplit(url).path)).name or "page"
    extension = _EXTENSIONS.get(kind, "")
    if extension and format_named(name) != format_named(f"x{extension}"):
        return name + extension
    if kind in _VAGUE or extension:
        return name
    return name if format_named(name) else f"{name}.txt"


def _charset(rest: str) -> str:
    for part in rest.split(";"):
        key, _, value = part.partition("=")
        if key.strip().lower() == "charset":
            return value.strip().strip("\"'")
    return ""


def _date(header: str) -> str:
    try:
        return parsedate_to_datetime(header).date().isoformat() if header else ""
    except (ValueError, TypeError):
        return ""
