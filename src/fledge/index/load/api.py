"""A JSON HTTP API to sources, by a small mapping in a ``.api.toml`` file:

url = "https://wiki.example/api/pages"
items = "data.pages"          # where the list stands in an answer
id = "key"
text = ["title", "body.text"]
next = "links.next"           # where an answer names the next one
token_env = "WIKI_TOKEN"
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from pydantic import Field, field_validator

from fledge.core.config import Config, parse_config
from fledge.core.errors import FledgeError, InputError
from fledge.data.config import Strings
from fledge.index.load.blob import Refused
from fledge.index.load.config import Limits
from fledge.index.load.rows import RowSources
from fledge.index.load.source import Source, quoted, shown
from fledge.index.load.web import client, get, plain_url
from fledge.index.loaded import Unreadable


class ApiMapping(Config):
    """How the answers of a JSON API become documents.  Keys may be dotted: ``body.text``."""

    url: str
    """The first page."""

    name: str = ""
    """Begins the ids of the documents; default: host and path of ``url``."""

    items: str = ""
    """Where the list of records stands in an answer; empty: the answer is the list."""

    id: Strings = Field(default=["id"])
    """Keys that name a record, always the same way."""

    text: Strings = Field(default=[])
    """Keys that hold the text; empty: all keys are written as lines ``key: value``."""

    title: Strings = Field(default=[])
    """Keys that hold the title."""

    date: Strings = Field(default=[])
    """Keys that hold an ISO 8601 date."""

    link: Strings = Field(default=[])
    """Keys that hold the URL at which people see the record."""

    params: dict[str, str | int] = Field(default={})
    """Parameters of every request."""

    headers: dict[str, str] = Field(default={})
    """Headers of every request."""

    token_env: str = ""
    """Environment variable whose value is sent as ``Authorization: Bearer …``."""

    next: str = ""
    """Where an answer holds the URL of the next page, or, with ``cursor``, a value."""

    cursor: str = ""
    """Parameter that carries the value found at ``next``."""

    page: str = ""
    """Parameter that counts pages, until one is empty."""

    first_page: int = Field(default=1, ge=0)
    """Number of the first page."""

    @field_validator("url")
    @classmethod
    def _is_http(cls, url: str) -> str:
        if not url.startswith(("http://", "https://")):
            raise ValueError("write a URL that begins with http:// or https://")
        return url


def read_mapping(path: Path) -> ApiMapping:
    """The mapping in a file.  Raises InputError."""
    try:
        values = tomllib.loads(path.expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}", remedy="check the path") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not TOML: {error}", remedy="mend the file") from None
    return parse_config(ApiMapping, values, str(path))


def fetch_items(mapping: ApiMapping, limits: Limits) -> Iterator[Source | Unreadable]:
    """A source for each record of all pages.

    Raises FledgeError when a page cannot be had: records that are only missing for now must not
    look like records that were deleted.
    """
    parts = urlsplit(mapping.url)
    name = mapping.name or f"{parts.netloc.rpartition('@')[2]}{parts.path}".strip("/")
    columns = {
        "id": mapping.id, "text": mapping.text, "title": mapping.title, "date": mapping.date,
        "url": mapping.link,
    }  # fmt: skip
    rows = RowSources(f"api:{quoted(name)}", shown(plain_url(mapping.url)), columns)
    number = 0
    for answer in _answers(mapping, limits):
        for row in _items(answer, mapping):
            number += 1
            yield rows.source(row, number)


def _answers(mapping: ApiMapping, limits: Limits) -> Iterator[Any]:
    """The answers, page by page."""
    headers = {"Accept": "application/json", **mapping.headers}
    if mapping.token_env:
        token = os.environ.get(mapping.token_env, "")
        if not token:
            raise InputError(
                f"{mapping.url}: the environment variable {mapping.token_env} is not set",
                remedy="set it to the API's token",
            )
        headers["Authorization"] = f"Bearer {token}"
    url, params = mapping.url, dict(mapping.params)
    if mapping.page:
        params[mapping.page] = mapping.first_page
    with client(limits, headers) as http:
        http.follow_redirects = False  # the token is for this server alone
        for _ in range(limits.requests):
            try:
                _, content = get(http, url, limits, params)
                answer = json.loads(content)
            except Refused as refused:
                raise FledgeError(
                    f"{plain_url(url)}: {refused.evidence}", remedy="check the API, then try again"
                ) from None
            except (ValueError, RecursionError) as error:
                raise FledgeError(
                    f"{plain_url(url)}: the answer is not JSON: {error}"[:300],
                    remedy="check the URL",
                ) from None
            yield answer
            following = _following(answer, mapping, url, params)
            if following is None:
                return
            url, params = following
    raise FledgeError(
        f"{mapping.url} has more than {limits.requests:,} pages", remedy="raise limits.requests"
    )


def _following(
    answer: Any, mapping: ApiMapping, url: str, params: dict[str, str | int]
) -> tuple[str, dict[str, str | int]] | None:
    """(URL, parameters) of the next page; None after the last."""
    if mapping.next:
        found = at(answer, mapping.next)
        if found in (None, "", False):
            return None
        if mapping.cursor:
            return url, params | {mapping.cursor: str(found)}
        next_url = urljoin(url, str(found))
        here, there = urlsplit(mapping.url), urlsplit(next_url)
        if (here.scheme, here.netloc) != (there.scheme, there.netloc):
            raise FledgeError(
                f"{mapping.url}: the next page lies on another server, {there.netloc}",
                remedy="give that server a mapping of its own",
            )
        return next_url, {}
    if mapping.page and _items(answer, mapping):
        return url, params | {mapping.page: int(params[mapping.page]) + 1}
    return None


def _items(answer: Any, mapping: ApiMapping) -> list[Mapping[str, Any]]:
    items = at(answer, mapping.items) if mapping.items else answer
    if not isinstance(items, list) or not all(isinstance(item, Mapping) for item in items):
        keys = map(repr, answer) if isinstance(answer, Mapping) else [type(answer).__name__]
        raise InputError(
            f"{mapping.url}: items = {mapping.items!r} is no list of records; "
            f"there is {', '.join(keys)}",
            remedy="name the key that holds the list",
        )
    return items


def at(value: Any, path: str) -> Any:
    """What stands at a dotted path, or None.

    >>> at({"a": {"b": 1}}, "a.b")
    1
    """
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
