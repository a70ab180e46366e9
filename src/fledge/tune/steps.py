"""Answers in steps in; what a process reward model reads of them out.  No torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fledge.core.errors import InputError
from fledge.core.protocols import Progress
from fledge.core.types import Message
from fledge.data.conversations import Rendered
from fledge.data.step_labels import Stepped, read_steps
from fledge.tokenizer.tokenizer import Tokenizer
from fledge.tune.groups import BETTER, Group
from fledge.tune.pairs import PairMaterial, apart_by_prompt
from fledge.tune.preference_config import RewardConfig

SEPARATOR = "\n\n"
"""What ends a step; a step's score is that of the last token of it."""


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
) -> PairMaterial:
    """Read and render all answers, leave out those too long, hold a share of the prompts out.

    Raises InputError when none is left.
    """
    kept: list[tuple[Stepped, Group]] = []
    read = overlong = 0
    for file in files:
        for one in read_steps(file):
            read += 1
            rendered = render_steps(one.prompt, one.steps, tokenizer)
            if len(rendered.ids) > context:
                overlong += 1
                if config.overlong == "error":
                    raise InputError(
                        f"{one.origin}: {len(rendered.ids)} tokens, a row holds {context}",
                        remedy="raise context, or set overlong = 'drop'",
                    )
                continue
            labels = np.array(one.right, dtype=np.float32)
            kept.append((one, Group(answers=(rendered,), marks=(BETTER,), signals=(labels,))))
    if overlong:
        progress.say(
            f"of {read:,} answers, {overlong:,} are longer than {context} tokens: left out"
        )
    if not kept:
        raise InputError(
            f"{', '.join(map(str, files))}: none of {read} answers fits {context} tokens",
            remedy="raise context",
        )
    apart = apart_by_prompt([one.prompt for one, _ in kept], config.held_out, config.seed)
    return PairMaterial(
        trained=[group for (_, group), out in zip(kept, apart, strict=True) if not out],
        held_out=[group for (_, group), out in zip(kept, apart, strict=True) if out],
        read=read,
        truncated=0,
        dropped={"overlong": overlong},
    )
