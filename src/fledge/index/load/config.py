"""Config of loading: what is taken, and the limits that hostile or huge files run into."""

from __future__ import annotations

from pydantic import Field

from fledge.core.config import Config
from fledge.data.config import Strings


class Limits(Config):
    """What exceeds one of these is refused whole, with the limit's name in the report."""

    file_bytes: int = Field(default=100_000_000, ge=1)
    """Largest file, member of an archive or answer of a server that is read, in bytes."""

    archive_bytes: int = Field(default=4_000_000_000, ge=1)
    """Largest archive or mailbox, in bytes; its members are held to ``file_bytes`` each."""

    unpacked_bytes: int = Field(default=2_000_000_000, ge=1)
    """Bytes that one archive may unpack to, archives inside it included."""

    ratio: float = Field(default=200, gt=1)
    """Bytes unpacked per packed byte of an archive that unpacks to more than 10 MB."""

    members: int = Field(default=1_000_000, ge=1)
    """Members of an archive, messages of a mailbox, records or rows of a file."""

    depth: int = Field(default=3, ge=1)
    """Archives and attachments inside each other; 1: nothing inside a member is opened."""

    pages: int = Field(default=10_000, ge=1)
    """Pages of a PDF, slides of a presentation."""

    characters: int = Field(default=20_000_000, ge=1)
    """Characters of one document's text."""

    seconds: float = Field(default=60, gt=0)
    """Processor seconds that one PDF, office file, page, e-mail or archive may take."""

    memory_bytes: int = Field(default=4 << 30, ge=1 << 28)
    """Address space of a process that reads these formats (Linux)."""

    download_seconds: float = Field(default=60, gt=0)
    """From the request for a URL to the last byte of its answer."""

    requests: int = Field(default=1_000, ge=1)
    """Pages of a paginated API."""


class LoadConfig(Config):
    """Config of loading."""

    limits: Limits = Limits()
    """What is refused as too large, too slow or too deep."""

    hidden: bool = False
    """Read files and folders below an input whose names begin with a dot."""

    skip_folders: Strings = Field(default=["__pycache__", "node_modules", "site-packages"])
    """Names of folders below an input that are not entered."""

    text_keys: Strings = Field(default=[])
    """Keys that hold the text of a JSON record, dotted (``doc.body``); empty: the usual names."""

    boxes: bool = True
    """Keep where each word of a PDF is drawn, so that a page can highlight a quote."""

    pdf_repair: bool = False
    """Read PDFs whose streams are damaged, too; parts of their text may be missing."""

    workers: int = Field(default=0, ge=0)
    """Processes that read PDFs, office files, pages and archives; 0: one a core."""
