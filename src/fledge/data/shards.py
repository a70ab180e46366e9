"""Finished pieces of work on disk: Parquet files with documents, verdicts and their hashes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fledge.core.files import replacing
from fledge.core.types import Document, Verdict
from fledge.data.curate import Draft

_TEXT = [
    (name, pa.string()) for name in ("id", "text", "url", "source", "lang", "date", "metadata")
]
DOCUMENTS = pa.schema(_TEXT)
"""Columns of the documents a corpus offers."""

DROPPED = pa.schema([*_TEXT, ("reason", pa.string()), ("evidence", pa.string())])
"""Columns of the documents it dropped."""

SHARD = pa.schema(
    [
        *DROPPED,
        ("work", pa.string()),
        ("raw_bytes", pa.int64()),
        ("masked", pa.list_(pa.string())),
        ("exact", pa.string()),
        ("signature", pa.binary()),
    ]
)
"""Columns of a shard in ``state/``; ``signature`` is little-endian uint32."""


def shard_row(draft: Draft, exact: str, signature: bytes) -> dict[str, Any]:
    """The row of one draft."""
    return {
        "id": draft.id,
        "text": draft.text,
        "url": draft.url,
        "source": draft.source,
        "lang": draft.lang,
        "date": draft.date,
        "metadata": json.dumps(draft.metadata, ensure_ascii=False, sort_keys=True),
        "reason": draft.verdict.reason if draft.verdict else None,
        "evidence": draft.verdict.evidence if draft.verdict else None,
        "work": draft.work,
        "raw_bytes": draft.raw_bytes,
        "masked": draft.masked,
        "exact": exact,
        "signature": signature,
    }


def write_rows(path: Path, rows: Sequence[dict[str, Any]], schema: pa.Schema) -> None:
    """Write one Parquet file, whole or not at all; equal rows give equal bytes."""
    table = pa.Table.from_pylist([_sound(row) for row in rows], schema=schema)
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", compression_level=3)


def _sound(row: dict[str, Any]) -> dict[str, Any]:
    """Strings without lone surrogates, which UTF-8 cannot hold."""
    return {
        key: value.encode("utf-8", "replace").decode("utf-8") if isinstance(value, str) else value
        for key, value in row.items()
    }


def read_rows(path: Path, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """The rows of one Parquet file."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=1024, columns=list(columns) if columns else None):
            yield from batch.to_pylist()


class RowWriter:
    """Writes rows into files ``<prefix>-00000.parquet`` of about ``limit`` bytes of text."""

    def __init__(self, folder: Path, prefix: str, schema: pa.Schema, limit: int) -> None:
        self._folder, self._prefix, self._schema, self._limit = folder, prefix, schema, limit
        self._rows: list[dict[str, Any]] = []
        self._size = 0
        self._files = 0

    def add(self, row: dict[str, Any]) -> None:
        self._rows.append({name: row[name] for name in self._schema.names})
        self._size += len(row["text"]) + len(row["metadata"])
        if self._size >= self._limit:
            self.flush()

    def flush(self) -> None:
        """Write what is waiting."""
        if self._rows:
            path = self._folder / f"{self._prefix}-{self._files:05d}.parquet"
            write_rows(path, self._rows, self._schema)
            self._files += 1
            self._rows, self._size = [], 0


def signatures_of(rows: Iterable[bytes], size: int) -> np.ndarray[Any, np.dtype[np.uint32]]:
    """Stored signatures as an array (N, size)."""
    data = b"".join(rows)
    return np.frombuffer(data, dtype="<u4").reshape(-1, size)


def document_of(row: dict[str, Any]) -> Document:
    """A stored row as a Document."""
    return Document(
        id=row["id"],
        text=row["text"],
        url=row["url"],
        source=row["source"],
        lang=row["lang"],
        date=row["date"],
        metadata=json.loads(row["metadata"]),
    )


def verdict_of(row: dict[str, Any]) -> Verdict | None:
    """The verdict of a stored row."""
    if row["reason"] is None:
        return None
    return Verdict(reason=row["reason"], evidence=row["evidence"] or "")
