"""Token shards on disk: a tokens folder in, any stretch of any document out.

``<split>-00000.npy`` holds the tokens of all documents of a shard end to end (uint16 or uint32),
``<split>-00000.offsets.npy`` where each begins (int64, one more than documents), ``index.json``
what there is.  Every document begins with <|endoftext|>.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as parquet
from numpy.typing import NDArray

from fledge.core.errors import InputError
from fledge.core.files import read_json, value_digest


class TokenShards:
    """The documents of one split, memory-mapped.

    ``endoftext_id`` begins every document and ``end_id`` is what its last token predicts: both
    <|endoftext|> unless the tokenizer is a foreign one.  ``lengths`` (N,) tokens of each document;
    ``tokenizer`` the digest of the tokenizer they were written with, empty when unknown.
    Raises InputError naming what is missing or broken.
    """

    def __init__(self, folder: Path, split: str) -> None:
        index = read_json(folder / "index.json")
        try:
            described = index["splits"][split]
            paths = [folder / str(shard["file"]) for shard in described["shards"]]
            self.bytes = int(described["bytes"])
            self.vocab_size = int(index["vocab_size"])
            self.endoftext_id = int(index["endoftext_id"])
            self.end_id = int(index.get("end_id", self.endoftext_id))
            self.tokenizer = str(index.get("tokenizer", ""))
        except (KeyError, TypeError) as error:
            raise InputError(
                f"{folder / 'index.json'}: no {error} for split {split!r}",
                remedy="write the tokens again: fledge tokens",
            ) from None
        self.folder = folder
        self.split = split
        self._digest = value_digest(index)
        self._tokens = [_load(path) for path in paths]
        self._offsets = [_load(path.with_suffix(".offsets.npy")) for path in paths]
        self._paths = paths
        for path, tokens, offsets in zip(paths, self._tokens, self._offsets, strict=True):
            _check(path, tokens, offsets)
        counts = [len(offsets) - 1 for offsets in self._offsets]
        self._first = np.cumsum([0, *counts])  # number of the first document of each shard
        lengths = [np.diff(offsets) for offsets in self._offsets]
        self.lengths: NDArray[np.int64] = np.concatenate([np.zeros(0, np.int64), *lengths])

    @property
    def documents(self) -> int:
        """Number of documents (N)."""
        return len(self.lengths)

    @property
    def tokens(self) -> int:
        """Number of tokens."""
        return int(self.lengths.sum())

    def fingerprint(self) -> str:
        """Names the folder's content, by its index."""
        return f"{self.split}:{self._digest}"

    def read(self, document: int, start: int, stop: int) -> NDArray[Any]:
        """Tokens [start, stop) of a document, fewer at its end; InputError for a foreign token."""
        shard = int(np.searchsorted(self._first, document, side="right")) - 1
        begin = int(self._offsets[shard][document - self._first[shard]])
        end = min(begin + stop, int(self._offsets[shard][document - self._first[shard] + 1]))
        tokens = np.asarray(self._tokens[shard][begin + start : end])
        if len(tokens) and int(tokens.max()) >= self.vocab_size:
            raise InputError(
                f"{self._paths[shard]}: document {document} holds token {int(tokens.max())}, the "
                f"vocabulary of {self.folder / 'index.json'} has {self.vocab_size}",
                remedy="write the tokens again: fledge tokens",
            )
        return tokens

    def document_bytes(self) -> NDArray[np.int64]:
        """UTF-8 bytes of the text of each document, (N,)."""
        path = self.folder / "documents.parquet"
        if not path.is_file():
            raise InputError(f"{path} does not exist", remedy="write the tokens again")
        table = parquet.read_table(path, columns=["split", "shard", "index", "bytes"])
        chosen = table.filter([split == self.split for split in table["split"].to_pylist()])
        rows = chosen.sort_by([("shard", "ascending"), ("index", "ascending")])
        sizes: NDArray[np.int64] = rows["bytes"].to_numpy().astype(np.int64)
        if len(sizes) != self.documents:
            raise InputError(
                f"{path} lists {len(sizes)} {self.split} documents, the shards {self.documents}",
                remedy="write the tokens again",
            )
        return sizes


class Stream:
    """Documents of a split laid end to end in a given order: any window of their tokens."""

    def __init__(self, shards: TokenShards, documents: NDArray[np.int64]) -> None:
        self._shards = shards
        self._documents = documents
        self._starts = np.concatenate([[0], np.cumsum(shards.lengths[documents])])

    @property
    def tokens(self) -> int:
        """Tokens in the stream."""
        return int(self._starts[-1])

    def window(self, begin: int, length: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Tokens [begin, begin + length) and the document of each; shorter at the end."""
        end = min(begin + length, self.tokens)
        tokens: NDArray[np.int64] = np.empty(end - begin, dtype=np.int64)
        owners: NDArray[np.int64] = np.empty(end - begin, dtype=np.int64)
        at, place = begin, int(np.searchsorted(self._starts, begin, side="right")) - 1
        while at < end:
            stop = min(end, int(self._starts[place + 1]))
            document, skip = int(self._documents[place]), at - int(self._starts[place])
            tokens[at - begin : stop - begin] = self._shards.read(document, skip, skip + stop - at)
            owners[at - begin : stop - begin] = document
            at, place = stop, place + 1
        return tokens, owners


def check_alike(shards: Sequence[TokenShards]) -> None:
    """Raise InputError naming two folders that were written with different tokenizers."""
    first = shards[0]
    for other in shards[1:]:
        for what, ours, theirs in (
            ("a vocabulary of", first.vocab_size, other.vocab_size),
            ("<|endoftext|> as token", first.endoftext_id, other.endoftext_id),
            ("the end of a document as token", first.end_id, other.end_id),
            ("the tokenizer", first.tokenizer, other.tokenizer),
        ):
            if ours != theirs and ours != "" and theirs != "":
                raise InputError(
                    f"{first.folder} has {what} {str(ours)[:12]}, {other.folder} "
                    f"{str(theirs)[:12]}: they cannot be mixed",
                    remedy="write both with the same tokenizer: fledge tokens",
                )


def _check(path: Path, tokens: NDArray[Any], offsets: NDArray[Any]) -> None:
    """Raise InputError when a shard's two files do not belong together."""
    problem = ""
    if tokens.ndim != 1 or tokens.dtype.kind not in "ui":
        problem = f"holds {tokens.dtype} of shape {tokens.shape}, not token ids"
    elif offsets.ndim != 1 or offsets.dtype.kind not in "ui" or not len(offsets):
        problem = "its offsets are no list of numbers"
    elif int(offsets[0]) != 0 or int(offsets[-1]) != len(tokens) or (np.diff(offsets) < 0).any():
        problem = f"has {len(tokens)} tokens, its offsets reach from {offsets[0]} to {offsets[-1]}"
    if problem:
        raise InputError(f"token shard {path} {problem}", remedy="write the tokens again")


def _load(path: Path) -> NDArray[Any]:
    try:
        tokens: NDArray[Any] = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise InputError(
            f"token shard {path} cannot be read: {error}", remedy="write the tokens again"
        ) from None
    return tokens
