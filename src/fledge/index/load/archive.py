"""Archives to what lies in them; nothing is written to disk, and everything counts.

A member that is damaged is reported and the others are read; an archive that is damaged itself,
cut short, or unpacks to too much is refused whole.
"""

from __future__ import annotations

import bz2
import io
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import IO, Any

from fledge.data.streams import Plain
from fledge.index.load.blob import SMALL_BYTES, Blob, Budget, Parse, Refused, bomb
from fledge.index.load.pen import one_line
from fledge.index.loaded import Loaded, Unreadable

_UTF8_NAME = 0x800
_ENCRYPTED = 0x1
_TARS = {".tgz": ".gz", ".tzst": ".zst", ".tbz2": ".bz2", ".txz": ".xz"}
_FAULTS = (zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, ValueError, OSError)


def read_zip(blob: Blob, budget: Budget, inner: Parse) -> Iterator[Loaded | Unreadable]:
    """The members of a zip archive, in its order."""
    with blob.open() as stream:
        try:
            archive = zipfile.ZipFile(stream)
        except (*_FAULTS, NotImplementedError) as error:
            raise Refused("broken", str(error)) from None
        seen: dict[str, int] = {}
        for information in archive.infolist():
            if information.is_dir():
                continue
            budget.take_member()
            name = _again(_zip_name(information), seen)
            reason = _unwanted(name, budget)
            if stat.S_ISLNK(information.external_attr >> 16):
                reason = "link"
            if information.flag_bits & _ENCRYPTED:
                reason = "encrypted"
            if reason:
                yield _unread(blob, name, reason)
                continue
            try:
                with archive.open(information) as member:
                    data = budget.unpack(member, information.compress_size)
            except NotImplementedError as error:
                yield _unread(blob, name, "unsupported", str(error))
            except (*_FAULTS, RuntimeError) as error:
                yield _unread(blob, name, "damaged", str(error))
            except Refused as refused:
                if refused.final:
                    raise
                yield _unread(blob, name, refused.reason, refused.evidence)
            else:
                year, month, day = information.date_time[:3]
                date = f"{year:04}-{month:02}-{day:02}" if year > 1980 else ""
                yield from inner(_member(blob, name, data, date), budget)


def _zip_name(information: zipfile.ZipInfo) -> str:
    """The name of a member.  Without the UTF-8 flag it is cp437, they say; Chinese programs write
    their own set."""
    name = information.filename
    if not information.flag_bits & _UTF8_NAME and not name.isascii():
        raw = name.encode("cp437", "replace")
        high = sum(byte >= 0x80 for byte in raw)
        for codec in ("utf-8", "gb2312", "big5") if high >= max(2, len(raw) / 4) else ("utf-8",):
            with suppress(UnicodeDecodeError):
                return one_line(raw.decode(codec))
    return one_line(name)


def read_tar(blob: Blob, budget: Budget, inner: Parse) -> Iterator[Loaded | Unreadable]:
    """The members of a tar archive, packed or not, in its order."""
    seen: dict[str, int] = {}
    with unpacked(blob, budget) as stream:
        try:
            with tarfile.open(fileobj=stream, mode="r|") as archive:
                for information in archive:
                    if not information.isdir():
                        yield from _tar_member(archive, information, seen, blob, budget, inner)
        except tarfile.TarError as error:
            raise Refused("damaged", str(error)) from None


def _tar_member(
    archive: tarfile.TarFile,
    information: tarfile.TarInfo,
    seen: dict[str, int],
    blob: Blob,
    budget: Budget,
    inner: Parse,
) -> Iterator[Loaded | Unreadable]:
    budget.take_member()
    name = _again(one_line(information.name), seen)
    reason = _unwanted(name, budget)
    if information.issym() or information.islnk():
        reason = "link"
    elif not information.isfile():
        reason = "unsupported"
    if reason:
        yield _unread(blob, name, reason)
        return
    member = archive.extractfile(information)
    assert member is not None
    try:
        data = budget.unpack(member, 0)
    except Refused as refused:
        if refused.final:
            raise
        yield _unread(blob, name, refused.reason, refused.evidence)
        return
    yield from inner(_member(blob, name, data, _date(information.mtime)), budget)


def read_packed(blob: Blob, budget: Budget, inner: Parse) -> Iterator[Loaded | Unreadable]:
    """The file that a .gz, .zst, .bz2 or .xz file holds; it keeps the id of the packed one."""
    with unpacked(blob, budget) as stream:
        data = budget.unpack(stream, 0)
    path = PurePosixPath(blob.name)
    name = path.stem if path.suffix.lower() in (".gz", ".zst", ".bz2", ".xz") else blob.name
    yield from inner(
        Blob(
            id=blob.id, path=blob.path, name=name, content=data, charset=blob.charset,
            url=blob.url, modified=blob.modified, depth=blob.depth + 1,
        ),
        budget,
    )  # fmt: skip


@contextmanager
def unpacked(blob: Blob, budget: Budget) -> Iterator[IO[bytes]]:
    """A stream of the unpacked bytes; refuses, at the end, one that was damaged or cut short."""
    suffix = PurePosixPath(blob.name.lower()).suffix
    with blob.open() as raw:
        plain: Plain | None = None
        stream: IO[bytes]
        if _TARS.get(suffix, suffix) == ".bz2":
            stream = bz2.BZ2File(raw)
        elif _TARS.get(suffix, suffix) == ".xz":
            stream = lzma.LZMAFile(raw)  # noqa: SIM115
        else:
            plain = Plain(raw)
            stream = plain.stream
        try:
            yield io.BufferedReader(_Metered(stream, blob.size, budget), 1 << 16)
        except (EOFError, zlib.error, lzma.LZMAError, OSError, tarfile.TarError) as error:
            if plain is not None and (plain.truncated or plain.damaged):
                raise _refused(plain) from None
            reason = "truncated" if isinstance(error, EOFError) else "damaged"
            raise Refused(reason, str(error)) from None
        except Refused as refused:
            if plain is not None and (plain.truncated or plain.damaged) and not refused.final:
                raise _refused(plain) from None
            raise
        while stream.read(1 << 16):  # what follows the end of a tar is padding
            pass
        if plain is not None and (plain.truncated or plain.damaged):
            raise _refused(plain)


def _refused(plain: Plain) -> Refused:
    if plain.damaged:
        return Refused("damaged", plain.damaged)
    return Refused("truncated", "the packed stream ends too early")


class _Metered(io.RawIOBase):
    """Counts what is read, skipped members too, and stops a bomb."""

    def __init__(self, stream: IO[bytes], packed: int, budget: Budget) -> None:
        self._stream, self._packed, self._budget = stream, packed, budget
        self._size = 0

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        data = self._stream.read(len(target))
        target[: len(data)] = data
        self._size += len(data)
        limits = self._budget.config.limits
        if self._size > limits.unpacked_bytes:
            raise bomb("more bytes unpacked", "unpacked_bytes", limits.unpacked_bytes)
        if self._size > max(SMALL_BYTES, limits.ratio * self._packed):
            raise bomb(f"{self._packed:,} packed bytes unpack to more", "ratio", limits.ratio)
        return len(data)


def _unread(blob: Blob, name: str, reason: str, evidence: str = "") -> Unreadable:
    return Unreadable(path=f"{blob.path}!{name}", reason=reason, evidence=evidence)


def _member(blob: Blob, name: str, data: bytes, date: str) -> Blob:
    return blob.member(f"!{name}", PurePosixPath(name).name, data, modified=date)


def _again(name: str, seen: dict[str, int]) -> str:
    """A member's name, numbered when the archive had it before."""
    number = seen[name] = seen.get(name, 0) + 1
    return name if number == 1 else f"{name}~{number}"


def _unwanted(name: str, budget: Budget) -> str:
    """Why a member is not read, by its name; or ""."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or (path.parts and path.parts[0].endswith(":")):
        return "escapes"
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
    if hidden and not budget.config.hidden:
        return "hidden"
    folders = set(path.parts[:-1])
    return "skipped" if folders & set(budget.config.skip_folders) else ""


def _date(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).date().isoformat() if seconds > 0 else ""
    except (ValueError, OverflowError, OSError):
        return ""
