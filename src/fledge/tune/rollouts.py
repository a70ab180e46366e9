"""An engine and prompts in, answers with all that was said in between out.

The answers to a prompt are drawn together and share its keys and values.  Where an answer calls
tools, or its thinking span is closed for it, it goes on: what it did not draw itself is not learnt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from fledge.core.protocols import Tool
from fledge.core.types import Message
from fledge.engine.bulk import Bulk, Drawn, Wanted
from fledge.engine.engine import Engine
from fledge.tune.prompts import Prompt
from fledge.tune.reinforce_config import ReinforceConfig
from fledge.tune.tool_turns import (
    THINK,
    THOUGHT,
    answer_calls,
    described,
    leading_on,
    read_turn,
    spoken,
)

Finish = Literal["stop", "length", "rounds"]


@dataclass(kw_only=True)
class Answered:
    """An answer to a prompt, finished or on its way."""

    prompt: Prompt
    sample: int
    """Its place among the answers to the prompt."""
    ids: list[int]
    """Prompt, answer, and what others said in between."""
    learnt: list[bool]
    """Which of ``ids`` the model drew."""
    drawn: list[float]
    """log p of each drawn token as the engine drew it, in nats; 0 elsewhere."""
    said: list[Message] = field(default_factory=list)
    """Turns that called tools, and the results."""
    text: str = ""
    """The last turn without its thinking."""
    finish: Finish | None = None
    """"stop", "length" (cut off) or "rounds" (calls, but no more turns)."""
    rounds: int = 0
    broken: int = 0
    """Calls that were none."""
    begun: int = 0
    """Where the present turn begins in ``ids``."""

    @property
    def tokens(self) -> int:
        """Tokens that the model drew."""
        return sum(self.learnt)


class Drawer(Protocol):
    """What draws for one set of weights (``engine.bulk.Bulk``)."""

    def draw(self, requests: Sequence[Wanted]) -> list[list[Drawn]]:
        """The answers to each request, in order."""
        ...


class Roller:
    """Draws answers as a config says."""

    def __init__(
        self,
        config: ReinforceConfig,
        tools: Mapping[str, Tool],
        drawer: Callable[[Engine, float], Drawer] = Bulk,
    ) -> None:
        self._config, self._tools, self._drawer = config, tools, drawer
        shown = described(tools) if config.list_tools else []
        self.described: list[dict[str, Any]] = shown
        """The tools as prompts show them."""

    def roll(
        self, engine: Engine, prompts: Sequence[Prompt], group: int, key: Sequence[int]
    ) -> list[Answered]:
        """``group`` answers to each prompt, prompt by prompt.

        ``key`` names the rollout: an answer depends on it, on the prompt's place and on its own,
        and on nothing else that is drawn.
        """
        config = self._config
        drawer = self._drawer(engine, config.temperature)
        budget = config.think_tokens or config.max_new_tokens
        made = drawer.draw(
            [
                Wanted(
                    prompt=prompt.ids,
                    tokens=min(budget, engine.context - len(prompt.ids)),
                    seed=seed_of(*key, place, 0),
                    n=group,
                )
                for place, prompt in enumerate(prompts)
            ]
        )
        answers: list[Answered] = []
        for prompt, several in zip(prompts, made, strict=True):
            for sample, one in enumerate(several):
                answer = _begun(prompt, sample)
                answers.append(answer)
                self._take(engine, answer, one)
        turn = 0
        while going := [n for n, answer in enumerate(answers) if answer.finish is None]:
            turn += 1
            made = drawer.draw(
                [
                    Wanted(
                        prompt=tuple(answers[n].ids),
                        tokens=self._left(engine, answers[n]),
                        seed=seed_of(*key, n, turn),
                    )
                    for n in going
                ]
            )
            for n, (one,) in zip(going, made, strict=True):
                self._take(engine, answers[n], one)
        return answers

    def _left(self, engine: Engine, answer: Answered) -> int:
        """Tokens it may still draw."""
        left = self._config.max_new_tokens - answer.tokens
        return min(left, engine.context - len(answer.ids))

    def _take(self, engine: Engine, answer: Answered, made: Drawn) -> None:
        """Add what was drawn; decide whether and how the answer goes on."""
        answer.ids += made.tokens
        answer.learnt += [True] * len(made.tokens)
        answer.drawn += made.logprobs
        stopped = made.stopped
        if stopped:
            self._end_turn(engine, answer)
        elif self._thinks(engine, answer):
            closing = engine.tokenizer.encode_with_specials(THOUGHT)
            if self._left(engine, answer) > len(closing):
                self._append(answer, closing)
        if answer.finish is None and self._left(engine, answer) < 1:
            answer.finish = "length"
        if answer.finish is not None and not stopped:
            answer.text = read_turn(engine.tokenizer, answer.ids[answer.begun :]).text

    def _thinks(self, engine: Engine, answer: Answered) -> bool:
        """Whether the turn is within a thinking span."""
        whole = engine.tokenizer.decode(answer.ids[answer.begun :], specials=True)
        return whole.rfind(THINK) > whole.rfind(THOUGHT)

    def _end_turn(self, engine: Engine, answer: Answered) -> None:
        """The turn has come to its end: answer its calls, if it made any."""
        turn = read_turn(engine.tokenizer, answer.ids[answer.begun : -1], len(answer.said))
        answer.text, answer.broken = turn.text, answer.broken + turn.broken
        if not (self._tools and turn.calls):
            answer.finish = "stop"
            return
        answer.rounds += 1
        results = answer_calls(turn, self._tools, self._config.verifier_seconds)
        before = [*answer.prompt.messages, *answer.said, spoken(turn)]
        answer.said += [spoken(turn), *results]
        if answer.rounds >= self._config.rounds:
            answer.finish = "rounds"
            return
        between = leading_on(engine.tokenizer, before, results, self.described, engine.stop_ids)
        if len(answer.ids) + len(between) >= engine.context:
            answer.finish = "length"  # no room to read the results, let alone to answer
            return
        self._append(answer, between)
        answer.begun = len(answer.ids)

    def _append(self, answer: Answered, ids: Sequence[int]) -> None:
        """Tokens that the model reads and did not draw."""
        answer.ids += ids
        answer.learnt += [False] * len(ids)
        answer.drawn += [0.0] * len(ids)


def _begun(prompt: Prompt, sample: int) -> Answered:
    size = len(prompt.ids)
    return Answered(
        prompt=prompt,
        sample=sample,
        ids=list(prompt.ids),
        learnt=[False] * size,
        drawn=[0.0] * size,
        begun=size,
    )


def seed_of(*key: int) -> int:
    """A seed of 62 bits from whole numbers: different keys, different seeds."""
    digest = hashlib.sha256(",".join(map(str, key)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 2
