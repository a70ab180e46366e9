"""Answers in, rewards out: the verifiers' scores weighed and added; a failing one counts as 0."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from fledge.core.config import nearest
from fledge.core.errors import InputError
from fledge.core.types import Message
from fledge.tune.prompts import Prompt
from fledge.tune.reinforce_config import TASK
from fledge.tune.verifiers import VERIFIERS, Score, Verifier, check_reference

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What an answer earned."""

    reward: float
    parts: Mapping[str, float] = field(default_factory=dict)
    """Score of each verifier, not weighed."""
    reasons: Mapping[str, str] = field(default_factory=dict)
    failures: int = 0
    """Verifiers that raised, hung or gave no number."""


class Judge:
    """Weighs the scores of several verifiers."""

    def __init__(
        self,
        weights: Mapping[str, float],
        task: str,
        seconds: float,
        more: Mapping[str, Verifier] | None = None,
    ) -> None:
        """``weights``: verifier -> weight; ``task`` judges prompts that name no verifier.

        ``seconds``: what a verifier may take for one answer.  ``more``: verifiers besides the
        built-in ones.  Raises InputError for a name that nobody bears.
        """
        self._weights, self._task, self._seconds = dict(weights), task, seconds
        self._verifiers = {**VERIFIERS, **(more or {})}
        for name in (*(name for name in weights if name != TASK), task):
            self._find(name, "rewards")

    def check(self, prompts: Sequence[Prompt]) -> None:
        """Raise InputError for a prompt that cannot be judged."""
        for prompt in prompts:
            for name in self._weights:
                chosen = self._named(name, prompt)
                self._find(chosen, prompt.origin)
                check_reference(chosen, prompt.reference, prompt.origin)

    def judge(self, prompt: Prompt, said: Sequence[Message], answer: str) -> Judged:
        """The reward of an answer; ``said``: what came between the prompt and it."""
        parts: dict[str, float] = {}
        reasons: dict[str, str] = {}
        failures = 0
        for name in self._weights:
            chosen = self._named(name, prompt)
            score, failed = self._score(chosen, prompt, said, answer)
            parts[name], reasons[name] = score
            failures += failed
        total = sum(self._weights[name] * value for name, value in parts.items())
        return Judged(reward=total, parts=parts, reasons=reasons, failures=failures)

    def _named(self, name: str, prompt: Prompt) -> str:
        return (prompt.verifier or self._task) if name == TASK else name

    def _find(self, name: str, where: str) -> Verifier:
        if name not in self._verifiers:
            raise InputError(
                f"{where}: there is no verifier {name!r}", remedy=nearest(name, [*self._verifiers])
            )
        return self._verifiers[name]

    def _score(
        self, name: str, prompt: Prompt, said: Sequence[Message], answer: str
    ) -> tuple[Score, bool]:
        """The score, and whether the verifier failed."""
        verifier, messages = self._verifiers[name], (*prompt.messages, *said)
        try:
            score = within(lambda: verifier(messages, answer, prompt.reference), self._seconds)
            score = Score(float(score[0]), str(score[1]))
        except TimeoutError:
            return Score(0.0, f"failed: {name} took more than {self._seconds:g} s"), True
        except Exception as error:  # whatever a verifier does, training goes on
            return Score(0.0, f"failed: {type(error).__name__}: {error}"[:200]), True
        if not math.isfinite(score.reward):
            return Score(0.0, f"failed: {name} gave {score.reward}"), True
        return score, False


def within(call: Callable[[], Result], seconds: float) -> Result:
    """What ``call`` returns, or raises; raises TimeoutError after ``seconds``.

    Python cannot end a thread: one that hangs is left behind, and dies with the process.
    """
    done: dict[str, Any] = {}

    def work() -> None:
        try:
            done["result"] = call()
        except BaseException as error:  # handed to the caller, whatever it is
            done["error"] = error

    thread = threading.Thread(target=work, name="fledge-verifier", daemon=True)
    thread.start()
    thread.join(seconds)
    if "error" in done:
        raise done["error"]
    if "result" not in done:
        raise TimeoutError
    result: Result = done["result"]
    return result
