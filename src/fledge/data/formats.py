"""Kinds of files that are read, by their extension."""

from __future__ import annotations

from pathlib import PurePosixPath

from fledge.data.records import Kind

PAGES: dict[str, Kind] = {
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
    ".txt": "text",
    ".text": "text",
    ".rst": "text",
    ".md": "markdown",
    ".markdown": "markdown",
}
ROWS = (".jsonl", ".ndjson")
ARCHIVES = (".tar", ".tgz")
WARCS = (".warc", ".arc")
PACKED = (".gz", ".zst")
READ = (*PAGES, *ROWS, ".parquet", *ARCHIVES, *WARCS)


def suffix(name: str) -> str:
    """The extension that tells the format: ``a.jsonl.zst`` -> ``.jsonl``; empty for none."""
    path = PurePosixPath(name.lower().removesuffix(".bad"))
    while path.suffix in PACKED:
        path = path.with_suffix("")
    return path.suffix
