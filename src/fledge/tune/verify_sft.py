"""Checks of fine-tuning data: what the real loader teaches, against the messages themselves."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

from fledge.core.types import Message
from fledge.data.conversations import Rendered, TemplateError, read_conversations
from fledge.tokenizer.template import CHAT_TEMPLATE
from fledge.tokenizer.tokenizer import Tokenizer
from fledge.train.batch import Batch
from fledge.train.verify.check import Check, CheckFunction, Subject, skipped
from fledge.train.verify.rows import judge_masks
from fledge.tune.loader import ConversationLoader
from fledge.tune.material import render_conversation, taught
from fledge.tune.turns import chat_tokenizer
from fledge.tune.vocabulary import never_chatted

CONVERSATIONS = 200
"""Read from each file."""


@dataclass(frozen=True, kw_only=True)
class Taught:
    """Conversations as ``sft`` would learn them."""

    tokenizer: Tokenizer
    """With the turn tokens that ``sft`` would add."""
    extended: bool
    rendered: list[Rendered]
    answers: list[list[Message]]
    """Of each conversation, the messages to learn."""
    overlong: int
    refused: int

    def letter_by_letter(self) -> bool:
        """Whether learnt text equals the messages' text: our template, a lossless tokenizer."""
        contents = [message.content for answers in self.answers for message in answers]
        kept = all(self.written(text) == text for text in contents)
        return kept and self.tokenizer.chat_template == CHAT_TEMPLATE

    def written(self, text: str) -> str:
        """What is left of a text that went through the tokenizer: all of it, unless it is lossy."""
        return self.tokenizer.decode(self.tokenizer.encode(text), specials=True)


def answers_only(subject: Subject) -> Check:
    """What is learnt, decoded, is the assistants' messages: all of each, and nothing else."""
    name, read = "answers-only", _read(subject)
    if isinstance(read, str):
        return skipped(name, read)
    exact = read.letter_by_letter()
    keep = [  # how another template writes tool calls is not known here
        n
        for n, answers in enumerate(read.answers)
        if exact or not any(message.tool_calls for message in answers)
    ]
    if not keep:
        return skipped(name, "tool calls only, by another template or a lossy tokenizer")
    batch = _batch(subject, [read.rendered[n] for n in keep])
    trim = str if exact else str.strip
    learnt = Counter(trim(_said(targets, read.tokenizer)) for targets in _learnt(batch))
    said = Counter(
        trim(read.written(_spoken(message))) for n in keep for message in read.answers[n]
    )
    extra, missing = learnt - said, said - learnt
    first = next(iter([*extra, *missing]), None)
    left = (
        f"left out: {read.overlong} longer than the context, {read.refused} that do not fit the "
        f"template, {len(read.answers) - len(keep)} with tool calls in another's form"
    )
    return Check(
        name,
        not extra and not missing,
        f"{sum(said.values())} answers in {len(keep)} conversations ({left}); stretches "
        f"learnt that are no whole answer: {sum(extra.values())}, answers not learnt: "
        f"{sum(missing.values())}" + (f"; first: {first[:60]!r}" if first else ""),
    )


def stop_token(subject: Subject) -> Check:
    """Every answer ends in a learnt special token, and the model stops where that is written."""
    name, read = "stop-token", _read(subject)
    if isinstance(read, str):
        return skipped(name, read)
    answers = sum(map(len, read.answers))
    last = [targets[-1] for targets in _learnt(_batch(subject, read.rendered))]
    ends = Counter(token for token in last if read.tokenizer.is_special(token))
    stops = subject.model.config.eos_ids
    missed = sorted(set(ends) - set(stops))
    base = read.extended or (subject.source is not None and never_chatted(subject.source))
    what = f"the model stops at {list(stops)}"
    if missed:
        what += f", not at {missed}: " + ("a base model, sft adds it" if base else "it runs on")
    named = ", ".join(
        f"{count} {read.tokenizer.decode([token], specials=True)}" for token, count in ends.items()
    )
    return Check(
        name,
        sum(ends.values()) == len(last) == answers and (base or not missed),
        f"{answers} answers; learnt ends of turn: {named or 'none'}; {what}",
    )


def conversation_masks(subject: Subject) -> Check:
    """Rows of conversations: padding has no weight, and no row is without any."""
    name, read = "conversation-masks", _read(subject)
    if isinstance(read, str):
        return skipped(name, read)
    batch = _batch(subject, read.rendered)
    return judge_masks(name, batch, f"{len(read.rendered)} conversations")


CHECKS: tuple[CheckFunction, ...] = (answers_only, stop_token, conversation_masks)


def _read(subject: Subject) -> Taught | str:
    """Conversations that ``sft`` would learn, or why there are none."""
    if subject.tokenizer is None:
        return "no tokenizer"
    tokenizer, added = chat_tokenizer(subject.tokenizer)
    longest = subject.model.config.context + 1
    kept: list[tuple[Rendered, list[Message]]] = []
    overlong = refused = 0
    for path in subject.conversations:
        for conversation in islice(read_conversations(path), CONVERSATIONS):
            learn = taught(conversation, "assistant")
            try:
                rendered = render_conversation(conversation, tokenizer, learn)
            except TemplateError:
                refused += 1
                continue
            if len(rendered.ids) > longest:
                overlong += 1
            elif learn:
                answers = [conversation.messages[n] for n in sorted(learn)]
                kept.append((rendered, answers))
    if not kept:
        return f"of the conversations, {overlong} exceed {longest} tokens, {refused} the template"
    return Taught(
        tokenizer=tokenizer,
        extended=bool(added),
        rendered=[rendered for rendered, _ in kept],
        answers=[answers for _, answers in kept],
        overlong=overlong,
        refused=refused,
    )


def _batch(subject: Subject, rendered: list[Rendered]) -> Batch:
    """All conversations once, as the trainer reads them."""
    context = subject.model.config.context
    loader = ConversationLoader(
        rendered, context=context, batch_rows=1, seed=subject.seed, fill=0, epochs=1
    )
    return loader.rows(range(loader.rows_per_epoch))


def _learnt(batch: Batch) -> Iterator[list[int]]:
    """The targets of each unbroken stretch of weight within a conversation."""
    for row in range(len(batch.ids)):
        targets, segments, weights = (
            part[row].numpy() for part in (batch.targets, batch.segments, batch.weights)
        )
        state = np.where(weights > 0, segments + 1, 0)
        cuts = np.flatnonzero(np.diff(state)) + 1
        for start, stop in zip([0, *cuts], [*cuts, len(state)], strict=True):
            if state[start]:
                yield targets[start:stop].tolist()


def _said(targets: list[int], tokenizer: Tokenizer) -> str:
    """A learnt stretch as text, without the one special token that ends it."""
    if tokenizer.is_special(targets[-1]):
        targets = targets[:-1]
    return tokenizer.decode(targets, specials=True)


def _spoken(message: Message) -> str:
    """What the assistant writes, by the message alone; tool calls as our template has them."""
    calls = "".join(
        f'<tool_call>{{"name": {json.dumps(call.name, ensure_ascii=False)}, '
        f'"arguments": {call.arguments}}}</tool_call>'
        for call in message.tool_calls
    )
    return message.content + calls
