"""Files of conversations in; token ids and a loss mask out.

Files are read by ``json_rows``; the forms of a row are in ``chat_forms``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from fledge.core.errors import InputError
from fledge.core.types import Message
from fledge.data.chat_forms import Conversation as Conversation
from fledge.data.chat_forms import parse_conversation as parse_conversation
from fledge.data.chat_forms import parse_conversations
from fledge.data.json_rows import read_parsed
from fledge.tokenizer.tokenizer import Tokenizer


class TemplateError(InputError):
    """The chat template and a conversation do not go together."""


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """A conversation as the model reads it.

    ``mask[i]`` says whether the model is taught to write ``ids[i]``: true for what an assistant
    says and for the token that ends its turn, false for all else.  ``turns`` are the lengths at
    which the conversation may be cut: the ends of the assistant's turns.
    """

    ids: list[int]
    mask: list[bool]
    turns: list[int]


def read_conversations(path: Path) -> Iterator[Conversation]:
    """The conversations of a file; raises InputError naming file, line and field."""
    return read_parsed(path, "conversations", parse_conversations)


def render(
    messages: Sequence[Message],
    tokenizer: Tokenizer,
    tools: Sequence[Mapping[str, Any]] = (),
    origin: str = "conversation",
    learn: AbstractSet[int] | None = None,
) -> Rendered:
    """The conversation's ids by the chat template, and which of them are to be learnt.

    ``learn``: places of the assistants' messages to learn; None: all.  A template with
    ``{% generation %}`` says itself what the assistant writes.  Of any other, each answer is what
    the conversation through it adds to the prompt before it, up to the token that ends the turn;
    it is encoded apart from its prompt, as the engine meets them.  What comes after the last
    answer is left out.  Raises TemplateError when the template refuses the conversation or does
    not add up turn by turn.
    """
    openai = [message.to_openai() for message in messages]
    spoken = [n for n, message in enumerate(messages) if message.role == "assistant"]
    learn = frozenset(spoken) if learn is None else learn
    try:
        if tokenizer.marks_answers:
            return _by_marks(openai, spoken, learn, tokenizer, tools, origin)
        return _by_prefixes(openai, spoken, learn, tokenizer, tools, origin)
    except TemplateError:
        raise
    except InputError as error:
        raise TemplateError(f"{origin}: {error.message}", remedy=error.remedy) from None


def _by_marks(
    openai: Sequence[Mapping[str, Any]],
    spoken: Sequence[int],
    learn: AbstractSet[int],
    tokenizer: Tokenizer,
    tools: Sequence[Mapping[str, Any]],
    origin: str,
) -> Rendered:
    """What stands in ``{% generation %}`` is the assistant's, and the end token right after it."""
    parts = tokenizer.encode_marked_chat(openai, tools or None)
    ids: list[int] = []
    mask: list[bool] = []
    turns: list[int] = []
    answers = sum(mine for _, mine in parts)
    if answers != len(spoken):
        raise TemplateError(
            f"{origin}: the chat template marks {answers} answers of {len(spoken)}",
            remedy="mend its {% generation %} blocks",
        )
    for part, mine in parts:
        if ids and turns and turns[-1] == len(ids) and part[:1] and not mine:
            end = part[0]
            if tokenizer.is_special(end) and not tokenizer.is_special(ids[-1]):
                ids, mask, part = [*ids, end], [*mask, mask[-1]], part[1:]
                turns[-1] += 1
        taught = mine and spoken[len(turns)] in learn
        ids, mask = ids + part, mask + [taught] * len(part)
        if mine:
            turns.append(len(ids))
    last = turns[-1] if turns else 0
    return Rendered(ids=ids[:last], mask=mask[:last], turns=turns)


def _by_prefixes(
    openai: Sequence[Mapping[str, Any]],
    spoken: Sequence[int],
    learn: AbstractSet[int],
    tokenizer: Tokenizer,
    tools: Sequence[Mapping[str, Any]],
    origin: str,
) -> Rendered:
    """Answers found by rendering prefixes, each verified to be one of the whole."""
    ids: list[int] = []
    mask: list[bool] = []
    turns: list[int] = []
    seen: list[int] = []  # the template's ids up to the last answer's end
    for number in spoken:
        prompt = tokenizer.encode_chat(openai[:number], tools or None, add_generation_prompt=True)
        if prompt[: len(seen)] != seen:
            raise TemplateError(
                f"{origin}: the chat template writes earlier turns anew at message {number + 1}",
                remedy="use a template that only appends",
            )
        between = prompt[len(seen) :]
        seen = _through_end(tokenizer, openai, number, tools, origin)
        answer = _answer(seen, prompt, openai[number], tokenizer, origin)
        ids += between + answer
        mask += [False] * len(between) + [number in learn] * len(answer)
        turns.append(len(ids))
    return Rendered(ids=ids, mask=mask, turns=turns)


def _through_end(
    tokenizer: Tokenizer,
    openai: Sequence[Mapping[str, Any]],
    number: int,
    tools: Sequence[Mapping[str, Any]],
    origin: str,
) -> list[int]:
    """The template's ids of a conversation up to the token that ends message ``number``.

    That is, of the special tokens in which it ends, the tokenizer's end token or else the last.
    Only what stays the same when another message follows counts: some templates end a
    conversation otherwise than a turn.
    """
    whole = tokenizer.encode_chat(openai[: number + 1], tools or None)
    before = tokenizer.encode_chat(openai[:number], tools or None, add_generation_prompt=True)
    end = _turn_end(whole, _followed(tokenizer, openai, number, tools), tokenizer)
    alone = _turn_end(whole, whole, tokenizer)
    if end <= len(before) and number + 1 == len(openai):
        end = alone  # reasoning, say, that a follow-up leaves out
    if alone <= len(before):
        raise TemplateError(
            f"{origin}: the chat template ends message {number + 1} with no special token, so "
            "that a model could not learn where to stop",
            remedy="use a template that does, such as ChatML",
        )
    if end <= len(before):
        raise TemplateError(
            f"{origin}: the chat template writes earlier turns anew at message {number + 2}",
            remedy="use a template that only appends",
        )
    begin = end
    while begin and tokenizer.is_special(whole[begin - 1]):
        begin -= 1
    if tokenizer.eos_id in whole[begin:end]:
        end = whole.index(tokenizer.eos_id, begin) + 1
    return whole[:end]


def _followed(
    tokenizer: Tokenizer,
    openai: Sequence[Mapping[str, Any]],
    number: int,
    tools: Sequence[Mapping[str, Any]],
) -> list[int] | None:
    """The template's ids with one more message, a made-up one at the end; None when refused."""
    follows = openai[number + 1] if number + 1 < len(openai) else {"role": "user", "content": "?"}
    try:
        return tokenizer.encode_chat([*openai[: number + 1], follows], tools or None)
    except InputError:
        return None


def _turn_end(whole: list[int], longer: list[int] | None, tokenizer: Tokenizer) -> int:
    """Where the last special token ends in what both begin with, white space aside; 0: nowhere."""
    pairs = zip(whole, whole if longer is None else longer, strict=False)
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    end = next((n for n in range(same, 0, -1) if tokenizer.is_special(whole[n - 1])), 0)
    return 0 if tokenizer.decode(whole[end:same]).strip() else end


def _answer(
    seen: list[int],
    prompt: list[int],
    message: Mapping[str, Any],
    tokenizer: Tokenizer,
    origin: str,
) -> list[int]:
    """Ids of what the assistant writes, its end included: what ``seen`` adds to ``prompt``."""
    if seen[: len(prompt)] == prompt:
        return seen[len(prompt) :]
    # Did the answer's beginning merge with the line break that ends the prompt?
    apart = [*tokenizer.encode_continuing(message["content"]), seen[-1]]
    texts = [tokenizer.decode(ids, specials=True) for ids in (prompt + apart, seen)]
    if texts[0] != texts[1]:
        raise TemplateError(
            f"{origin}: with an answer the chat template writes what came before it otherwise than "
            "when it asks for one",
            remedy="use a template whose prompt is how the answered conversation begins",
        )
    return apart
