"""One JSON row in; its preference pair, or its judged answer, out, whatever the form.

A pair of answers:
{"prompt": "…" or [messages], "chosen": "…" or [messages], "rejected": …}                  TRL
{"chosen": [messages], "rejected": [messages]}      TRL, whole conversations that begin alike
{"chosen": "\\n\\nHuman: …\\n\\nAssistant: …", "rejected": "…"}                          HH-RLHF
{"conversations": [turns], "chosen": turn or text, "rejected": …}                LLaMA-Factory
{"instruction": "…", "input": "…", "chosen": "…", "rejected": "…"}                      Alpaca
{"system": "…", "history": [["…", "…"]], "question": "…", "response_chosen": …}     MedicalGPT

An answer judged good or bad: "label" or "kto_tag" beside
{"prompt": …, "completion": …}, {"messages": […]}, {"conversations": […]} or Alpaca's fields.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fledge.core.types import Message
from fledge.data.chat_forms import (
    alpaca_prompt,
    openai_messages,
    sharegpt_messages,
    stripped,
    tools_of,
)

Messages = tuple[Message, ...]
Side = Literal["chosen", "rejected"]

PAIRS = (
    ("chosen", "rejected"),
    ("chosen_messages", "rejected_messages"),
    ("response_chosen", "response_rejected"),
)
"""Fields in which the better and the worse answer stand."""

SCORES = (("score_chosen", "score_rejected"), ("chosen_score", "rejected_score"))
"""Fields whose difference is the margin, where a row has them."""

LABELS = ("label", "kto_tag")


@dataclass(frozen=True, kw_only=True)
class Preference:
    """Two answers to one prompt, the better one named.  ``origin`` names its file and line."""

    prompt: Messages
    chosen: Messages
    """What follows the prompt: begins and ends with the assistant; tools' results between."""

    rejected: Messages
    tools: tuple[Mapping[str, Any], ...] = ()
    margin: float | None = None
    """By how much the chosen answer is better, on its source's scale; None: not told."""

    origin: str = ""

    def answer(self, side: Side) -> Messages:
        """The messages of one side."""
        return self.chosen if side == "chosen" else self.rejected


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One answer to a prompt and whether it is good (KTO).  ``origin`` names its file and line."""

    prompt: Messages
    completion: Messages
    good: bool
    tools: tuple[Mapping[str, Any], ...] = ()
    origin: str = ""


def is_preference(row: Any) -> bool:
    """Whether a row has the fields of a pair."""
    return isinstance(row, dict) and any(set(pair) <= set(row) for pair in PAIRS)


def is_judged(row: Any) -> bool:
    """Whether a row has a label that is true or false, and no pair."""
    labelled = isinstance(row, dict) and any(isinstance(row.get(key), bool) for key in LABELS)
    return labelled and not is_preference(row)


def parse_preference(row: Any, origin: str = "") -> Preference:
    """The pair of a row in any form; raises ValueError naming the field that is wrong."""
    if not isinstance(row, dict):
        raise ValueError("a preference must be a JSON object")
    names = next((pair for pair in PAIRS if set(pair) <= set(row)), None)
    if names is None:
        raise ValueError(
            "expected 'chosen' and 'rejected' (or 'response_chosen' and 'response_rejected'), "
            f"found {', '.join(row) or 'nothing'}"
        )
    prompt = _prompt(row)
    alone = prompt is None
    better, worse = (_answer(row[name], f"'{name}'", transcript=alone) for name in names)
    if prompt is None or _whole(better) or _whole(worse):
        prompt, better, worse = _parted(better, worse, prompt, names)
    prompt = _checked_prompt(prompt)
    return Preference(
        prompt=prompt,
        chosen=_checked_answer(better, f"'{names[0]}'"),
        rejected=_checked_answer(worse, f"'{names[1]}'"),
        tools=tools_of(row.get("tools")),
        margin=_margin(row),
        origin=origin,
    )


def parse_judged(row: Any, origin: str = "") -> Judged:
    """The judged answer of a row; raises ValueError naming the field that is wrong."""
    if not isinstance(row, dict):
        raise ValueError("a judged answer must be a JSON object")
    label = next((key for key in LABELS if key in row), None)
    if label is None:
        raise ValueError(f"expected 'label' or 'kto_tag', found {', '.join(row) or 'nothing'}")
    good = row[label]
    if good not in (True, False):  # 0 and 1 are equal to them
        raise ValueError(f"'{label}' is {good!r}, neither true nor false")
    prompt, answer, name = _asked_and_answered(row)
    return Judged(
        prompt=_checked_prompt(prompt),
        completion=_checked_answer(answer, name),
        good=bool(good),
        tools=tools_of(row.get("tools")),
        origin=origin,
    )


def _asked_and_answered(row: Mapping[str, Any]) -> tuple[Messages, Messages, str]:
    """(prompt, answer, name of the answer's field) of a judged row."""
    name = next((key for key in ("completion", "response", "output") if key in row), None)
    if name is not None:
        prompt, answer = _prompt(row), _answer(row[name], f"'{name}'")
        if prompt is None:
            raise ValueError("expected 'prompt' or 'instruction' beside the answer")
        return prompt, answer, f"'{name}'"
    prompt = _prompt(row)
    if prompt is None:
        raise ValueError(
            "expected 'prompt' and 'completion', 'messages' or 'conversations', "
            f"found {', '.join(row)}"
        )
    asked = max((n for n, one in enumerate(prompt) if one.role == "user"), default=-1) + 1
    return prompt[:asked], prompt[asked:], "'messages'" if "messages" in row else "'conversations'"


def _prompt(row: Mapping[str, Any]) -> Messages | None:
    """What is asked; None where only the answers' fields tell it."""
    asks: dict[str, Callable[[Any], Messages]] = {
        "messages": lambda value: openai_messages(value)[0],
        "conversations": lambda value: sharegpt_messages(value, row.get("system")),
        "prompt": lambda value: _asked(row, value),
        "question": lambda value: alpaca_prompt({**row, "instruction": value}),
        "instruction": lambda _: alpaca_prompt(row),
    }
    for name, read in asks.items():
        if name in row:
            return read(row[name])
    return None


def _asked(row: Mapping[str, Any], value: Any) -> Messages:
    if isinstance(value, list):
        return openai_messages(value, "'prompt'")[0]
    if not isinstance(value, str):
        raise ValueError("'prompt' must be text or a list of messages")
    turns = _transcript(value, "'prompt'")
    if turns is None:
        return alpaca_prompt({**row, "instruction": value})
    open_end = turns[-1].role == "assistant" and not turns[-1].content
    return turns[:-1] if open_end else turns


def _answer(value: Any, name: str, *, transcript: bool = False) -> Messages:
    """The messages of an answer's field: text, a message, a turn, a list of either."""
    if isinstance(value, str):
        whole = _transcript(value, name) if transcript else None
        return whole or (stripped("assistant", value, name),)
    turns = [value] if isinstance(value, dict) else value
    if isinstance(turns, list) and turns and isinstance(turns[0], dict) and "from" in turns[0]:
        return sharegpt_messages(turns, name=name)
    if isinstance(turns, list):
        try:
            return openai_messages(turns, name)[0]
        except ValueError as error:
            message = str(error)
            raise ValueError(message if name in message else f"{name}, {message}") from None
    raise ValueError(f"{name} must be text, a message or a list of messages")


_SPEAKER = re.compile(r"(?:^|\n\n)(Human|Assistant):")


def _transcript(text: str, name: str) -> Messages | None:
    """The turns of an HH-RLHF transcript; None for any other text."""
    parts = _SPEAKER.split(text.lstrip("\n"))
    if "Assistant" not in parts[3::2] or parts[0].strip() or parts[1] != "Human":
        return None
    roles = {"Human": "user", "Assistant": "assistant"}
    return tuple(
        stripped(roles[speaker], said, name)
        for speaker, said in zip(parts[1::2], parts[2::2], strict=True)
    )


def _whole(answer: Messages) -> bool:
    """Whether an answer's field holds the prompt, too."""
    return answer[0].role != "assistant"


def _parted(
    better: Messages, worse: Messages, prompt: Messages | None, names: Sequence[str]
) -> tuple[Messages, Messages, Messages]:
    """(prompt, chosen, rejected) of two whole conversations: the beginning they share is asked."""
    if not _whole(better) or not _whole(worse):
        raise ValueError(
            "there is no 'prompt', and "
            f"'{names[0] if not _whole(better) else names[1]}' does not begin with one"
        )
    most = min(len(better), len(worse)) - 1
    shared = 0
    while shared < most and better[shared] == worse[shared]:
        shared += 1
    for name, one in zip(names, (better, worse), strict=True):
        if one[shared].role != "assistant":
            raise ValueError(
                f"'{names[0]}' and '{names[1]}' part at message {shared + 1}, where '{name}' "
                f"has a message of role {one[shared].role}, not an answer"
            )
    if prompt is not None and prompt[-1].content.strip() not in {
        one.content.strip() for one in better[:shared]
    }:
        raise ValueError(f"'prompt' is not how '{names[0]}' and '{names[1]}' begin")
    return better[:shared], better[shared:], worse[shared:]


def _checked_prompt(prompt: Messages) -> Messages:
    if not prompt:
        raise ValueError("the prompt is empty: nobody asks before the answer")
    return prompt


def _checked_answer(answer: Messages, name: str) -> Messages:
    """An answer that the assistant begins and ends."""
    if not answer:
        raise ValueError(f"{name} holds no answer")
    for which, message in (("begins", answer[0]), ("ends", answer[-1])):
        if message.role != "assistant":
            raise ValueError(f"{name} {which} with role {message.role}, not with the assistant")
    return answer


def _margin(row: Mapping[str, Any]) -> float | None:
    if row.get("margin") is not None:
        return _number(row["margin"], "'margin'")
    for better, worse in SCORES:
        if row.get(better) is not None and row.get(worse) is not None:
            return _number(row[better], f"'{better}'") - _number(row[worse], f"'{worse}'")
    return None


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} is {value!r}, not a finite number")
    return float(value)
