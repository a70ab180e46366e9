"""Rows, and perhaps a teacher, in; the table that training starts from out.

A word begins where the teacher puts it, and a word of the other language where the teacher puts
its translations; how much it counts falls with its frequency (SIF, Arora et al., ICLR 2017).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import tokenizers
from numpy.typing import NDArray

from fledge.core.config import Config
from fledge.core.errors import InputError
from fledge.core.files import read_json, read_jsonl
from fledge.tokenizer.charsmap import plain_characters
from fledge.tokenizer.lexicon import lexicon_tokenizer
from fledge.tune.embedder_config import EmbedderConfig, TableConfig
from fledge.tune.embedder_model import TableStudent
from fledge.tune.embedder_rows import HAN, PairRow
from fledge.tune.embedder_vocabulary import choose_words

Vectors = NDArray[np.float32]

MEANT = 0.5
"""Size, beside 1, of the first random vector of a word of which nothing is known."""


class Words(Config):
    """The alphabet of a new table."""

    counts: dict[str, float]
    folding: dict[str, str]

    def tokenizer(self) -> tokenizers.Tokenizer:
        """The tokenizer that knows them."""
        return lexicon_tokenizer(self.counts, self.folding)


def gather_words(config: TableConfig, rows: Sequence[PairRow]) -> Words:
    """The words of a new table; raises InputError for files that are wrong."""
    folding = read_folding(config.folding)
    texts = list(dict.fromkeys(text for row in rows for text in (row.query, row.positive)))
    counts = choose_words(
        texts,
        [row.query for row in rows if row.parallel],
        read_frequencies(config.frequencies),
        folding,
        (config.han_words, config.other_words),
    )
    return Words(counts=counts, folding=folding)


def read_frequencies(file: str | None) -> dict[str, float]:
    """{word: count} of a JSONL file of {word, count}."""
    found: dict[str, float] = {}
    for number, row in enumerate(read_jsonl(Path(file)) if file else (), 1):
        if (
            not isinstance(row, dict)
            or not isinstance(row.get("word"), str)
            or not isinstance(row.get("count"), int | float)
            or not row["count"] > 0
        ):
            raise InputError(
                f"{file}, line {number}: not a word with a count",
                remedy='write {"word": "桥梁", "count": 12}',
            )
        found[row["word"]] = found.get(row["word"], 0.0) + row["count"]
    return found


def read_folding(file: str | None) -> dict[str, str]:
    """The characters of a JSON object, each with what it becomes."""
    found = read_json(Path(file)) if file else {}
    if not isinstance(found, dict) or not all(
        len(key) == 1 and isinstance(value, str) for key, value in found.items()
    ):
        raise InputError(f"{file}: not an object of single characters", remedy="mend the file")
    return found


def new_table(
    config: EmbedderConfig, words: Words, rows: Sequence[PairRow], meanings: Mapping[str, Vectors]
) -> TableStudent:
    """A table of ``words``; ``meanings`` are vectors of texts: the words', the rows' ``taught``.

    Without meanings the table is random.
    """
    tokenizer = words.tokenizer()
    vocabulary = tokenizer.get_vocab()
    D = config.table.dimensions
    generator = np.random.Generator(np.random.PCG64([config.seed, len(vocabulary)]))
    table = generator.normal(size=(len(vocabulary), D)) * (MEANT / D**0.5)
    sums, told = np.zeros_like(table), np.zeros(len(vocabulary))
    fold = folded(words.folding)
    for text, number in vocabulary.items():
        if text in meanings:
            sums[number], told[number] = meanings[text], 1
    for row in rows:
        shown = row.taught[0]
        if row.parallel and shown in meanings and shown is not None:
            known = vocabulary.get(fold(row.query))
            if known is not None:
                sums[known] += meanings[shown]
                told[known] += 1
    there = (told > 0) & (np.linalg.norm(sums, axis=1) > 0)
    table[there] = sums[there] / np.linalg.norm(sums[there], axis=1, keepdims=True)
    return TableStudent(
        table.astype(np.float32),
        first_weights(words, vocabulary, config.table.smoothing),
        tokenizer,
        context=config.max_tokens,
        storage=config.table.storage,
    )


def first_weights(
    words: Words, vocabulary: Mapping[str, int], smoothing: float
) -> NDArray[np.float32]:
    """a / (a + p): p is a word's share of the words of its script, Han or other."""
    totals = [0.0, 0.0]
    for word, count in words.counts.items():
        totals[bool(HAN.match(word))] += count
    weights = np.zeros(len(vocabulary), dtype=np.float32)
    for word, number in vocabulary.items():
        if word in words.counts:
            share = words.counts[word] / totals[bool(HAN.match(word))]
            weights[number] = smoothing / (smoothing + share)
    return weights


def folded(folding: Mapping[str, str]) -> Callable[[str], str]:
    """What the tokenizer makes of a text before it cuts it."""
    table = str.maketrans(plain_characters(folding))
    return lambda text: text.translate(table)
