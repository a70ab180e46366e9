"""Files of prompts in; conversations to be answered, each with what judges the answer, out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from fledge.core.errors import InputError
from fledge.core.files import read_jsonl, value_digest
from fledge.core.protocols import Progress
from fledge.core.types import Message
from fledge.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A conversation that ends with a question."""

    number: int
    """Its place among all that were read."""
    messages: tuple[Message, ...]
    reference: Mapping[str, Any] = field(default_factory=dict)
    """What the verifier compares with: ``answer`` and whatever else the row says."""
    verifier: str = ""
    """Who judges the answer; empty: whom the config names."""
    ids: tuple[int, ...] = ()
    """The conversation as the model reads it, up to where its answer begins."""
    origin: str = ""


@dataclass(frozen=True, kw_only=True)
class PromptSet:
    """Prompts to learn by and others to measure by."""

    trained: list[Prompt]
    held_out: list[Prompt]
    read: int
    overlong: int

    @property
    def digest(self) -> str:
        """Names the prompts and their order."""
        rows = [[list(one.ids), one.verifier, dict(one.reference)] for one in self.trained]
        return value_digest(rows)

    def counts(self) -> dict[str, int]:
        """For the manifest."""
        return {
            "prompts": self.read,
            "trained": len(self.trained),
            "held_out": len(self.held_out),
            "dropped_overlong": self.overlong,
        }


def read_prompts(path: Path) -> list[Prompt]:
    """The prompts of a JSONL file; raises InputError naming file and line.

    A row has ``messages`` (or ``input``), what the verifier reads (``answer`` or ``target``, and
    any other key, ``metadata`` among them) and perhaps ``verifier``.
    """
    found = []
    for line, row in enumerate(read_jsonl(path), 1):
        origin = f"{path}:{line}"
        try:
            found.append(_prompt(row, origin))
        except ValueError as error:
            raise InputError(f"{origin}: {error}", remedy="mend that line") from None
    if not found:
        raise InputError(f"{path} holds no prompt", remedy="name another file")
    return found


def _prompt(row: Any, origin: str) -> Prompt:
    if not isinstance(row, dict):
        raise ValueError("a prompt must be a JSON object")
    said = row.get("messages", row.get("input", row.get("prompt")))
    if isinstance(said, str):
        said = [{"role": "user", "content": said}]
    if not isinstance(said, list) or not said:
        raise ValueError("'messages' must be a list with at least one message")
    messages = tuple(Message.from_openai(one) for one in said)
    if messages[-1].role == "assistant":
        raise ValueError("the last message is the assistant's: there is nothing to answer")
    verifier = row.get("verifier", "")
    if not isinstance(verifier, str):
        raise ValueError("'verifier' must be the name of one")
    apart = ("messages", "input", "prompt", "verifier", "metadata", "target")
    reference = {key: value for key, value in row.items() if key not in apart}
    if "target" in row:
        reference.setdefault("answer", row["target"])
    metadata = row.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise ValueError("'metadata' must be an object")
    return Prompt(
        number=0,
        messages=messages,
        reference={**metadata, **reference},
        verifier=verifier,
        origin=origin,
    )


def gather_prompts(
    files: Sequence[Path],
    tokenizer: Tokenizer,
    room: int,
    held_out: float,
    seed: int,
    tools: Sequence[Mapping[str, Any]],
    progress: Progress,
) -> PromptSet:
    """Read and encode all prompts; leave out those longer than ``room``, hold a share out.

    Raises InputError when none is left.
    """
    asked = [prompt for file in files for prompt in read_prompts(file)]
    kept: list[Prompt] = []
    for number, prompt in enumerate(asked):
        openai = [message.to_openai() for message in prompt.messages]
        try:
            ids = tokenizer.encode_chat(openai, tools or None, add_generation_prompt=True)
        except InputError as error:
            raise InputError(f"{prompt.origin}: {error.message}", remedy=error.remedy) from None
        if len(ids) <= room:
            kept.append(replace(prompt, number=number, ids=tuple(ids)))
    names = ", ".join(map(str, files)) or "no file"
    if not kept:
        raise InputError(
            f"{names}: none of {len(asked)} prompts leaves room for its answer (at most {room}"
            " tokens)",
            remedy="lower max_new_tokens, or take a model with a longer context",
        )
    overlong = len(asked) - len(kept)
    if overlong:
        progress.say(
            f"of {len(asked):,} prompts {overlong:,} are longer than {room} tokens: left out"
        )
    order = np.random.Generator(np.random.PCG64([seed, 1])).permutation(len(kept))
    apart = {int(place) for place in order[: int(held_out * len(kept))]}
    return PromptSet(
        trained=[one for place, one in enumerate(kept) if place not in apart],
        held_out=[one for place, one in enumerate(kept) if place in apart],
        read=len(asked),
        overlong=overlong,
    )


class PromptStream:
    """Prompts for ever, each epoch shuffled anew by (seed, epoch): any by its place."""

    def __init__(self, prompts: Sequence[Prompt], seed: int) -> None:
        self._prompts, self._seed = prompts, seed
        self._orders: dict[int, list[int]] = {}

    def take(self, start: int, count: int) -> list[Prompt]:
        """Prompts ``start`` to ``start + count``, counted from the start of training."""
        return [self._at(place) for place in range(start, start + count)]

    def _at(self, place: int) -> Prompt:
        epoch, within = divmod(place, len(self._prompts))
        if epoch not in self._orders:
            generator = np.random.Generator(np.random.PCG64([self._seed, 2, epoch]))
            self._orders[epoch] = generator.permutation(len(self._prompts)).tolist()
        return self._prompts[self._orders[epoch][within]]
