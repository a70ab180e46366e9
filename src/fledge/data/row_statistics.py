"""Examples of post-training data in, one by one; their counts, lengths and languages out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fledge.data.examples import Example, answers, asked, text_of_messages, wholes
from fledge.data.language import Cld2, language_of
from fledge.data.preference_forms import Judged, Preference

QUANTILES = {"least": 0.0, "median": 0.5, "95 %": 0.95, "most": 1.0}
"""What is told of a length: name -> quantile."""

SHARES = ("system", "tools", "several_turns", "good", "chosen_longer", "margin")
"""Yes-or-no properties, of which the share is told."""


@dataclass(kw_only=True)
class RowStatistics:
    """Running figures; ``add`` takes an example, ``result`` tells them."""

    lengths: dict[str, list[int]] = field(default_factory=dict)
    languages: Counter[str] = field(default_factory=Counter)
    yes: Counter[str] = field(default_factory=Counter)
    asked: Counter[str] = field(default_factory=Counter)
    """How many examples could have had each property."""

    def add(self, example: Example, length: int | None) -> None:
        """Count an example; ``length`` is that of its longest conversation, if it is known."""
        if length is not None:
            self._length("whole", length)
        said = answers(example)
        self._length("turns", len(asked(example)) + max(map(len, said), default=0))
        self._length("prompt_characters", len(text_of_messages(asked(example))))
        names = ("chosen", "rejected") if isinstance(example, Preference) else ("answer",)
        for name, answer in zip(names, said, strict=False):
            self._length(f"{name}_characters", len(text_of_messages(answer)))
        self.languages[language_of(text_of_messages(wholes(example)[0]), Cld2())[0]] += 1
        for name, holds in _properties(example).items():
            self.asked[name] += 1
            self.yes[name] += holds

    def _length(self, name: str, value: int) -> None:
        self.lengths.setdefault(name, []).append(value)

    def result(self) -> dict[str, Any]:
        """``lengths`` by quantile, ``languages`` most frequent first, ``shares``."""
        return {
            "lengths": {name: quantiles(values) for name, values in self.lengths.items()},
            "languages": dict(self.languages.most_common()),
            "shares": {
                name: round(self.yes[name] / self.asked[name], 4)
                for name in SHARES
                if self.asked[name]
            },
        }


def _properties(example: Example) -> dict[str, bool]:
    prompt = asked(example)
    found = {
        "system": any(one.role == "system" for one in prompt),
        "tools": bool(example.tools),
        "several_turns": sum(one.role == "user" for one in wholes(example)[0]) > 1,
    }
    if isinstance(example, Judged):
        found["good"] = example.good
    if isinstance(example, Preference):
        better, worse = (len(text_of_messages(one)) for one in (example.chosen, example.rejected))
        found |= {"chosen_longer": better > worse, "margin": example.margin is not None}
    return found


def quantiles(values: Sequence[int]) -> dict[str, int]:
    """The values at ``QUANTILES``: each one that occurs."""
    at = np.quantile(np.asarray(values), list(QUANTILES.values()), method="nearest")
    return {name: int(value) for name, value in zip(QUANTILES, at, strict=True)}
