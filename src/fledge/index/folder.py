"""The folder of an index: ``manifest.json`` says what it is made of, ``report.json`` what the last
build did; the store lies beside them.  One build at a time; readers do not wait for it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fledge.core.config import parse_config
from fledge.core.errors import InputError
from fledge.core.files import (
    read_json,
    remove_leftovers,
    replace_folder,
    restore_folder,
    write_json,
)
from fledge.core.protocols import Progress, Silent
from fledge.core.run import machine, versions
from fledge.index.build_report import BuildReport
from fledge.index.config import IndexConfig, differences, settings_of
from fledge.index.embed.protocol import IndexEmbedder
from fledge.index.store.opening import (
    MANIFEST,
    SERVERS,
    check_kind,
    create_store,
    holds_store,
    open_store,
    store_kind,
)
from fledge.index.store.protocol import Store

REPORT = "report.json"
_LOCK = ".building"
_OURS = {MANIFEST, REPORT, _LOCK, ".writing", "chunks.lance", "index.db", "index.db-wal"} | {
    "index.db-shm",
    "index.db-journal",
}
"""What a killed creation may leave; anything else in a folder without an index is not ours."""


def build_index(
    config: IndexConfig,
    out: Path,
    embedder: IndexEmbedder,
    *,
    force: bool = False,
    progress: Progress | None = None,
) -> BuildReport:
    """Make ``out`` the index of ``config.input``, new or up to date.

    Raises InputError when there is an index made with other settings; with ``force`` a new one is
    built beside it and takes its place when it is whole.
    """
    check_kind(config.store)
    restore_folder(out)
    if config.store.startswith(SERVERS) and not (out / MANIFEST).is_file():
        _refuse_anothers(config, out)
    if holds_store(out):
        found = _conflicts(config, out, embedder)
        if not found:
            return _build(config, out, embedder, progress)
        if not force:
            raise InputError(
                f"{out} was made with {'; '.join(found)}",
                remedy="build into another folder, or build it again whole with --force",
            )
        return _rebuild(config, out, embedder, progress)
    if out.is_dir() and any(path.name not in _OURS for path in out.iterdir()):
        raise InputError(f"{out} is not empty and no index", remedy="name a new folder")
    return _build(config, out, embedder, progress)


def _refuse_anothers(config: IndexConfig, out: Path) -> None:
    """A server's index belongs to the folder that it was built with."""
    if holds_store(out, config.store):
        raise InputError(
            f"{config.store} holds an index already, of another folder than {out}",
            remedy="name another behind a # at the end of the URL",
        )


def _conflicts(config: IndexConfig, out: Path, embedder: IndexEmbedder) -> list[str]:
    store = open_store(out)
    try:
        found = differences(store.settings(), settings_of(config, embedder))
    finally:
        store.close()
    kind = store_kind(out)
    return [*found, f"store = {kind!r}, now {config.store!r}"] if kind != config.store else found


def _rebuild(
    config: IndexConfig, out: Path, embedder: IndexEmbedder, progress: Progress | None
) -> BuildReport:
    if config.store.startswith(SERVERS) and store_kind(out) == config.store:
        raise InputError(
            f"{config.store} cannot be built anew while it is in use",
            remedy="name another index behind a # at the end of the URL",
        )
    new = out.with_name(f".{out.name}.new")
    if holds_store(new) and _conflicts(config, new, embedder):
        _remove(new)
    with _alone(out):
        report = _build(config, new, embedder, progress, leave_out=(out,))
        (new / _LOCK).unlink(missing_ok=True)
        replace_folder(new, out)
    return report


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder)


def _build(
    config: IndexConfig,
    out: Path,
    embedder: IndexEmbedder,
    progress: Progress | None,
    leave_out: tuple[Path, ...] = (),
) -> BuildReport:
    from fledge.index.build import bring_up_to_date

    out.mkdir(parents=True, exist_ok=True)
    progress = progress or Silent()
    with _alone(out):
        remove_leftovers(out)
        settings = settings_of(config, embedder)
        _write_manifest(out, config, settings, None)
        store = open_store(out) if holds_store(out) else create_store(out, config.store, settings)
        report = BuildReport()
        try:
            bring_up_to_date(
                store,
                config,
                embedder,
                leave_out=(out, *leave_out),
                progress=progress,
                report=report,
            )
        finally:
            write_json(out / REPORT, report.as_json())
            store.close()
        _write_manifest(out, config, store.settings(), report)
    return report


def _write_manifest(
    out: Path, config: IndexConfig, settings: dict[str, Any], report: BuildReport | None
) -> None:
    """Say what the index is made of; ``finished`` is None until a build has gone through."""
    done = report is not None
    write_json(
        out / MANIFEST,
        {
            "stage": "index",
            "store": config.store,
            "folder": str(Path.cwd()),
            "config": config.model_dump(mode="json"),
            "settings": settings,
            "counts": report.sizes if report is not None else {},
            "finished": datetime.now(UTC).isoformat(timespec="seconds") if done else None,
            "versions": versions(),
            "machine": machine(),
        },
    )


def open_index(folder: Path) -> Store:
    """The store of an index, for reading; raises InputError when there is none."""
    return open_store(folder)


def recorded_config(folder: Path) -> IndexConfig:
    """What an index was built with, so that it can be brought up to date.

    Relative inputs mean what they meant where the index was built.
    """
    restore_folder(folder)
    path = folder / MANIFEST
    if not path.is_file():
        raise InputError(
            f"{path} is missing, which names what the index is made of",
            remedy="build it again: fledge index build --input PATH --out DIR",
        )
    manifest = read_json(path)
    config = parse_config(IndexConfig, dict(manifest["config"]), str(path))
    was = Path(str(manifest["folder"]))
    if was == Path.cwd():
        return config
    moved = [each if _stands_alone(each) else str(was / each) for each in config.input]
    return config.model_copy(update={"input": moved})


def _stands_alone(given: str) -> bool:
    return "://" in given or given.startswith("sqlite:") or Path(given).is_absolute()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; raises InputError while another process does.

    The system lets go of it when a process dies, however it dies.
    """
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"{folder} is being built by another process", remedy="wait for it to finish"
            ) from None
        yield
    finally:
        os.close(descriptor)
