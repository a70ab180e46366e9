"""A process that writes to or reads from a store, for tests that kill it or run several.

    store_child.py FOLDER write NAME COUNT    commits documents, says "NAME-i version" after each
    store_child.py FOLDER read SECONDS        takes snapshots, says how many; fails on a half one

Version v of a document holds its name and version only, many times: any mixture can be told.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

from store_samples import entry, scored, vector_of

from fledge.index.store.opening import open_store
from fledge.index.store.protocol import Entry, Snapshot, Store

DOCUMENTS = 12
"""That one writer writes to, again and again."""


def version(name: str, at: int, number: int) -> Entry:
    """A version of a document; how long it is depends on the version, too."""
    words = f"{name}-{at} v{number} "
    return entry(f"{name}-{at}", words * (5 + number % 7 * 10), fingerprint=str(number))


def check(snapshot: Snapshot, seen: dict[str, int] | None = None) -> dict[str, int]:
    """Every document whole and of one version, found by its words and vectors; the versions."""
    versions = {known.id: int(known.fingerprint) for known in snapshot.known()}
    for id, number in versions.items():
        assert number >= (seen or {}).get(id, 0), f"{id} went back to version {number}"
        name, at = id.rsplit("-", 1)
        wanted = version(name, int(at), number)
        document = snapshot.document(id)
        assert document == wanted.document
        found = scored(snapshot, snapshot.matching([id], 1000))
        spans = {
            (c.start, c.end) for c, t in zip(_small(wanted), wanted.terms, strict=True) if id in t
        }
        assert {key[1:] for key in found if key[0] == id} == spans
        vectors = snapshot.vectors(snapshot.of_document(id))
        assert wanted.vectors is not None
        assert abs(vectors - wanted.vectors).max() < 1e-6
    hits = scored(snapshot, snapshot.nearest(vector_of("x"), 100_000))
    assert {key[0] for key in hits} == set(versions)
    return versions


def _small(wanted: Entry) -> list[object]:
    return [chunk for chunk in wanted.chunks if chunk.level == 0]


def write(store: Store, name: str, count: int) -> None:
    """Commit versions of a few documents, several at a time; now and then compact."""
    drawn = random.Random(name)
    with store.snapshot() as snapshot:
        versions = {known.id: int(known.fingerprint) for known in snapshot.known()}
    for step in range(count):
        places = drawn.sample(range(DOCUMENTS), drawn.randrange(1, 4))
        numbers = {at: versions.get(f"{name}-{at}", 0) + 1 for at in places}
        store.commit([version(name, at, number) for at, number in numbers.items()])
        versions |= {f"{name}-{at}": number for at, number in numbers.items()}
        print(" ".join(f"{name}-{at} {number}" for at, number in numbers.items()), flush=True)
        if step % 25 == 24:
            store.compact()


def read(store: Store, seconds: float) -> None:
    """Check one snapshot after another."""
    end, count, seen = time.monotonic() + seconds, 0, dict[str, int]()
    while time.monotonic() < end:
        with store.snapshot() as snapshot:
            seen = check(snapshot, seen)
        count += 1
    print(count, flush=True)


if __name__ == "__main__":
    opened = open_store(Path(sys.argv[1]))
    if sys.argv[2] == "write":
        write(opened, sys.argv[3], int(sys.argv[4]))
    else:
        read(opened, float(sys.argv[3]))
    opened.close()
