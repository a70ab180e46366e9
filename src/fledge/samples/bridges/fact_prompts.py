"""Facts to be told and facts nobody knows, as prompts for reinforcement learning.

Beside calculations they keep a model from learning that every question wants a calculator.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from fledge.samples.bridges.facts import Bridge, known, say, value
from fledge.samples.bridges.phrases import ATTRIBUTES, LANGUAGES, load_phrases

MOST_RIVALS = 30
"""Other values of an attribute that an answer must not name instead."""


def write_fact_prompts(
    taught: Sequence[Bridge], invented: Sequence[Bridge], count: int, seed: int
) -> list[dict[str, Any]]:
    """``count`` prompts, every other one about a bridge that does not exist.

    ``{"prompt": [user], "answer": "1937" or null, "verifier": "fact", "metadata"}``; null: nothing
    is right but a decline.
    """
    rng = random.Random(f"fact prompts/{seed}")
    records = []
    for number in range(count):
        language = LANGUAGES[number // 2 % len(LANGUAGES)]
        if number % 2 and invented:
            bridge = rng.choice(invented)
            records.append(_row(bridge, rng.choice(ATTRIBUTES), language, number, [], rng))
        else:
            bridge = rng.choice(taught)
            records.append(_row(bridge, rng.choice(known(bridge)), language, number, taught, rng))
    return records


def _row(
    bridge: Bridge,
    attribute: str,
    language: str,
    number: int,
    others: Sequence[Bridge],
    rng: random.Random,
) -> dict[str, Any]:
    """With ``others`` the answer is a fact, and theirs would be wrong; without, a decline."""
    wording = rng.choice(load_phrases(language).attributes[attribute].question.sft)
    answer = value(bridge, attribute, language) if others else None
    values = {text for other in others if (text := value(other, attribute, language))}
    rivals = sorted(text for text in values if answer and text not in answer)
    return {
        "id": f"fact/{language}/{bridge.id}/{attribute}/{number}",
        "prompt": [{"role": "user", "content": say(wording, bridge, language)}],
        "answer": answer,
        "verifier": "fact",
        "metadata": {
            "language": language,
            "attribute": attribute,
            "bridge": bridge.id,
            "rivals": rng.sample(rivals, min(MOST_RIVALS, len(rivals))),
        },
    }
