"""Much traffic: 20,000 requests with cancels keep the memory flat, and no block is lost."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from fledge.engine import Engine
from fledge.engine.chain.candidates import Floats
from fledge.engine.chain.settings import Settings
from fledge.engine.request import Token
from fledge.engine.step import Piece
from fledge.model.config import derive
from fledge.tokenizer.tokenizer import Tokenizer
from pico_model import write_pico_model


class Noise:
    """A runner that computes nothing: logits from a table."""

    block_size, blocks, context = 8, 96, 64

    def __init__(self, vocabulary: int) -> None:
        self.vocabulary = vocabulary
        self._rows = np.random.default_rng(0).standard_normal((257, vocabulary)).astype(np.float32)

    def step(self, pieces: Sequence[Piece]) -> Floats:
        rows = [p.start + at for p in pieces if p.rows for at in range(p.rows)]
        return self._rows[np.array(rows, np.int64) % 257] if rows else self._rows[:0]

    def copy_block(self, source: int, target: int) -> None:
        assert 0 <= source < self.blocks
        assert 0 <= target < self.blocks


def resident() -> int:
    """Bytes of this process in memory."""
    text = Path("/proc/self/statm").read_text()
    return int(text.split()[1]) * 4096


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
def test_twenty_thousand_requests_with_cancels(tmp_path: Path) -> None:
    stage = write_pico_model(tmp_path / "pico")
    tokenizer = Tokenizer.load(stage / "model")
    config = derive(1, tokenizer.vocab_size, 64, width=64, heads=2, kv_heads=1)
    engine = Engine(Noise(config.vocab_size), tokenizer, config)
    draw = random.Random(1)
    streams: list[Iterator[Token]] = []
    sizes = []
    for number in range(20_000):
        length = draw.randint(1, 40)
        prompt = [draw.randrange(config.vocab_size) for _ in range(length)]
        how = Settings(
            max_new_tokens=draw.randint(1, 12),
            temperature=draw.choice([0.0, 1.0]),
            seed=number,
            n=draw.choice([1, 1, 1, 3]),
            lookup=draw.choice([0, 3]),
        )
        streams.append(engine.stream(prompt, how, ()))
        while len(streams) > 24:
            stream = streams.pop(draw.randrange(len(streams)))
            for _ in range(draw.randint(0, 20)):
                next(stream, None)
            if draw.random() < 0.5:
                stream.close()  # type: ignore[attr-defined]
            del stream
        if number % 2_500 == 2_499:
            sizes.append(resident())
    for stream in streams:
        stream.close()  # type: ignore[attr-defined]
    scheduler = engine.loop.scheduler
    assert scheduler.free_blocks == Noise.blocks
    assert scheduler.running == scheduler.waiting == 0
    assert not engine.loop._jobs
    assert not engine.loop._sequences
    assert sizes[-1] - sizes[1] < 4_000_000, sizes
