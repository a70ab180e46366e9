"""Evaluation sets in; which texts repeat them, and where, out: shared runs of n tokens.

After T. Brown et al., "Language models are few-shot learners" (arXiv:2005.14165, appendix C): a
text that shares 13 words in a row with an evaluation item is taken to know it.  A token is a word,
or one Chinese, Japanese or Korean character.  A shorter item counts when it is asked whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fledge.core.errors import InputError
from fledge.core.types import Verdict
from fledge.data.dedup import U64, hashed_tokens, ngrams, token_hashes
from fledge.data.json_rows import read_rows

SHORTEST = 4
"""Texts of fewer tokens ("Yes.", "Which one?") say nothing about where they are from."""

SHOWN = 200
"""Most characters of evidence."""

_ASIDE = ("id", "metadata")
"""Fields of an evaluation item that hold no text of it."""


class Contamination:
    """What must not be learnt, as hashes.  ``n``: tokens in a row that give a text away."""

    def __init__(self, texts: Iterable[tuple[str, str]], n: int) -> None:
        """``texts``: (where an evaluation text is from, the text)."""
        self._n = n
        self._places: list[str] = []
        runs: list[U64] = []
        owners: list[int] = []
        self._wholes: dict[bytes, int] = {}
        for origin, text in texts:
            hashes = token_hashes(text)
            if len(hashes) < SHORTEST:
                continue
            self._places.append(origin)
            owner = len(self._places) - 1
            if len(hashes) < n:
                self._wholes.setdefault(hashes.tobytes(), owner)
                continue
            runs.append(ngrams(hashes, n))
            owners += [owner] * len(runs[-1])
        every = np.concatenate(runs) if runs else np.zeros(0, dtype=np.uint64)
        self._runs, first = np.unique(every, return_index=True)
        self._owners = np.asarray(owners, dtype=np.int64)[first]

    def verdict(self, texts: Sequence[str], questions: Sequence[str] = ()) -> Verdict | None:
        """Why ``texts`` give an item away, or None; a short item only if one of ``questions``."""
        for text in texts:
            hashes, starts = hashed_tokens(text)
            found = self._first_known(ngrams(hashes, self._n))
            if found is not None:
                first, owner = found
                end = int(starts[first + self._n]) if first + self._n < len(starts) else None
                return self._told(owner, text.lower()[int(starts[first]) : end].strip())
        for text in questions:
            whole = self._wholes.get(token_hashes(text).tobytes())
            if whole is not None:
                return self._told(whole, text)
        return None

    def _first_known(self, runs: U64) -> tuple[int, int] | None:
        """(place of the first of ``runs`` (R,) that an evaluation text has, that text)."""
        if not len(self._runs):
            return None
        places = np.searchsorted(self._runs, runs).clip(max=len(self._runs) - 1)
        hits = np.flatnonzero(self._runs[places] == runs)
        return (int(hits[0]), int(self._owners[places[hits[0]]])) if len(hits) else None

    def _told(self, owner: int, seen: str) -> Verdict:
        evidence = f"{self._places[owner]}: {seen[:SHOWN]}"
        return Verdict(reason="contamination.evaluation", evidence=evidence)


def evaluation_texts(files: Sequence[Path]) -> Iterator[tuple[str, str]]:
    """(origin, text) of all that evaluation items say: questions, answers, passages, choices.

    Any JSON rows will do; ``id``, ``metadata`` and system messages are left aside.  Raises
    InputError naming file and line.
    """
    for file in files:
        for row in read_rows(file, "evaluation items"):
            if row.fault:
                raise InputError(f"{row.origin}: {row.fault}", remedy="mend that line")
            for text in _texts(row.value):
                yield row.origin, text


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if "://" not in value[:12]:  # where an item is from does not give it away
            yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, dict) and value.get("role") != "system":
        for key, item in value.items():
            if key not in _ASIDE:
                yield from _texts(item)
