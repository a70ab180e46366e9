"""Office Open XML (ECMA-376): the parts of a .docx, .pptx or .xlsx, as trees that are safe."""

from __future__ import annotations

import posixpath
import zipfile
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, Self
from urllib.parse import unquote

from lxml import etree

from fledge.data.dates import iso_date
from fledge.index.load.blob import Blob, Budget, Refused
from fledge.index.load.pen import one_line

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
"""First bytes of the older container: of old Office files, and of encrypted new ones."""

_CORE = "http://schemas.openxmlformats.org/package/2006/metadata/core-properties"
_TERMS = "http://purl.org/dc/terms/"
_DC = "http://purl.org/dc/elements/1.1/"
_MARKUP = "http://schemas.openxmlformats.org/markup-compatibility/2006"


class Package:
    """The parts of an office file; each is unpacked within the limits and checked by its CRC."""

    def __init__(self, blob: Blob, budget: Budget) -> None:
        data = budget.whole(blob)
        if data.startswith(OLE):
            if "EncryptedPackage".encode("utf-16-le") in data:
                raise Refused("encrypted", "it asks for a password")
            raise Refused("unsupported", "an old Office file: save it in the new format")
        try:
            self._archive = zipfile.ZipFile(blob.open())
        except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError) as error:
            raise Refused("broken", str(error)) from None
        names = self._archive.namelist()
        self._names = {name.lower().replace("\\", "/"): name for name in names}
        self._budget = budget

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._archive.close()

    def __contains__(self, part: str) -> bool:
        return part.lower() in self._names

    def read(self, part: str) -> bytes:
        """The bytes of a part; refuses one that is missing or damaged."""
        name = self._names.get(part.lower())
        if name is None:
            raise Refused("broken", f"the part {part} is missing")
        try:
            information = self._archive.getinfo(name)
            if information.flag_bits & 1:
                raise Refused("encrypted", f"the part {part} asks for a password")
            with self._archive.open(name) as stream:
                return self._budget.unpack(stream, information.compress_size)
        except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, OSError) as error:
            raise Refused("damaged", f"{part}: {error}") from None
        except Exception as error:  # zlib.error, LZMAError: what a decoder makes of noise
            if isinstance(error, Refused):
                raise
            raise Refused("damaged", f"{part}: {error}") from None

    def tree(self, part: str) -> Any:
        """The root element of a part."""
        return parse_xml(self.read(part), part)

    def related(self, part: str) -> dict[str, tuple[str, str]]:
        """Relations of a part: id -> (kind, part that is meant); outside ones are left out.

        The kind is the last word of its type: "slide", "notesSlide", "styles".
        """
        path = PurePosixPath(part)
        name = str(path.parent / "_rels" / f"{path.name}.rels")
        if name not in self:
            return {}
        found = {}
        for relation in self.tree(name).iter("{*}Relationship"):
            if relation.get("TargetMode") == "External":
                continue
            target = unquote(relation.get("Target") or "")
            absolute = posixpath.normpath(posixpath.join("/", str(path.parent), target))
            kind = (relation.get("Type") or "").rsplit("/", 1)[-1]
            found[relation.get("Id") or ""] = (kind, absolute.lstrip("/"))
        return found

    def first(self, kind: str, part: str = "") -> str:
        """The part that is related to ``part`` (the package itself: "") as ``kind``, or ""."""
        parts = (target for name, target in self.related(part).values() if name == kind)
        return next((target for target in parts if target in self), "")

    def main(self, fallback: str) -> str:
        """The part with the document."""
        return self.first("officeDocument") or fallback

    def properties(self) -> dict[str, str]:
        """``title``, ``author`` and ``date`` that the file states."""
        part = self.first("core-properties") or "docProps/core.xml"
        if part not in self:
            return {}
        root = self.tree(part)
        dates = [root.findtext(f"{{{_TERMS}}}{name}") or "" for name in ("modified", "created")]
        return {
            "title": one_line(root.findtext(f"{{{_DC}}}title") or ""),
            "author": one_line(root.findtext(f"{{{_DC}}}creator") or ""),
            "date": next(filter(None, map(iso_date, dates)), ""),
        }


def parse_xml(data: bytes, part: str) -> Any:
    """The root of XML that names no entities; nothing outside it is read."""
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, remove_pis=True,
        remove_comments=True,
    )  # fmt: skip
    try:
        root = etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise Refused("broken", f"{part}: {error}") from None
    if root is None or root.getroottree().docinfo.internalDTD is not None:
        raise Refused("broken", f"{part}: it declares a document type, which office files never do")
    return root


def local(element: Any) -> str:
    """An element's name without its namespace; "" for what is no element."""
    tag = element.tag
    return tag.rsplit("}", 1)[-1] if isinstance(tag, str) else ""


def attribute(element: Any, name: str) -> str | None:
    """An attribute by its name without namespace."""
    for key, value in element.attrib.items():
        if key.rsplit("}", 1)[-1] == name:
            return str(value)
    return None


def value(element: Any, child: str) -> str | None:
    """``val`` of a direct child, or None when there is no such child; "" without the attribute."""
    found = element.find(f"{{*}}{child}") if element is not None else None
    return None if found is None else attribute(found, "val") or ""


def is_on(element: Any, child: str) -> bool:
    """Whether a switch such as ``<w:vanish/>`` is on."""
    return value(element, child) not in (None, "0", "false", "off", "none")


def alternatives(element: Any) -> Iterator[Any]:
    """Children; of alternative contents (text boxes) the first choice only."""
    for child in element:
        if child.tag == f"{{{_MARKUP}}}AlternateContent":
            choice = next(iter(child), None)
            if choice is not None:
                yield from alternatives(choice)
        else:
            yield child


def markdown_table(rows: list[list[str]]) -> str:
    """Rows as a Markdown table; the first is its head.  Bars inside cells are escaped."""
    width = max((len(row) for row in rows), default=0)
    if not width:
        return ""
    lines = []
    for number, row in enumerate(rows):
        cells = [" ".join(cell.split()).replace("|", "\\|") for cell in row]
        lines.append("| " + " | ".join(cells + [""] * (width - len(cells))) + " |")
        if number == 0:
            lines.append("|" + " --- |" * width)
    return "\n".join(lines)
