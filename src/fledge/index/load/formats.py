"""Formats that are read, by the names of files."""

from __future__ import annotations

from pathlib import PurePosixPath

CODE = {
    ".py": "python", ".pyi": "python", ".js": "javascript", ".mjs": "javascript",
    ".cjs": "javascript", ".jsx": "javascript", ".ts": "typescript", ".tsx": "typescript",
    ".java": "java", ".kt": "kotlin", ".scala": "scala", ".go": "go", ".rs": "rust", ".c": "c",
    ".h": "c", ".cc": "cpp", ".cpp": "cpp", ".cxx": "cpp", ".hpp": "cpp", ".hh": "cpp",
    ".cs": "csharp", ".rb": "ruby", ".php": "php", ".swift": "swift", ".m": "objc",
    ".lua": "lua", ".pl": "perl", ".r": "r", ".jl": "julia", ".hs": "haskell", ".ml": "ocaml",
    ".ex": "elixir", ".exs": "elixir", ".erl": "erlang", ".clj": "clojure", ".dart": "dart",
    ".sh": "shell", ".bash": "shell", ".zsh": "shell", ".ps1": "powershell", ".sql": "sql",
    ".css": "css", ".scss": "css", ".vue": "vue", ".proto": "protobuf", ".tf": "terraform",
    ".cmake": "cmake", ".gradle": "gradle", ".groovy": "groovy", ".f90": "fortran",
}  # fmt: skip
"""Extension -> language of source code: the document's kind is "code:<language>"."""

FORMATS = {
    ".pdf": "pdf",
    ".html": "html", ".htm": "html", ".xhtml": "html",
    ".md": "markdown", ".markdown": "markdown", ".mdx": "markdown", ".mdown": "markdown",
    ".docx": "docx", ".docm": "docx", ".pptx": "pptx", ".pptm": "pptx",
    ".xlsx": "xlsx", ".xlsm": "xlsx",
    ".csv": "csv", ".tsv": "csv", ".tab": "csv",
    ".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet",
    ".eml": "mail", ".mbox": "mailbox",
    ".zip": "zip", ".tar": "tar", ".tgz": "tar", ".tzst": "tar", ".tbz2": "tar", ".txz": "tar",
    ".gz": "packed", ".zst": "packed", ".bz2": "packed", ".xz": "packed",
    **dict.fromkeys(CODE, "code"),
}  # fmt: skip
"""Extension -> format."""

PACKED = (".gz", ".zst", ".bz2", ".xz")
"""Extensions that compression adds to a file's name."""

NOT_READ = {
    ".doc": "an old Word file: save it as .docx",
    ".ppt": "an old PowerPoint file: save it as .pptx",
    ".xls": "an old Excel file: save it as .xlsx",
    ".odt": "OpenDocument: save it as .docx",
    ".ods": "OpenDocument: save it as .xlsx",
    ".odp": "OpenDocument: save it as .pptx",
    ".rtf": "rich text: save it as .docx",
    ".epub": "an e-book: unpack it, its pages are HTML",
    ".msg": "an Outlook message: save it as .eml",
    ".7z": "a 7-Zip archive: pack it as .zip",
    ".rar": "a RAR archive: pack it as .zip",
}
"""Documents that are not read, and the way out."""

HARMLESS = frozenset(("plain", "markdown", "code", "csv", ""))
"""Formats that this process reads itself; the parsers of all others (native code, or time without
bound) run in processes of their own."""

LARGE = frozenset(("zip", "tar", "packed", "mailbox", "jsonl", "parquet"))
"""Formats that are read piece by piece: held to ``limits.archive_bytes``."""


def format_named(name: str) -> str:
    """The format that a file's name says, or ""."""
    path = PurePosixPath(name.lower())
    if path.suffix in PACKED:
        return "tar" if path.stem.endswith(".tar") else "packed"
    return FORMATS.get(path.suffix, "")
