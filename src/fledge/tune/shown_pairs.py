"""Preference files in; what the model would read of their first pairs out.  No torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from fledge.tokenizer.tokenizer import Tokenizer
from fledge.tune.groups import BETTER
from fledge.tune.pairs import DROPS, Read, Unusable, group_of, read_pairs


@dataclass(frozen=True, kw_only=True)
class ShownPair:
    """A pair as it is learnt, for people."""

    origin: str
    answers: tuple[dict[str, Any], ...] = ()
    """``side``, ``parts`` (``text``, ``counts``) in order, ``tokens``, ``counted``."""
    cut: bool = False
    """Whether the prompt was cut from the left."""
    left_out: str = ""
    """Why it is not learnt at all, if so."""


def shown_pairs(
    files: Sequence[Path],
    tokenizer: Tokenizer,
    context: int,
    overlong: str,
    count: int,
    read: Read = read_pairs,
) -> Iterator[ShownPair]:
    """The first ``count`` pairs; errors as in ``gather_pairs``."""
    for example in islice((one for file in files for one in read(file)), count):
        try:
            group, cut = group_of(example, tokenizer, context, overlong)
        except Unusable as reason:
            words = DROPS[reason.reason].format(context=context)
            words = words.replace("are ", "is ").replace("have ", "has ").replace("do ", "does ")
            yield ShownPair(origin=example.origin, left_out=words)
            continue
        answers = tuple(
            {
                "side": "chosen" if mark == BETTER else "rejected",
                "parts": [
                    {
                        "text": tokenizer.decode((i for i, _ in part), specials=True),
                        "counts": counts,
                    }
                    for counts, part in groupby(
                        zip(answer.ids, answer.mask, strict=True), key=lambda pair: pair[1]
                    )
                ],
                "tokens": len(answer.ids),
                "counted": sum(answer.mask),
            }
            for answer, mark in zip(group.answers, group.marks, strict=True)
        )
        yield ShownPair(origin=example.origin, answers=answers, cut=cut)
