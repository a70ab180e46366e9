"""What the model reads: collect, extract, filter, redact, deduplicate, pack."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fledge.core.lazy import facade

if TYPE_CHECKING:
    from fledge.data.config import CorpusConfig as CorpusConfig
    from fledge.data.config import TokensConfig as TokensConfig
    from fledge.data.corpus import build_corpus as build_corpus
    from fledge.data.corpus import corpus_stats as corpus_stats
    from fledge.data.documents import read_documents as read_documents
    from fledge.data.inputs import expand_inputs as expand_inputs
    from fledge.data.preview import extract_file as extract_file
    from fledge.data.tokens import write_tokens as write_tokens

__all__ = [
    "CorpusConfig",
    "TokensConfig",
    "build_corpus",
    "corpus_stats",
    "expand_inputs",
    "extract_file",
    "read_documents",
    "write_tokens",
]
__getattr__ = facade(
    __name__,
    {
        "CorpusConfig": "config",
        "TokensConfig": "config",
        "build_corpus": "corpus",
        "corpus_stats": "corpus",
        "expand_inputs": "inputs",
        "extract_file": "preview",
        "read_documents": "documents",
        "write_tokens": "tokens",
    },
)
