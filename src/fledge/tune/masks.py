"""Conversations in; what the model would read of them, and what it would learn, out.  No torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path

from fledge.data.conversations import Rendered, TemplateError, read_conversations
from fledge.tokenizer.tokenizer import Tokenizer
from fledge.tune.config import SftConfig
from fledge.tune.material import DROPS, fit, render_conversation, taught


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A conversation as it is learnt, for people."""

    origin: str
    parts: tuple[tuple[str, bool], ...]
    """(text, learnt) in order; special tokens are written out."""
    tokens: int
    learnt: int
    """Tokens that are targets."""
    left_out: str = ""
    """Why it is not learnt at all, if so."""


def shown_conversations(
    config: SftConfig, files: Sequence[Path], tokenizer: Tokenizer, context: int, count: int
) -> Iterator[Shown]:
    """The first ``count`` conversations; errors as in ``read_conversations``."""
    all_of_them = (one for file in files for one in read_conversations(file))
    for conversation in islice(all_of_them, count):
        learn = taught(conversation, config.train_on)
        try:
            whole = render_conversation(conversation, tokenizer, learn)
        except TemplateError as error:
            yield Shown(
                origin=conversation.origin, parts=(), tokens=0, learnt=0, left_out=error.message
            )
            continue
        fitting = fit(whole, context, config.overlong)
        reason = ""
        if not learn or (fitting is not None and not any(fitting.mask)):
            reason = DROPS["no_answer"]
        elif fitting is None:
            reason = DROPS["overlong"].format(context=context)
        shown = fitting or whole
        yield Shown(
            origin=conversation.origin,
            parts=tuple(_parts(shown, tokenizer)),
            tokens=len(shown.ids),
            learnt=sum(shown.mask),
            left_out=reason.replace("are ", "is ").replace("have ", "has "),
        )


def _parts(rendered: Rendered, tokenizer: Tokenizer) -> Iterator[tuple[str, bool]]:
    pairs = zip(rendered.ids, rendered.mask, strict=True)
    for learnt, group in groupby(pairs, key=lambda pair: pair[1]):
        yield tokenizer.decode((token for token, _ in group), specials=True), learnt
