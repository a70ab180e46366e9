"""A pico model that answers sums at random, and prompts that reward the right answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from fledge.core.protocols import Silent
from fledge.tune.config import SftConfig
from fledge.tune.sft import sft
from pico_model import write_pico_model

SMALL = {
    "group": 8,
    "batch_rows": 32,
    "max_new_tokens": 6,
    "learning_rate": 1e-3,
    "embedding_learning_rate": 1e-3,
    "weight_decay": 0.0,
    "threads": 1,
    "precision": "fp32",
    "checkpoint_every_seconds": 1e9,
    "held_out": 0.0,
    "seed": 3,
}


def write_rows(path: Path, rows: Sequence[object]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def asked(question: str, answer: str, **more: object) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": question}], "answer": answer, **more}


def guessing_model(folder: Path, questions: Sequence[str], answers: Sequence[str]) -> Path:
    """Fine-tuned to answer each question with each of ``answers`` equally often."""
    base = write_pico_model(folder / "run", stage="pretrain")
    rows = [
        {
            "messages": [
                {"role": "user", "content": question},
                {"role": "assistant", "content": answer},
            ]
        }
        for question in questions
        for answer in answers
    ]
    config = SftConfig(
        steps=80,
        batch_rows=4,
        compile=False,
        learning_rate=0.01,
        held_out=0,
        threads=1,
        checkpoint_every_seconds=1e9,
    )
    out = folder / "guesses"
    sft(config, base, [write_rows(folder / "c.jsonl", rows)], out, Silent())
    return out
