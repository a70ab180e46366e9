"""Words with counts in, a tokenizer that cuts texts into them out: for scripts without spaces, too.

A text is folded character by character, cut at spaces and punctuation, and each piece becomes the
likeliest sequence of known words (a unigram model, arXiv:1804.10959, found by Viterbi).
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping

from tokenizers import Tokenizer, models, pre_tokenizers

from fledge.tokenizer.charsmap import mapping_normalizer, plain_characters

UNKNOWN = "[UNK]"
"""The token, number 0, of what no word covers."""

PENALTY = 4.0
"""Nats that each further word costs: a known word is not taken apart into frequent pieces."""


def lexicon_tokenizer(
    counts: Mapping[str, float], folding: Mapping[str, str] | None = None
) -> Tokenizer:
    """A tokenizer whose tokens are ``counts``' words, the more frequent before the rarer.

    ``folding`` is applied after ``plain_characters``; words must be folded already.
    """
    total = sum(counts.values())
    ordered = sorted(counts, key=lambda word: (-counts[word], word))
    scores = [(word, round(math.log(counts[word] / total) - PENALTY, 3)) for word in ordered]
    tokenizer = Tokenizer(models.Unigram([(UNKNOWN, 0.0), *scores], unk_id=0))
    tokenizer.normalizer = mapping_normalizer(plain_characters(folding or {}))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def count_words(
    texts: Iterable[str], candidates: Iterable[str], folding: Mapping[str, str] | None = None
) -> Counter[str]:
    """How often each candidate stands in the texts when they are cut into the fewest words."""
    tokenizer = lexicon_tokenizer(dict.fromkeys(candidates, 1.0), folding)
    found: Counter[int] = Counter()
    remaining = iter(texts)
    while batch := list(itertools.islice(remaining, 4096)):
        for encoding in tokenizer.encode_batch_fast(batch, add_special_tokens=False):
            found.update(encoding.ids)
    return Counter({str(tokenizer.id_to_token(number)): n for number, n in found.items() if number})
