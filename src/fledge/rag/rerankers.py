"""Models that look at a question and a text together: a cross-encoder's folder, a URL."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from fledge.core.errors import FledgeError, InputError
from fledge.rag.tools import Reranker

if TYPE_CHECKING:
    from fledge.model.text_encoder import PairScorer

SECONDS = 60.0
"""Longest silence of a reranking server."""


def open_reranker(spec: str, *, api_key: str = "", model: str = "") -> Reranker:
    """The reranker that ``spec`` names: ``http(s)://…/v1`` (with or without ``/rerank``), or the
    folder of an encoder with a classifier of one class.  Raises InputError for anything else."""
    if spec.startswith(("http://", "https://")):
        return UrlReranker(spec, api_key=api_key, model=model)
    if not Path(spec).is_dir():
        raise InputError(f"{spec}: no such folder", remedy="give a cross-encoder's folder or a URL")
    from fledge.model.text_encoder import PairScorer

    return EncoderReranker(PairScorer.load(spec), Path(spec).name)


class EncoderReranker:
    """A cross-encoder: the sigmoid of its one logit, or the probability of its last class."""

    def __init__(self, scorer: PairScorer, name: str) -> None:
        self.name, self._scorer = name, scorer

    def scores(self, question: str, texts: Sequence[str]) -> list[float]:
        """One number in (0, 1) a text."""
        rows = self._scorer.logits([(question, text) for text in texts]).tolist()
        return [_sigmoid(row[0]) if len(row) == 1 else _last(row) for row in rows]


class UrlReranker:
    """``POST …/rerank`` as Cohere, Jina, vLLM and others answer it.

    ``transport`` replaces the network in tests.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str = "",
        model: str = "",
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.url = url.rstrip("/").removesuffix("/rerank") + "/rerank"
        self.name = model or self.url
        self._model = model
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._client = httpx.Client(headers=headers, timeout=SECONDS, transport=transport)

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()

    def scores(self, question: str, texts: Sequence[str]) -> list[float]:
        """The server's ``relevance_score`` of each text; raises FledgeError when one is missing."""
        body = {"query": question, "documents": list(texts), "top_n": len(texts)}
        try:
            answer = self._client.post(
                self.url, json=body | ({"model": self._model} if self._model else {})
            )
            answer.raise_for_status()
            rows = answer.json()["results"]
            found = {int(row["index"]): float(row["relevance_score"]) for row in rows}
            scores = [found[place] for place in range(len(texts))]
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise FledgeError(f"{self.url} failed: {error}", remedy="is the server up?") from None
        except (KeyError, TypeError, ValueError) as error:
            raise FledgeError(
                f"{self.url} answered in another shape than /v1/rerank ({error!r})",
                remedy="check the URL",
            ) from None
        return scores if all(0 <= score <= 1 for score in scores) else list(map(_sigmoid, scores))


def _sigmoid(value: float) -> float:
    return 1.0 / (1.0 + math.exp(-max(-60.0, min(60.0, value))))


def _last(row: Sequence[float]) -> float:
    top = max(row)
    weights: list[Any] = [math.exp(value - top) for value in row]
    return float(weights[-1] / sum(weights))
