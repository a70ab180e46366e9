"""A reward model on disk in; scores of answers, or of their steps, out: for filters and for RL."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fledge.core.errors import InputError
from fledge.core.types import Message
from fledge.data.conversations import render
from fledge.model.locate import find_checkpoint
from fledge.model.scorer import Scorer, load_scorer
from fledge.tokenizer.tokenizer import Tokenizer
from fledge.tune.groups import BETTER, Group, Values, row_for
from fledge.tune.pairs import fit_answers
from fledge.tune.reward import LEAST_ROW, at_the_end
from fledge.tune.steps import render_steps
from fledge.tune.verdicts import scores_of_groups


class RewardModel:
    """What ``fledge reward`` made.  A score is a number without unit; only differences count.

    Of two answers to one prompt the first is better with probability s(first - second), s the
    logistic function.  A prompt that does not fit the model is cut from the left.
    """

    def __init__(self, scorer: Scorer, tokenizer: Tokenizer) -> None:
        self._scorer, self._tokenizer = scorer, tokenizer

    @classmethod
    def load(cls, path: Path | str, *, device: str = "cpu") -> RewardModel:
        """The reward model at ``path``; raises InputError when it is none."""
        folder = find_checkpoint(path)
        return cls(load_scorer(folder, device=device), Tokenizer.load(folder))

    def score(self, messages: Sequence[Message], answer: str) -> float:
        """The score of ``answer`` as what the assistant says after ``messages``."""
        return self.score_all([(messages, answer)])[0]

    def score_all(
        self, answered: Sequence[tuple[Sequence[Message], str]], *, cut: bool = False
    ) -> list[float]:
        """The scores of many answers, computed together.

        Raises InputError for an answer that does not fit the model; with ``cut`` such a one is
        judged by its beginning.
        """
        if not answered:
            return []
        groups = [at_the_end(self._group(*one, cut), margins=False) for one in answered]
        return [float(values[0][0]) for values in self._scores(groups)]

    def score_steps(self, messages: Sequence[Message], steps: Sequence[str]) -> list[float]:
        """p(right) of each step of an answer, of a process reward model."""
        if not steps:
            return []
        rendered = render_steps(messages, steps, self._tokenizer)
        self._check(len(rendered.ids))
        (values,) = self._scores([Group(answers=(rendered,), marks=(BETTER,))])
        return [1 / (1 + math.exp(-min(max(float(score), -500), 500))) for score in values[0]]

    def _group(self, messages: Sequence[Message], answer: str, cut: bool) -> Group:
        whole = [*messages, Message(role="assistant", content=answer)]
        learn = frozenset({len(whole) - 1})
        (fitting,) = fit_answers(
            [render(whole, self._tokenizer, learn=learn)], self._scorer.config.context
        )
        longest = self._scorer.config.context
        if cut and len(fitting.ids) > longest:
            ids, mask = fitting.ids[:longest], fitting.mask[:longest]
            fitting = replace(fitting, ids=ids, mask=mask, turns=[longest])
        self._check(len(fitting.ids))
        return Group(answers=(fitting,), marks=(BETTER,))

    def _check(self, tokens: int) -> None:
        longest = self._scorer.config.context
        if tokens > longest:
            raise InputError(
                f"an answer of {tokens} tokens: the reward model reads {longest}",
                remedy="shorten the answer",
            )

    def _scores(self, groups: Sequence[Group]) -> list[tuple[Values, ...]]:
        longest = self._scorer.config.context
        row = row_for(groups, longest, min(longest, LEAST_ROW))
        return scores_of_groups(self._scorer, groups, row)
