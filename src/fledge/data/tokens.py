"""The tokens stage: documents to shards of token ids that a trainer maps into memory.

A document is its ``<|endoftext|>`` id followed by its tokens, so that position 0 of every document
predicts from the same start.  ``index.json`` lists shards and counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from fledge.core.errors import InputError
from fledge.core.files import replacing, write_json
from fledge.core.protocols import Bar, Progress, Silent
from fledge.core.run import Outcome
from fledge.core.types import Document
from fledge.data.config import TokensConfig
from fledge.data.documents import SPLITS, document_files, read_documents
from fledge.data.shards import write_rows

BATCH_DOCUMENTS = 256
BATCH_CHARACTERS = 4_000_000

COLUMNS = pa.schema(
    [
        ("split", pa.string()),
        ("shard", pa.int32()),
        ("index", pa.int32()),
        ("id", pa.string()),
        ("lang", pa.string()),
        ("bytes", pa.int64()),
        ("tokens", pa.int64()),
    ]
)
"""``documents.parquet``: which document stands where; ``bytes`` of its text in UTF-8."""


class TokenizerLike(Protocol):
    """What this stage asks of a tokenizer."""

    @property
    def vocab_size(self) -> int:
        """Number of token ids."""

    @property
    def endoftext_id(self) -> int:
        """The id that begins a document."""

    @property
    def end_id(self) -> int:
        """The id that the last token of a document predicts."""

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        """Token ids of each text; special tokens inside are plain text."""


@dataclass
class _Split:
    """Counts of one split, and the shard that is being filled."""

    name: str
    shards: list[dict[str, Any]] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    pieces: list[np.ndarray[Any, Any]] = field(default_factory=list)
    waiting: int = 0
    languages: dict[str, dict[str, int]] = field(default_factory=dict)


def write_tokens(
    config: TokensConfig,
    corpus: Path,
    tokenizer: TokenizerLike,
    out: Path,
    progress: Progress | None = None,
    *,
    digest: str = "",
) -> Outcome:
    """Token shards of a corpus' splits in ``out``; raises InputError when train is empty.

    ``digest`` of the tokenizer's file, by which shards written with another are told apart.
    Killed and called again it starts over: encoding is quick, and half a shard is worth nothing.
    """
    progress = progress or Silent()
    dtype = np.dtype(np.uint16 if tokenizer.vocab_size <= 65536 else np.uint32)
    for old in (*out.glob("*.npy"), *out.glob("*.parquet"), *out.glob("index.json")):
        old.unlink()
    if not document_files(corpus, "train"):
        raise InputError(
            f"{corpus} has no training documents", remedy="see its stats.json for why pages fell"
        )
    total = _total_bytes(corpus)
    with progress.bar("encoding", total, "B") as bar:
        splits = [_write_split(name, config, corpus, tokenizer, dtype, out, bar) for name in SPLITS]
    write_rows(out / "documents.parquet", [row for split in splits for row in split.rows], COLUMNS)
    index = {
        "dtype": dtype.name,
        "vocab_size": tokenizer.vocab_size,
        "endoftext_id": tokenizer.endoftext_id,
        "end_id": tokenizer.end_id,
        "tokenizer": digest,
        "splits": {split.name: _summary(split) for split in splits},
    }
    write_json(out / "index.json", index)
    return Outcome(
        counts={
            f"{split.name}_{what}": sum(shard[what] for shard in split.shards)
            for split in splits
            for what in ("tokens", "documents", "bytes")
        }
    )


def _total_bytes(corpus: Path) -> float | None:
    """Bytes of text in the corpus when its statistics tell."""
    path = corpus / "stats.json"
    if not path.is_file():
        return None
    return float(json.loads(path.read_text(encoding="utf-8"))["bytes"])


def _write_split(
    name: str,
    config: TokensConfig,
    corpus: Path,
    tokenizer: TokenizerLike,
    dtype: np.dtype[Any],
    out: Path,
    bar: Bar,
) -> _Split:
    split = _Split(name)
    for documents in _batches(read_documents(corpus, name)):
        for document, ids in zip(
            documents, tokenizer.encode_batch([d.text for d in documents]), strict=True
        ):
            tokens = np.array([tokenizer.endoftext_id, *ids], dtype=dtype)
            if split.pieces and split.waiting + len(tokens) > config.shard_tokens:
                _flush(split, out)
            size = _count(split, document, len(tokens))
            split.pieces.append(tokens)
            split.waiting += len(tokens)
            bar.advance(size)
    _flush(split, out)
    return split


def _batches(documents: Iterator[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += len(document.text)
        if len(batch) >= BATCH_DOCUMENTS or size >= BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _count(split: _Split, document: Document, tokens: int) -> int:
    """Note where a document goes; returns its size in bytes."""
    size = len(document.text.encode("utf-8"))
    split.rows.append(
        {
            "split": split.name,
            "shard": len(split.shards),
            "index": len(split.pieces),
            "id": document.id,
            "lang": document.lang,
            "bytes": size,
            "tokens": tokens,
        }
    )
    sums = split.languages.setdefault(document.lang, {"tokens": 0, "documents": 0, "bytes": 0})
    for what, amount in (("tokens", tokens), ("documents", 1), ("bytes", size)):
        sums[what] += amount
    return size


def _flush(split: _Split, out: Path) -> None:
    """Write the waiting documents as one shard: ids, and offsets (N + 1,) of the documents."""
    if not split.pieces:
        return
    stem = f"{split.name}-{len(split.shards):05d}"
    offsets = np.zeros(len(split.pieces) + 1, dtype=np.int64)
    np.cumsum([len(piece) for piece in split.pieces], out=offsets[1:])
    _save(out / f"{stem}.npy", np.concatenate(split.pieces))
    _save(out / f"{stem}.offsets.npy", offsets)
    here = [row["bytes"] for row in split.rows if row["shard"] == len(split.shards)]
    split.shards.append(
        {
            "file": f"{stem}.npy",
            "tokens": int(offsets[-1]),
            "documents": len(split.pieces),
            "bytes": sum(here),
        }
    )
    split.pieces, split.waiting = [], 0


def _save(path: Path, array: np.ndarray[Any, Any]) -> None:
    with replacing(path) as temporary, temporary.open("wb") as handle:
        np.save(handle, array)


def _summary(split: _Split) -> dict[str, Any]:
    return {
        "tokens": sum(shard["tokens"] for shard in split.shards),
        "documents": sum(shard["documents"] for shard in split.shards),
        "bytes": sum(shard["bytes"] for shard in split.shards),
        "languages": dict(sorted(split.languages.items())),
        "shards": split.shards,
    }


def shard_files(tokens: Path, split: str) -> Sequence[tuple[Path, Path]]:
    """(ids, offsets) files of a split, in order."""
    files = sorted(tokens.glob(f"{split}-[0-9]*[0-9].npy"))
    return [(file, file.with_name(f"{file.stem}.offsets.npy")) for file in files]
