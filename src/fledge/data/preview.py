"""What curation makes of single files: for ``fledge extract``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fledge.core.errors import InputError
from fledge.data.config import CorpusConfig
from fledge.data.curate import Draft, curate_or_drop
from fledge.data.formats import suffix
from fledge.data.read import read_file
from fledge.data.records import RawRecord, ReadNotes


def extract_file(path: Path, config: CorpusConfig | None = None) -> Iterator[dict[str, Any]]:
    """{"path", "title", "text", "language", "dropped": null or reason} per page of a file.

    Languages are not filtered; all other steps are those of the corpus, personal data included.
    Raises InputError for a file that is missing or of a kind that is not read.
    """
    config = config or CorpusConfig(languages=[])
    notes = ReadNotes()
    found = False
    for record in _records(path, notes, config):
        found = True
        yield _line(record, curate_or_drop(record, config))
    if notes.damaged:
        raise InputError(f"{notes.damaged[0]}", remedy="check the file")
    if notes.truncated:
        raise InputError(
            f"{notes.truncated[0]} ends too early; only what comes before its end could be read",
            remedy="fetch the file again",
        )
    if not found:
        raise InputError(f"{path} holds no page", remedy="name an HTML, WARC, text or JSONL file")


def _records(path: Path, notes: ReadNotes, config: CorpusConfig) -> Iterator[RawRecord]:
    """The records of a file; a file without a known extension is taken for HTML."""
    if not path.is_file():
        raise InputError(f"{path} does not exist or is a folder", remedy="name a file")
    name = path.name if suffix(path.name) else f"{path.name}.html"
    yield from read_file(path, name, notes, keys=config.jsonl_text, limit=config.document_bytes)


def _line(record: RawRecord, draft: Draft) -> dict[str, Any]:
    return {
        "path": record.source,
        "title": draft.metadata.get("title", ""),
        "text": draft.text,
        "language": draft.lang,
        "dropped": draft.verdict.reason if draft.verdict else None,
    }
