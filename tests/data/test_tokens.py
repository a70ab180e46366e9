"""Token shards: what is in them, where documents begin, what the index says."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from web_pages import prose

from fledge.core.errors import InputError
from fledge.core.files import file_digest, files_below, read_json
from fledge.data.config import CorpusConfig, TokensConfig
from fledge.data.corpus import build_corpus
from fledge.data.documents import read_documents
from fledge.data.tokens import shard_files, write_tokens


class Bytes:
    """A tokenizer whose tokens are bytes."""

    endoftext_id = 256
    end_id = 256

    def __init__(self, vocab_size: int = 257) -> None:
        self.vocab_size = vocab_size

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        return [list(text.encode("utf-8")) for text in texts]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("tokens")
    for number in range(12):
        (base / f"{number:02d}.txt").write_text(prose(number, 6) + " <|endoftext|> 桥")
    build_corpus(CorpusConfig(workers=1, validation=["0[0-2].txt"]), [base], base / "out")
    return base / "out"


def test_shards_hold_the_documents(corpus: Path, tmp_path: Path) -> None:
    outcome = write_tokens(TokensConfig(shard_tokens=2500), corpus, Bytes(), tmp_path)
    for split in ("train", "validation"):
        texts = []
        for ids_file, offsets_file in shard_files(tmp_path, split):
            ids, offsets = np.load(ids_file, mmap_mode="r"), np.load(offsets_file)
            assert ids.dtype == np.uint16
            assert offsets.dtype == np.int64
            assert (offsets[0], offsets[-1]) == (0, len(ids))
            assert len(ids) <= 2500
            for start, end in pairwise(offsets):
                assert ids[start] == 256
                texts.append(bytes(ids[start + 1 : end].astype(np.uint8)).decode())
        assert texts == [document.text for document in read_documents(corpus, split)]
    assert len(shard_files(tmp_path, "train")) > 1
    assert outcome.counts["validation_documents"] == 3


def test_index_and_documents_agree(corpus: Path, tmp_path: Path) -> None:
    write_tokens(TokensConfig(shard_tokens=2500), corpus, Bytes(), tmp_path)
    index = read_json(tmp_path / "index.json")
    rows = pq.read_table(tmp_path / "documents.parquet").to_pylist()
    assert (index["dtype"], index["vocab_size"]) == ("uint16", 257)
    for split in ("train", "validation"):
        documents = list(read_documents(corpus, split))
        mine = [row for row in rows if row["split"] == split]
        assert [row["id"] for row in mine] == [document.id for document in documents]
        assert [row["bytes"] for row in mine] == [len(d.text.encode()) for d in documents]
        sums = index["splits"][split]
        assert sums["bytes"] == sum(row["bytes"] for row in mine)
        assert sums["tokens"] == sum(row["tokens"] for row in mine) == sums["bytes"] + len(mine)
        assert sums["languages"]["en"]["documents"] == len(mine)
        for row in mine:
            offsets = np.load(tmp_path / f"{split}-{row['shard']:05d}.offsets.npy")
            assert offsets[row["index"] + 1] - offsets[row["index"]] == row["tokens"]


def test_wide_vocabularies_and_repeats(corpus: Path, tmp_path: Path) -> None:
    config = TokensConfig(shard_tokens=2500)
    write_tokens(config, corpus, Bytes(), tmp_path)
    write_tokens(TokensConfig(), corpus, Bytes(70_000), tmp_path)  # leaves nothing of the first
    files = {path.name: file_digest(path) for path in files_below(tmp_path)}
    assert len(shard_files(tmp_path, "train")) == 1
    assert np.load(tmp_path / "train-00000.npy").dtype == np.uint32
    write_tokens(TokensConfig(), corpus, Bytes(70_000), tmp_path)
    assert {path.name: file_digest(path) for path in files_below(tmp_path)} == files


def test_a_folder_without_documents_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no documents"):
        write_tokens(TokensConfig(), tmp_path, Bytes(), tmp_path / "out")
