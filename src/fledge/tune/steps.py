"""Answers in steps in; what a process reward model reads of them out.  No torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fledge.core.errors import InputError
from fledge.core.protocols import Progress
from fledge.core.types import Message
from fledge.data.conversations import Rendered
from fledge.data.step_labels import read_steps
from fledge.tokenizer.tokenizer import Tokenizer
from fledge.tune.gathering import Gathered, Tally
from fledge.tune.groups import BETTER, Group
from fledge.tune.pairs import apart_by_prompt
from fledge.tune.preference_config import RewardConfig

SEPARATOR = "\n\n"
"""What ends a step; a step's score is that of the last token of it."""


DROPS = {"overlong": "are longer than {context} tokens"}
"""Why an answer is left out, for people."""


def render_steps(prompt: Sequence[Message], steps: Sequence[str], tokenizer: Tokenizer) -> Rendered:
    """The prompt and the beginning of an answer; the last token of each step counts.

    Each step is encoded by itself, so that what follows never changes its tokens.
    """
    openai = [message.to_openai() for message in prompt]
    ids = tokenizer.encode_chat(openai, add_generation_prompt=True)
    mask = [False] * len(ids)
    for step in steps:
        more = tokenizer.encode_continuing(step.strip() + SEPARATOR)
        ids, mask = ids + more, mask + [False] * (len(more) - 1) + [True]
    return Rendered(ids=ids, mask=mask, turns=[])


def gather_steps(
    config: RewardConfig,
    files: Sequence[Path],
    tokenizer: Tokenizer,
    context: int,
    progress: Progress,
) -> Gathered[Group]:
    """Read and render all answers, leave out those too long, hold a share of the prompts out.

    Raises InputError when none is left.
    """
    tally = Tally(noun="answers", reasons=DROPS)
    kept, prompts = list[Group](), list[tuple[Message, ...]]()
    for file in files:
        for one in read_steps(file):
            tally.read += 1
            rendered = render_steps(one.prompt, one.steps, tokenizer)
            if len(rendered.ids) > context:
                tally.drop("overlong")
                if config.overlong == "error":
                    raise InputError(
                        f"{one.origin}: {len(rendered.ids)} tokens, a row holds {context}",
                        remedy="raise context, or set overlong = 'drop'",
                    )
                continue
            labels = np.array(one.right, dtype=np.float32)
            kept.append(Group(answers=(rendered,), marks=(BETTER,), signals=(labels,)))
            prompts.append(one.prompt)
    tally.say(context, "cut", progress)
    if not kept:
        raise InputError(
            f"{', '.join(map(str, files))}: none of {tally.read} answers fits {context} tokens",
            remedy="raise context",
        )
    return Gathered.of(kept, apart_by_prompt(prompts, config.held_out, config.seed), tally)
