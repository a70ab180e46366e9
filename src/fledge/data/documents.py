"""The documents of a corpus folder, for the stages that come after."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fledge.core.errors import InputError
from fledge.core.types import Document
from fledge.data.shards import document_of, read_rows

SPLITS = ("train", "validation")


def document_files(corpus: Path, split: str) -> list[Path]:
    """The Parquet files of a split, in order; raises InputError for a folder without documents."""
    if split not in SPLITS:
        raise InputError(f"split {split!r} is not known", remedy="use train or validation")
    folder = corpus / "documents"
    if not folder.is_dir():
        raise InputError(f"{corpus} holds no documents", remedy="name the folder of a built corpus")
    return sorted(folder.glob(f"{split}-*.parquet"))


def read_documents(corpus: Path, split: str) -> Iterator[Document]:
    """The documents of a split, in order."""
    for path in document_files(corpus, split):
        for row in read_rows(path):
            yield document_of(row)


def read_dropped(corpus: Path) -> Iterator[tuple[Document, str, str]]:
    """(document, reason, evidence) of everything that was dropped, in order."""
    for path in sorted((corpus / "dropped").glob("*.parquet")):
        for row in read_rows(path):
            yield document_of(row), row["reason"], row["evidence"]
