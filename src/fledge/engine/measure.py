"""An engine in, its speed out: decoding, prefill, and what the machine could do at most."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from fledge.core.run import usable_cores
from fledge.engine.chain.settings import Settings
from fledge.engine.engine import Engine

PROMPT = 32
"""Tokens before decoding."""

COPIED = 2**27
"""Bytes copied at a time to measure the memory: more than caches hold."""

MATRIX = 1024
"""Rows and columns of the product measured."""

ROUNDS = 3
"""Of each figure the best of so many counts: what else runs on the machine only slows down."""


@dataclass(frozen=True, kw_only=True)
class Ceilings:
    """What this machine does at best, on the cores this process may use."""

    bytes_per_second: float
    """Copied in memory, read and written."""
    flops: float
    """float32 products, operations a second."""


@dataclass(frozen=True, kw_only=True)
class Speed:
    """One figure."""

    name: str
    tokens_per_second: float
    streams: int
    share_of_memory: float
    """Weights read a second, as a share of the memory's rate; small models live in the cache."""
    share_of_products: float
    """Operations a second, as a share of the machine's products."""


def measure_ceilings() -> Ceilings:
    """Takes about a second."""
    cores = usable_cores()
    source = [np.ones(COPIED // cores // 4, np.float32) for _ in range(cores)]
    target = [np.empty_like(one) for one in source]
    with ThreadPoolExecutor(cores) as pool:

        def copy() -> None:
            list(pool.map(np.copyto, target, source))

        copy()
        moved = 2 * sum(one.nbytes for one in source) / _best(copy)
    a = np.ones((MATRIX, MATRIX), np.float32)
    a @ a
    return Ceilings(bytes_per_second=moved, flops=2 * MATRIX**3 / _best(lambda: a @ a, 8))


def measure(
    engine: Engine,
    ceilings: Ceilings,
    *,
    streams: tuple[int, ...] = (1, 8),
    tokens: int = 128,
    tell: Callable[[Speed], None] = lambda speed: None,
) -> list[Speed]:
    """Decoding with each number of streams, then reading a prompt; ``tell`` hears of each."""
    tokens = max(2, min(tokens, engine.context - PROMPT))
    found = []
    for count in streams:
        rate = decode_rate(engine, count, tokens)
        found.append(_speed(engine, ceilings, "decode", rate, count))
        tell(found[-1])
    length = min(512, engine.context - 1)
    found.append(_speed(engine, ceilings, f"prefill {length}", prefill_rate(engine, length), 1))
    tell(found[-1])
    return found


def decode_rate(engine: Engine, streams: int, tokens: int) -> float:
    """Tokens a second that ``streams`` requests draw together, prompts not counted."""
    how = Settings(max_new_tokens=tokens)
    best = 0.0
    for round in range(ROUNDS):
        prompts = [_prompt(engine, PROMPT, 1000 * round + stream) for stream in range(streams)]
        begun, drawn, started = 0.0, 0, 0
        for _, token in engine.tokens([(prompt, how) for prompt in prompts], stop_ids=()):
            if begun:
                drawn += 1
            elif (started := started + 1) == streams:
                begun = time.perf_counter()
            del token
        best = max(best, drawn / max(time.perf_counter() - begun, 1e-9))
    return best


def prefill_rate(engine: Engine, length: int) -> float:
    """Tokens of a prompt read in a second."""
    best = 0.0
    for round in range(ROUNDS):
        prompt = _prompt(engine, length, 5000 + round)
        begun = time.perf_counter()
        engine.generate([prompt], Settings(max_new_tokens=1), ())
        best = max(best, length / (time.perf_counter() - begun))
    return best


def _speed(engine: Engine, ceilings: Ceilings, name: str, rate: float, streams: int) -> Speed:
    config = engine.config
    weights = config.depth * config.layer_parameters + config.vocab_size * config.width
    reads = rate / streams if name == "decode" else 0.0  # weights read whole, a second
    return Speed(
        name=name,
        tokens_per_second=rate,
        streams=streams,
        share_of_memory=reads * weights * engine.weight_bytes / ceilings.bytes_per_second,
        share_of_products=2 * weights * rate / ceilings.flops,
    )


def _prompt(engine: Engine, length: int, seed: int) -> list[int]:
    """Tokens that no earlier request had."""
    draw = random.Random(seed)
    return [draw.randrange(engine.vocabulary) for _ in range(length)]


def _best(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Seconds, the best of some."""
    best = float("inf")
    for _ in range(rounds):
        begun = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - begun)
    return best
