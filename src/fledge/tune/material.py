"""Conversation files in; what is learnt, what is held out and why the rest is not, out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fledge.core.errors import InputError
from fledge.core.protocols import Progress
from fledge.data.chat_forms import Conversation
from fledge.data.conversations import Rendered, TemplateError, read_conversations, render
from fledge.tokenizer.tokenizer import Tokenizer
from fledge.tune.config import SftConfig
from fledge.tune.gathering import Gathered, Tally

DROPS = {
    "overlong": "are longer than {context} tokens",
    "no_answer": "have no answer to learn",
    "refused": "do not fit the chat template",
}
"""Why a conversation is left out, for people."""


def row_length(config: SftConfig, longest: int) -> int:
    """Tokens of a row, for a model of so many; raises InputError when more are asked for."""
    context = config.context or longest
    if context > longest:
        raise InputError(
            f"[sft] context = {context} exceeds the model's {longest}",
            remedy="pretrain with a longer context",
        )
    return context


def gather(
    config: SftConfig,
    files: Sequence[Path],
    tokenizer: Tokenizer,
    context: int,
    progress: Progress,
) -> Gathered[Rendered]:
    """Read and render all conversations, leave out what cannot be learnt, hold a share out.

    Raises InputError when none is left, or with ``overlong = "error"`` for one too long.
    """
    tally, kept = Tally(noun="conversations", reasons=DROPS), list[Rendered]()
    with progress.bar("conversations", None, "conversations") as bar:
        for file in files:
            for conversation in read_conversations(file):
                rendered = _rendered(config, conversation, tokenizer, context, tally)
                if rendered is not None:
                    kept.append(rendered)
                bar.advance()
    tally.say(context, "cut at the end of a turn", progress)
    if not kept:
        raise _nothing_left(tally, files, context)
    _warn_of_unknown(kept, tokenizer, progress)
    order = np.random.Generator(np.random.PCG64([config.seed, 1])).permutation(len(kept))
    apart = {int(i) for i in order[: int(config.held_out * len(kept))]}
    return Gathered.of(kept, [i in apart for i in range(len(kept))], tally)


def _rendered(
    config: SftConfig,
    conversation: Conversation,
    tokenizer: Tokenizer,
    context: int,
    tally: Tally,
) -> Rendered | None:
    """The conversation as it is learnt, or None when it is left out; either is counted."""
    tally.read += 1
    learn = taught(conversation, config.train_on)
    try:
        whole = render_conversation(conversation, tokenizer, learn) if learn else None
    except TemplateError as error:
        tally.drop("refused", error)
        return None
    fitting = fit(whole, context, config.overlong) if whole is not None else None
    if whole is not None and fitting is None:
        tally.drop("overlong")
        if config.overlong == "error":
            raise InputError(
                f"{conversation.origin}: {len(whole.ids) - 1} tokens, a row holds {context}",
                remedy="raise context, or set overlong = 'drop' or 'truncate'",
            )
        return None
    if fitting is None or not any(fitting.mask):
        tally.drop("no_answer")
        return None
    tally.truncated += fitting is not whole
    return fitting


def taught(conversation: Conversation, train_on: str) -> frozenset[int]:
    """Places of the messages to learn: assistants' that say something and are not excluded."""
    spoken = [
        n
        for n, message in enumerate(conversation.messages)
        if message.role == "assistant" and n not in conversation.untaught
    ]
    chosen = spoken[-1:] if train_on == "last" else spoken
    return frozenset(
        n
        for n in chosen
        if conversation.messages[n].content.strip() or conversation.messages[n].tool_calls
    )


def render_conversation(
    conversation: Conversation, tokenizer: Tokenizer, learn: frozenset[int]
) -> Rendered:
    """``render`` of a whole conversation."""
    return render(
        conversation.messages, tokenizer, conversation.tools, conversation.origin, learn=learn
    )


def fit(conversation: Rendered, context: int, overlong: str) -> Rendered | None:
    """The conversation if it fits a row, its first whole turns with "truncate", or None."""
    longest = context + 1  # the last token is a target only
    if len(conversation.ids) <= longest:
        return conversation
    ends = [turn for turn in conversation.turns if turn <= longest]
    if overlong != "truncate" or not ends:
        return None
    return Rendered(
        ids=conversation.ids[: ends[-1]], mask=conversation.mask[: ends[-1]], turns=ends
    )


def _nothing_left(tally: Tally, files: Sequence[Path], context: int) -> InputError:
    names = ", ".join(map(str, files)) or "no file"
    if tally.first_refusal is not None and not tally.dropped["overlong"]:
        return tally.first_refusal
    if tally.dropped["overlong"] or not tally.read:
        return InputError(
            f"{names}: none of {tally.read} conversations fits {context} tokens",
            remedy="raise context (here and in pretrain), or set overlong = 'truncate'",
        )
    return InputError(
        f"{names}: none of {tally.read} conversations has an answer, so there is nothing to learn",
        remedy="check who speaks: only the assistant's messages are learnt",
    )


def _warn_of_unknown(kept: Sequence[Rendered], tokenizer: Tokenizer, progress: Progress) -> None:
    """Say it when the vocabulary cannot write what is to be learnt."""
    unknown = tokenizer.unknown_id
    targets = [i for one in kept for i, learn in zip(one.ids, one.mask, strict=True) if learn]
    count = targets.count(unknown) if unknown is not None else 0
    if count:
        progress.say(
            f"note: {count:,} of {len(targets):,} target tokens are characters that the "
            "tokenizer cannot write"
        )
