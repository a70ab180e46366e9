"""A method's name and its input files in; its tasks and the way to do one out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from fledge.core.errors import InputError
from fledge.core.protocols import ChatModel, Sampling
from fledge.core.types import Message
from fledge.data.synthesis.asking import Asker, made_row
from fledge.data.synthesis.branch_solve_merge import branch_solve_merge
from fledge.data.synthesis.chain_of_thought import reason
from fledge.data.synthesis.config import SynthesisConfig
from fledge.data.synthesis.documents import ask_about
from fledge.data.synthesis.evolve import evolve
from fledge.data.synthesis.inputs import Passage, Question, read_passages, read_questions
from fledge.data.synthesis.personas import ask_as_persona
from fledge.data.synthesis.run import Make, Task, drawn_inputs, numbered
from fledge.data.synthesis.self_instruct import SelfInstruct

Method = Literal[
    "self-instruct", "evolve", "personas", "documents", "chain-of-thought", "branch-solve-merge"
]
METHODS: tuple[Method, ...] = get_args(Method)

Turned = list[tuple[list[Message], dict[str, Any]]]
"""Conversations with what is to be told of them."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to do: ``accept`` hears finished rows in order, where tasks build on each other."""

    tasks: list[Task]
    make: Make
    accept: Callable[[list[dict[str, Any]]], None] | None = None


def plan(method: Method, files: Sequence[Path], model: ChatModel, config: SynthesisConfig) -> Plan:
    """The tasks of ``method`` over ``files``; raises InputError for files it cannot read."""
    if method == "self-instruct":
        return _self_instruct(files, model, config)
    inputs: list[Question | Passage]
    if method in ("personas", "documents"):
        inputs = [*read_passages(files, config.passage)]
    else:
        inputs = [*read_questions(files)]
    if not inputs:
        raise InputError(f"{', '.join(map(str, files))}: nothing to start from", remedy="more text")
    drawn = drawn_inputs(inputs, config.count, config.seed)
    tasks = [Task(key=one.origin, input=one) for one in drawn]

    def make(task: Task) -> list[dict[str, Any]]:
        asker = Asker(model, sampling_of(config), config.language, f"{method}/{task.key}")
        return [
            made_row(messages, method, model.name, config.seed, origin=task.key, **told)
            for messages, told in _turned(method, task.input, task.key, asker, config)
        ]

    return Plan(tasks=numbered(tasks), make=make)


def sampling_of(config: SynthesisConfig) -> Sampling:
    """How the model draws."""
    return Sampling(
        max_new_tokens=config.max_new_tokens,
        temperature=config.temperature,
        top_p=config.top_p,
        seed=config.seed,
    )


def _turned(method: Method, given: Any, key: str, asker: Asker, config: SynthesisConfig) -> Turned:
    """What one input becomes."""
    if method == "evolve":
        return [(said, {"ways": ways}) for said, ways in evolve(given, key, asker, config)]
    if method == "personas":
        return [(said, {"persona": who}) for said, who in ask_as_persona(given, asker, config)]
    if method == "documents":
        return [(said, {}) for said in ask_about(given, asker, config)]
    if method == "chain-of-thought":
        said, share = reason(given, asker, config)
        return [(said, {"votes": config.votes, "agreement": share})]
    said, parts = branch_solve_merge(given, asker, config)
    return [(said, {"parts": parts})]


def _self_instruct(files: Sequence[Path], model: ChatModel, config: SynthesisConfig) -> Plan:
    pool = SelfInstruct(read_questions(files), config)

    def make(task: Task) -> list[dict[str, Any]]:
        asker = Asker(model, sampling_of(config), config.language, f"self-instruct/{task.key}")
        return [
            made_row(messages, "self-instruct", model.name, config.seed, origin=task.key)
            for messages in pool.make(task.key, asker)
        ]

    tasks = [Task(key=f"round {number}") for number in range(1, config.count + 1)]
    return Plan(tasks=tasks, make=make, accept=pool.accept)
