"""One side of benchmarks/index.py, in its own interpreter: prints what it measured as JSON.

index_contender.py SIDE PHASE FILES OUT [ENCODER]

ENCODER is a folder of MiniLM: vectors are computed with it and its time counts; else they are drawn
and their time does not.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

DIMENSIONS, QUERIES, K, SIZE, OVERLAP = 384, 200, 10, 256, 32


class Drawn:
    """Vectors drawn from the texts' CRC-32, and the seconds that took."""

    name, revision, dimensions, languages = "drawn", "1", DIMENSIONS, ()

    def __init__(self) -> None:
        self.seconds = self.processor = 0.0

    def embed(self, texts: Sequence[str]) -> Any:
        start, used = time.perf_counter(), time.process_time()
        vectors = np.array(
            [
                np.random.default_rng(zlib.crc32(text.encode())).standard_normal(DIMENSIONS)
                for text in texts
            ],
            dtype=np.float32,
        )
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        self.seconds += time.perf_counter() - start
        self.processor += time.process_time() - used
        return vectors

    embed_queries = embed


def memory() -> float:
    """The largest resident set so far, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def timed(ask: Callable[[int], list[str]]) -> dict[str, float]:
    """p50 and p95 of many queries, in milliseconds."""
    took = []
    for at in range(QUERIES):
        start = time.perf_counter()
        assert len(ask(at)) == K
        took.append(time.perf_counter() - start)
    took.sort()
    return {
        "query_p50_ms": 1e3 * took[QUERIES // 2],
        "query_p95_ms": 1e3 * took[int(QUERIES * 0.95)],
    }


def processor() -> float:
    """Seconds of the processor so far, of this process and of those that it waited for."""
    found = os.times()
    return found.user + found.system + found.children_user + found.children_system


def spent(start: float, used: float, embedder: Drawn) -> dict[str, float]:
    """Seconds, and seconds of the processor, without those of the embedder."""
    return {
        "ingest_seconds": time.perf_counter() - start - embedder.seconds,
        "ingest_processor_seconds": processor() - used - embedder.processor,
    }


def queries() -> Any:
    """Vectors to search for."""
    return Drawn().embed([f"query {at}" for at in range(QUERIES)])


def fledge_ingest(files: Path, out: Path, encoder: str) -> dict[str, float]:
    from fledge.index.config import IndexConfig
    from fledge.index.folder import build_index

    embedder: Any = Drawn()
    split = {"size": SIZE, "overlap": OVERLAP}
    config = IndexConfig.model_validate(
        {"input": [str(files)], "embedder": "drawn", "split": split}
    )
    start, used = time.perf_counter(), processor()
    if not encoder:
        report = build_index(config, out, embedder)
        return {**spent(start, used, embedder), "chunks": report.chunks}
    from fledge.index.embed import open_embedder

    report = build_index(config, out, open_embedder(encoder))
    return {**spent(start, used, Drawn()), "chunks": report.chunks}


def fledge_query(files: Path, out: Path, encoder: str) -> dict[str, float]:
    from fledge.index.store.opening import open_store
    from fledge.index.store.sqlite import store as _store  # noqa: F401  (imports are not timed)

    vectors = queries()
    start = time.perf_counter()
    store = open_store(out)
    with store.snapshot() as snapshot:

        def ask(at: int) -> list[str]:
            hits = snapshot.nearest(vectors[at], K)
            return [seen.text for seen in snapshot.chunks([hit.chunk for hit in hits])]

        ask(0)
        reload = time.perf_counter() - start
        return {"reload_seconds": reload, **timed(ask)}


def _llama_settings() -> Any:
    from llama_index.core import Settings
    from llama_index.core.base.embeddings.base import BaseEmbedding

    drawn = Drawn()

    class Embedding(BaseEmbedding):  # type: ignore[misc]
        def _get_text_embedding(self, text: str) -> list[float]:
            return list(map(float, drawn.embed([text])[0]))

        def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
            found: list[list[float]] = drawn.embed(texts).tolist()
            return found

        def _get_query_embedding(self, query: str) -> list[float]:
            return self._get_text_embedding(query)

        async def _aget_query_embedding(self, query: str) -> list[float]:
            return self._get_text_embedding(query)

    Settings.embed_model = Embedding(embed_batch_size=256)
    Settings.llm = None
    return drawn


def llama_index_ingest(files: Path, out: Path, encoder: str) -> dict[str, float]:
    from llama_index.core import Settings, SimpleDirectoryReader, VectorStoreIndex
    from llama_index.core.node_parser import SentenceSplitter

    drawn = _llama_settings()
    start, used = time.perf_counter(), processor()
    if encoder:
        from llama_index.embeddings.huggingface import HuggingFaceEmbedding

        Settings.embed_model = HuggingFaceEmbedding(encoder, embed_batch_size=32)
    documents = SimpleDirectoryReader(str(files)).load_data()
    nodes = SentenceSplitter(chunk_size=SIZE, chunk_overlap=OVERLAP).get_nodes_from_documents(
        documents
    )
    VectorStoreIndex(nodes).storage_context.persist(str(out))
    return {**spent(start, used, drawn), "chunks": len(nodes)}


def llama_index_query(files: Path, out: Path, encoder: str) -> dict[str, float]:
    from llama_index.core import StorageContext, load_index_from_storage
    from llama_index.core.schema import QueryBundle

    _llama_settings()
    vectors = queries()
    start = time.perf_counter()
    index = load_index_from_storage(StorageContext.from_defaults(persist_dir=str(out)))
    retriever = index.as_retriever(similarity_top_k=K)

    def ask(at: int) -> list[str]:
        bundle = QueryBundle(query_str="x", embedding=vectors[at].tolist())
        return [node.node.get_content() for node in retriever.retrieve(bundle)]

    ask(0)
    reload = time.perf_counter() - start
    return {"reload_seconds": reload, **timed(ask)}


def main() -> None:
    """Run one phase of one side."""
    side, phase, files, out, *encoder = sys.argv[1:]
    with_imports = globals()[f"{side}_{phase}"]
    found = with_imports(Path(files), Path(out), "".join(encoder))
    print(json.dumps({**found, f"{phase}_memory_mb": memory()}))


if __name__ == "__main__":
    main()
