"""A URL ending in /v1 in, an embedder out: the embeddings of any OpenAI-compatible server."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx
import numpy as np

from fledge.core.errors import FledgeError, InputError
from fledge.core.files import value_digest
from fledge.index.embed.protocol import Vectors

BATCH = 64
"""Texts of a request, at most."""
BATCH_CHARACTERS = 100_000
"""Characters of a request, at most, if it has several texts."""
TRIES = 5
CONNECT_SECONDS, READ_SECONDS = 10.0, 120.0
LONGEST_WAIT = 60.0
"""Seconds between two tries, whatever the server asks for."""
PROBE = "bridge"
"""Embedded once, to learn how many dimensions the vectors have."""


class RemoteEmbedder:
    """Asks ``url``, which ends in ``/v1``; ``#name`` after it names the model.

    Without a name the first model that the server lists is taken.  What the server is told is the
    texts; the key is sent as a bearer token and appears in no message.  Raises InputError for a
    URL with a key in it.  ``transport`` replaces the network, ``sleep`` the clock, in tests.
    """

    languages: tuple[str, ...] = ()

    def __init__(
        self,
        url: str,
        api_key: str = "",
        *,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        parts = urlsplit(url)
        if parts.username or parts.password or parts.query:
            raise InputError(
                f"the URL of {parts.hostname} holds a key, a name or a query, which an index "
                "would keep",
                remedy="give http(s)://host/v1#model, and the key with --api-key-file",
            )
        self.url = urlunsplit(parts._replace(fragment="")).rstrip("/")
        self._sleep = sleep
        self._client = httpx.Client(
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS),
            transport=transport,
        )
        try:
            self.name = parts.fragment or self._first_model()
            self.dimensions = 0  # until the probe says
            self.dimensions = self._request([PROBE]).shape[1]
        except BaseException:
            self.close()
            raise
        self.revision = value_digest([self.url, self.name, self.dimensions])[:16]

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Vectors of passages: (N, D) float32."""
        out = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        start = 0
        while start < len(texts):
            end = start + 1
            size = len(texts[start])
            while end < len(texts) and end - start < BATCH:
                size += len(texts[end])
                if size > BATCH_CHARACTERS:
                    break
                end += 1
            out[start:end] = self._divided(list(texts[start:end]))
            start = end
        return out

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Vectors of queries: (N, D) float32; the API makes no difference."""
        return self.embed(texts)

    def serves(self, language: str) -> float:
        """1: nothing is known of the model.  ``measure_languages`` tells more."""
        return 1.0

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _divided(self, texts: list[str]) -> Vectors:
        """Vectors of a request, in halves if it is too large for the server."""
        try:
            return self._request(texts)
        except _TooLarge:
            if len(texts) == 1:
                raise
        half = len(texts) // 2
        return np.concatenate([self._divided(texts[:half]), self._divided(texts[half:])])

    def _request(self, texts: list[str]) -> Vectors:
        # An empty text is refused by some servers; a blank has the same meaning.
        body = {"model": self.name, "input": [text or " " for text in texts]}
        answer = self._json("POST", "/embeddings", {**body, "encoding_format": "float"})
        try:
            rows = sorted(answer["data"], key=lambda row: row["index"])
            vectors = np.array([row["embedding"] for row in rows], dtype=np.float32)
        except (KeyError, TypeError, ValueError):
            raise self._strange("no list of vectors of one length") from None
        wanted = (len(texts), self.dimensions or vectors.shape[-1])
        if vectors.shape != wanted or not np.isfinite(vectors).all():
            raise self._strange(f"vectors of shape {vectors.shape} in place of {wanted}")
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        normal: Vectors = vectors / np.maximum(lengths, 1e-12)
        return normal

    def _first_model(self) -> str:
        try:
            return str(self._json("GET", "/models", None)["data"][0]["id"])
        except (KeyError, IndexError, TypeError):
            raise FledgeError(
                f"{self.url} lists no model", remedy="name it: http://host/v1#model"
            ) from None

    def _json(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        """The answer to a request; what may pass is tried again, with longer and longer waits."""
        for tried in range(1, TRIES + 1):
            wait = 2.0 ** (tried - 1)
            try:
                response = self._client.request(method, self.url + path, json=body)
            except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
                raise FledgeError(f"{self.url} is not a URL: {error}") from None
            except httpx.HTTPError as error:
                problem = f"cannot reach {self.url}: {type(error).__name__} {error}"
                remedy = "is the server running?"
            else:
                if response.is_success:
                    return self._parsed(response)
                problem, remedy = self._refused(response)
                wait = max(wait, _asked_to_wait(response))
            if tried < TRIES:
                self._sleep(min(wait, LONGEST_WAIT))
        raise FledgeError(f"{problem} ({TRIES} tries)", remedy=remedy)

    def _refused(self, response: httpx.Response) -> tuple[str, str]:
        """What went wrong and the remedy, if trying again may help; raises otherwise."""
        code, said = response.status_code, _message(response)
        problem = f"{self.url} answered {code}: {said}"
        if code in (408, 409, 425, 429) or code >= 500:
            return problem, "try later"
        if code in (401, 403):
            raise FledgeError(problem, remedy="give the right key: --api-key-file")
        if code in (400, 413, 422):
            raise _TooLarge(problem, remedy="make chunks smaller: --set split.size=…")
        raise FledgeError(problem, remedy="check the URL (…/v1) and the model's name")

    def _parsed(self, response: httpx.Response) -> Any:
        try:
            return response.json()
        except ValueError:
            raise self._strange("something that is not JSON") from None

    def _strange(self, what: str) -> FledgeError:
        return FledgeError(f"{self.url} answered {what}", remedy="check the URL (…/v1)")


class _TooLarge(FledgeError):
    """The server does not take a request of this size, or does not like a text in it."""


def _asked_to_wait(response: httpx.Response) -> float:
    """Seconds of a Retry-After header; 0 without one, and for a date."""
    text = response.headers.get("retry-after", "")
    return float(text) if text.replace(".", "", 1).isdecimal() else 0.0


def _message(response: httpx.Response) -> str:
    try:
        error = response.json()["error"]
        return str(error["message"] if isinstance(error, dict) else error)[:300]
    except (ValueError, KeyError, TypeError):
        return response.text[:100].strip() or response.reason_phrase
