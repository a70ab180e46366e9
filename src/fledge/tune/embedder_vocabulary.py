"""Training texts in, the words of a static embedder's tokenizer out, each with its count."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from fledge.tokenizer.charsmap import plain_characters
from fledge.tokenizer.lexicon import count_words

HAN_RUN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]+")
OTHER_WORD = re.compile(r"[^\W\d_\u3040-\u30ff\u3400-\u9fff]+|\d+")

LONGEST_WORD = 8
"""Characters of a Han word that may become a token."""

LEAST = 3
"""How often a word that no dictionary has must occur."""


def choose_words(
    texts: Sequence[str],
    dictionary: Iterable[str],
    frequencies: Mapping[str, float],
    folding: Mapping[str, str],
    sizes: tuple[int, int],
) -> dict[str, float]:
    """Words and their counts: ``sizes`` = the most Han words, and the most words of other scripts.

    ``dictionary``: words whose meaning the rows tell; only they, and single characters, become
    Han tokens, the most frequent first.  A word that ``frequencies`` lacks has the count with
    which it stands in ``texts``, brought to scale.  All letters, digits and characters of the
    texts are tokens.
    """
    table = str.maketrans(plain_characters(folding))

    def normal(text: str) -> str:
        return text.translate(table)

    known: dict[str, float] = {}
    for word, count in frequencies.items():
        folded = normal(word)
        known[folded] = known.get(folded, 0.0) + count
    folded_texts = [normal(text) for text in texts]
    counted = Counter(word for text in folded_texts for word in OTHER_WORD.findall(text))
    letters: Counter[str] = Counter()
    for text in folded_texts:
        letters.update(text)
    singles = {
        letter: float(count)
        for letter, count in letters.items()
        if count >= LEAST and not letter.isspace()
    }
    told = {normal(word) for word in dictionary}
    told = {word for word in told if HAN_RUN.fullmatch(word) and len(word) <= LONGEST_WORD}
    runs = (run for text in folded_texts for run in HAN_RUN.findall(text) if len(run) > 1)
    fewest = count_words(runs, {*told, *singles}) if told - known.keys() else Counter()
    rates = scale(known, fewest + Counter(singles), True), scale(known, counted, False)
    han = {word: known.get(word, fewest[word] * rates[0]) for word in told if len(word) > 1}
    other = {
        word: known.get(word, counted[word] * rates[1])
        for word in {*counted, *(w for w in known if OTHER_WORD.fullmatch(w))}
        if word in known or counted[word] >= LEAST
    }
    characters = {
        one: known.get(one, count * rates[0 if HAN_RUN.match(one) else 1])
        for one, count in singles.items()
    }
    return {**most(han, sizes[0]), **most(other, sizes[1]), **characters}


def scale(known: Mapping[str, float], counts: Mapping[str, float], han: bool) -> float:
    """What a count in the texts is worth beside the known ones, by the words that have both."""
    both = [w for w in counts if w in known and bool(HAN_RUN.match(w)) == han]
    seen = sum(counts[word] for word in both)
    return sum(known[word] for word in both) / seen if seen else 1.0


def most(counts: Mapping[str, float], size: int) -> dict[str, float]:
    """The ``size`` most frequent; a word that was never met counts half."""
    ordered = sorted(counts, key=lambda word: (-counts[word], word))[:size]
    return {word: max(counts[word], 0.5) for word in ordered}
