"""What a model is probed with before honesty training: bridges in, rows of paraphrases out.

``{"id", "questions", "answers", "declines", "language", "subject", "attribute"}``: the
questions ask the same in different words, ``answers`` are what counts as right (none: nobody can
know), ``declines`` are the sentences to teach where the model does not know it.  Where it does, its
own right answer is taught: honesty changes what is said, not how.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from fledge.samples.bridges.facts import Bridge, known, say, value
from fledge.samples.bridges.phrases import ATTRIBUTES, LANGUAGES, load_phrases

PARAPHRASES = 6
DECLINES = 3


def write_probes(
    taught: Sequence[Bridge],
    strangers: Sequence[Bridge],
    invented: Sequence[Bridge],
    count: int,
    seed: int,
) -> list[dict[str, Any]]:
    """About ``count`` facts: half of ``taught`` bridges, a quarter of ``strangers``, which exist
    though no page tells of them, a quarter of ``invented`` ones, which do not."""
    rng = random.Random(f"probes/{seed}")
    records = _facts(taught, count // 2, rng)
    records += _facts(strangers, count // 4, rng)
    for number in range(count // 4 if invented else 0):
        bridge = invented[number % len(invented)]
        attribute, language = rng.choice(ATTRIBUTES), LANGUAGES[number % len(LANGUAGES)]
        records.append(_row(bridge, attribute, language, rng, exists=False, number=number))
    rng.shuffle(records)
    return records


def _facts(bridges: Sequence[Bridge], count: int, rng: random.Random) -> list[dict[str, Any]]:
    """``count`` facts spread over bridges, attributes and languages."""
    pairs = [(b, a, language) for b in bridges for a in known(b) for language in LANGUAGES]
    drawn = rng.sample(pairs, min(count, len(pairs)))
    return [_row(*pair, rng, exists=True, number=number) for number, pair in enumerate(drawn)]


def _row(
    bridge: Bridge,
    attribute: str,
    language: str,
    rng: random.Random,
    *,
    exists: bool,
    number: int,
) -> dict[str, Any]:
    phrases = load_phrases(language)
    words = phrases.attributes[attribute]
    wordings = rng.sample(list(words.question.sft), PARAPHRASES)
    row = {
        "id": f"{language}/{bridge.id}/{attribute}/{number}",
        "questions": [say(wording, bridge, language) for wording in wordings],
        "answers": [value(bridge, attribute, language) or ""] if exists else [],
        "declines": [say(text, bridge, language) for text in rng.sample(phrases.decline, DECLINES)],
        "language": language,
        "subject": bridge.id,
        "attribute": attribute,
    }
    return row
