"""Pages in, WARC/1.1 files out: one gzip member per record, the same bytes for the same pages."""

from __future__ import annotations

import base64
import gzip
import hashlib
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from fledge.core.files import replacing

FIRST_VISIT = datetime(2024, 3, 1, 6, 0, 0, tzinfo=UTC)
SOFTWARE = "fledge sample web/1.0"


@dataclass(frozen=True)
class Response:
    """An HTTP response as it was fetched."""

    url: str
    body: bytes
    content_type: str = "text/html"
    status: str = "200 OK"
    headers: tuple[tuple[str, str], ...] = ()


def write_warc(path: Path, responses: Iterable[Response]) -> int:
    """Write a WARC file; returns the number of response records.  Dates and ids are fixed."""
    count = 0
    with replacing(path) as temporary, temporary.open("wb") as handle:
        handle.write(gzip.compress(_warcinfo(path.name), 6, mtime=0))
        for response in responses:
            when = _date(FIRST_VISIT + timedelta(seconds=7 * count))
            handle.write(gzip.compress(_request(response, when), 6, mtime=0))
            handle.write(gzip.compress(_response(response, when), 6, mtime=0))
            count += 1
    return count


def _response(response: Response, when: str) -> bytes:
    http = [("Content-Type", response.content_type), *response.headers]
    http.append(("Content-Length", str(len(response.body))))
    head = f"HTTP/1.1 {response.status}\r\n" + "".join(f"{k}: {v}\r\n" for k, v in http)
    block = head.encode("ascii") + b"\r\n" + response.body
    headers = [
        ("WARC-Type", "response"),
        ("WARC-Target-URI", response.url),
        ("WARC-Date", when),
        ("WARC-Record-ID", _record_id("response", response.url)),
        ("WARC-IP-Address", "192.0.2.1"),
        ("WARC-Payload-Digest", _sha1(response.body)),
        ("Content-Type", "application/http; msgtype=response"),
    ]
    return _record(headers, block)


def _request(response: Response, when: str) -> bytes:
    host, _, path = response.url.partition("://")[2].partition("/")
    block = f"GET /{path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {SOFTWARE}\r\n\r\n"
    headers = [
        ("WARC-Type", "request"),
        ("WARC-Target-URI", response.url),
        ("WARC-Date", when),
        ("WARC-Record-ID", _record_id("request", response.url)),
        ("WARC-Concurrent-To", _record_id("response", response.url)),
        ("Content-Type", "application/http; msgtype=request"),
    ]
    return _record(headers, block.encode("ascii"))


def _warcinfo(name: str) -> bytes:
    block = f"software: {SOFTWARE}\r\nformat: WARC File Format 1.1\r\nisPartOf: bridges\r\n"
    headers = [
        ("WARC-Type", "warcinfo"),
        ("WARC-Date", _date(FIRST_VISIT)),
        ("WARC-Record-ID", _record_id("warcinfo", name)),
        ("WARC-Filename", name),
        ("Content-Type", "application/warc-fields"),
    ]
    return _record(headers, block.encode("ascii"))


def _record(headers: list[tuple[str, str]], block: bytes) -> bytes:
    headers = [
        *headers,
        ("WARC-Block-Digest", _sha1(block)),
        ("Content-Length", str(len(block))),
    ]
    head = "WARC/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers)
    return head.encode("ascii") + b"\r\n" + block + b"\r\n\r\n"


def _record_id(kind: str, name: str) -> str:
    return f"<urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'{kind} {name}')}>"


def _sha1(data: bytes) -> str:
    return "sha1:" + base64.b32encode(hashlib.sha1(data).digest()).decode("ascii")


def _date(when: datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")
