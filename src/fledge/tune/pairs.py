"""Preference files in; pairs ready to be learnt, and why the others are not, out.  No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from fledge.core.errors import InputError
from fledge.core.protocols import Progress
from fledge.core.types import Message
from fledge.data.conversations import Rendered, TemplateError, render
from fledge.data.examples import kind_of_file
from fledge.data.preferences import Judged, Preference, read_judged, read_preferences
from fledge.tokenizer.tokenizer import Tokenizer
from fledge.tune.gathering import Gathered, Tally
from fledge.tune.groups import BETTER, WORSE, Group
from fledge.tune.preference_config import PairConfig

DROPS = {
    "identical": "have two answers that read the same",
    "empty": "have an answer that says nothing",
    "overlong": "are longer than {context} tokens",
    "refused": "do not fit the chat template",
}
"""Why a pair is left out, for people."""


class Unusable(Exception):
    """A pair that is left out.  ``reason`` is a key of ``DROPS``."""

    def __init__(self, reason: str, error: InputError | None = None) -> None:
        super().__init__(reason)
        self.reason, self.error = reason, error


Read = Callable[[Path], Iterator[Preference | Judged]]


def read_pairs(path: Path) -> Iterator[Preference | Judged]:
    """The pairs of a file; raises InputError where it holds none."""
    yield from read_preferences(path)


def read_judgements(path: Path) -> Iterator[Preference | Judged]:
    """The judged answers of a file, or its pairs."""
    judged = kind_of_file(path) == "judged"
    yield from read_judged(path) if judged else read_preferences(path)


def side_length(config: PairConfig, longest: int, stage: str) -> int:
    """Tokens of a prompt and an answer, for a model of so many; InputError when it is more."""
    context = config.context or longest
    if context > longest:
        raise InputError(
            f"[{stage}] context = {context} exceeds the model's {longest}",
            remedy="pretrain with a longer context",
        )
    return context


def gather_pairs(
    config: PairConfig,
    files: Sequence[Path],
    tokenizer: Tokenizer,
    context: int,
    progress: Progress,
    read: Read = read_pairs,
) -> Gathered[Group]:
    """Read and render all pairs, leave out what teaches nothing, hold a share out.

    Raises InputError when none is left, or with ``overlong = "error"`` for one too long.  Pairs
    of one prompt are held out together, so that what is measured was never seen.
    """
    tally = Tally(noun="pairs", reasons=DROPS)
    kept, prompts = list[Group](), list[tuple[Message, ...]]()
    with progress.bar("preferences", None, "pairs") as bar:
        for file in files:
            for example in read(file):
                tally.read += 1
                try:
                    group, cut = group_of(example, tokenizer, context, config.overlong)
                except Unusable as left_out:
                    tally.drop(left_out.reason, left_out.error)
                else:
                    tally.truncated += cut
                    kept.append(group)
                    prompts.append(example.prompt)
                bar.advance()
    tally.say(context, "whose prompt is cut from the left", progress)
    if not kept:
        raise _nothing_left(tally, files, context)
    return Gathered.of(kept, apart_by_prompt(prompts, config.held_out, config.seed), tally)


def apart_by_prompt(prompts: Sequence[tuple[Message, ...]], share: float, seed: int) -> list[bool]:
    """Which are held out: whole prompts, up to the share asked for; never all."""
    numbers: dict[tuple[Message, ...], int] = {}
    owners = [numbers.setdefault(prompt, len(numbers)) for prompt in prompts]
    sizes = np.bincount(owners)
    order = np.random.Generator(np.random.PCG64([seed, 1])).permutation(len(numbers))
    apart, left = set[int](), int(share * len(prompts))
    for number in order[: len(numbers) - 1]:
        if sizes[number] <= left:
            apart.add(int(number))
            left -= int(sizes[number])
    return [owner in apart for owner in owners]


def group_of(
    example: Preference | Judged, tokenizer: Tokenizer, context: int, overlong: str
) -> tuple[Group, bool]:
    """A pair, or a judged answer, as the model reads it, and whether its prompt was cut.

    Raises Unusable with the reason to leave it out, InputError for a long one with
    ``overlong = "error"``.
    """
    sides, marks, margin = sides_of(example)
    if any(_is_silent(side) for side in sides):
        raise Unusable("empty")
    try:
        whole = [_rendered(example, side, tokenizer) for side in sides]
    except TemplateError as error:
        raise Unusable("refused", error) from None
    if len(whole) == 2 and whole[0].ids == whole[1].ids:
        raise Unusable("identical")
    fitting = fit_answers(whole, context) if overlong == "truncate" else whole
    longest = max(len(one.ids) for one in fitting)
    if longest > context:
        if overlong == "error":
            raise InputError(
                f"{example.origin}: {longest} tokens, an answer with its prompt may have {context}",
                remedy="raise context, or set overlong = 'drop' or 'truncate'",
            )
        raise Unusable("overlong")
    group = Group(answers=tuple(fitting), marks=marks, margin=margin, origin=example.origin)
    return group, len(fitting[0].ids) < len(whole[0].ids)


def sides_of(
    example: Preference | Judged,
) -> tuple[tuple[tuple[Message, ...], ...], tuple[int, ...], float | None]:
    """(answers, their marks, margin) of a pair or a judged answer."""
    if isinstance(example, Preference):
        return (example.chosen, example.rejected), (BETTER, WORSE), example.margin
    return (example.completion,), (BETTER if example.good else WORSE,), None


def _rendered(
    example: Preference | Judged, side: tuple[Message, ...], tokenizer: Tokenizer
) -> Rendered:
    """Prompt and answer; what the assistant says in the answer counts."""
    messages = (*example.prompt, *side)
    spoken = {n for n, one in enumerate(messages) if one.role == "assistant"}
    learn = frozenset(n for n in spoken if n >= len(example.prompt))
    return render(messages, tokenizer, example.tools, example.origin, learn=learn)


def fit_answers(whole: Sequence[Rendered], context: int) -> list[Rendered]:
    """Answers cut from the left, all by as much, so that the longest has ``context`` tokens.

    As they are where that would leave nothing of the prompt.
    """
    excess = max(len(one.ids) for one in whole) - context
    if excess <= 0 or excess >= min(one.mask.index(True) for one in whole):
        return list(whole)
    return [replace(one, ids=one.ids[excess:], mask=one.mask[excess:], turns=[]) for one in whole]


def _is_silent(side: Sequence[Message]) -> bool:
    return not any(one.content.strip() or one.tool_calls for one in side)


def _nothing_left(tally: Tally, files: Sequence[Path], context: int) -> InputError:
    names = ", ".join(map(str, files)) or "no file"
    if tally.first_refusal is not None and not tally.dropped["overlong"]:
        return tally.first_refusal
    if tally.dropped["overlong"]:
        return InputError(
            f"{names}: none of {tally.read} pairs fits {context} tokens",
            remedy="raise context, or set overlong = 'truncate'",
        )
    return InputError(
        f"{names}: none of {tally.read} pairs can teach anything: their answers are empty or alike",
        remedy="check the file with `fledge data check`",
    )
