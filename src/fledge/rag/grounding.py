"""An index folder in, what answers from it out: its store, its embedder, its calibration."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fledge.core.protocols import ChatModel, Sampling
from fledge.index.embed.protocol import IndexEmbedder
from fledge.index.store.protocol import Store
from fledge.rag.answer import AnswerConfig, Answerer
from fledge.rag.calibration import Calibration, read_calibration
from fledge.rag.prompt import Counter, estimate_tokens
from fledge.rag.retrieval_config import RetrievalConfig
from fledge.rag.retrieve import Retriever
from fledge.rag.tools import Reranker


@dataclass(frozen=True, kw_only=True)
class Grounding:
    """An open index, and what may be used with it."""

    folder: Path
    store: Store
    embedder: IndexEmbedder
    calibration: Calibration
    model: ChatModel | None = None
    reranker: Reranker | None = None
    count: Counter = estimate_tokens
    """Tokens of a text as the model counts them."""

    def retriever(self, config: RetrievalConfig | None = None) -> Retriever:
        """One with the weights that were fitted on this index; those of ``config`` come first."""
        config = config or RetrievalConfig()
        weights = {**self.calibration.weights, **config.fusion.weights}
        fusion = config.fusion.model_copy(update={"weights": weights})
        return Retriever(
            config.model_copy(update={"fusion": fusion}),
            embedder=self.embedder,
            model=self.model,
            reranker=self.reranker,
        )

    def answerer(
        self,
        retrieval: RetrievalConfig | None = None,
        config: AnswerConfig | None = None,
        *,
        sampling: Sampling | None = None,
    ) -> Answerer:
        """One with the support models that were fitted on this index."""
        return Answerer(
            self.retriever(retrieval),
            config,
            model=self.model,
            count=self.count,
            support=self.calibration.support,
            sampling=sampling,
        )


@contextmanager
def opened(
    folder: Path,
    *,
    model: ChatModel | None = None,
    reranker: Reranker | None = None,
    count: Counter = estimate_tokens,
) -> Iterator[Grounding]:
    """The index in ``folder`` with the embedder it was made with; closed afterwards.

    Raises InputError when there is no index, or its embedder is not what made its vectors.
    """
    from fledge.index.embed import open_embedder
    from fledge.index.store.opening import open_store

    store = open_store(folder)
    try:
        embedder = open_embedder(store.settings()["embedder"]["spec"])
        try:
            yield Grounding(
                folder=folder,
                store=store,
                embedder=embedder,
                calibration=read_calibration(folder),
                model=model,
                reranker=reranker,
                count=count,
            )
        finally:
            embedder.close()
    finally:
        store.close()
