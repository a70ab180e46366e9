"""One GRPO step, rollout and update, against TRL's GRPOTrainer: same model, prompts and tokens.

    python benchmarks/grpo.py --python PYTHON [--size 6M] [--answers 64] [--tokens 64]
                              [--words 24] [--json]

PYTHON has trl 1.x, torch and transformers, which generates there.  Both compute in float32 on the
same threads, in turns; the model is random, so answers run to their end.  Prints seconds a step,
their ratio and the peak memory of both.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from fledge.core.run import usable_cores
from fledge.model.checkpoint import save_model
from fledge.model.config import derive
from fledge.model.decoder import Decoder
from fledge.tokenizer.config import TokenizerConfig
from fledge.tokenizer.tokenizer import Tokenizer
from fledge.tokenizer.train import train_tokenizer

SIZES = {"1M": (2, 128), "6M": (6, 256), "30M": (8, 512)}
"""Name -> layers and width."""

VOCABULARY, PROMPTS, CONTEXT = 4096, 32, 512
CONTENDER = Path(__file__).with_name("grpo_contender.py")


class Contender:
    """A process that takes steps when asked."""

    def __init__(self, name: str, python: str, job: Path) -> None:
        own = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        environment = dict(os.environ) if name == "fledge" else own
        self.name = name
        self.steps: list[dict[str, float]] = []
        self.peak = 0
        self._process = subprocess.Popen(
            [python, str(CONTENDER), name, str(job)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )

    def take(self, steps: int, *, measured: bool = True) -> None:
        """Take steps; the first ones warm up."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{steps}\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith('{"steps"'):
                row = json.loads(line)
                self.steps += row["steps"] if measured else []
                self.peak = row["peak_bytes"]
                return
        raise RuntimeError(f"{self.name} ended: {self._process.wait()}")

    def close(self) -> None:
        """Let it end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)

    def median(self, name: str) -> float:
        """Of a figure of the measured steps."""
        return statistics.median(row[name] for row in self.steps)


def write_job(folder: Path, size: str, answers: int, tokens: int, words_each: int = 24) -> Path:
    """A random model, prompts of so many words, and what is to be done."""
    words = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in ("n", "r", "st", "")]
    chance = random.Random(1)
    texts = [("en", " ".join(chance.choices(words, k=60))) for _ in range(400)]
    train_tokenizer(
        TokenizerConfig(vocab_size=VOCABULARY), lambda: texts, lambda: texts, folder / "model"
    )
    tokenizer = Tokenizer.load(folder / "model")
    depth, width = SIZES[size]
    config = derive(depth, tokenizer.vocab_size, CONTEXT, width=width).model_copy(
        update={"eos_ids": (tokenizer.im_end_id,), "pad_id": tokenizer.endoftext_id}
    )
    save_model(Decoder(config).initialize(1), folder / "model")
    rows = [
        {"messages": [{"role": "user", "content": " ".join(chance.choices(words, k=words_each))}]}
        for _ in range(PROMPTS)
    ]
    (folder / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    job = {"folder": str(folder), "answers": answers, "tokens": tokens, "group": 8}
    path = folder / "job.json"
    path.write_text(json.dumps({**job, "threads": usable_cores()}))
    return path


def duel(python: str, job: Path, rounds: int, steps: int) -> dict[str, Any]:
    """Both in turns: ``rounds`` times ``steps`` steps."""
    ours, theirs = Contender("fledge", sys.executable, job), Contender("trl", python, job)
    for one in (ours, theirs):
        one.take(2, measured=False)
    for number in range(rounds):
        for one in (ours, theirs) if number % 2 == 0 else (theirs, ours):
            one.take(steps)
    for one in (ours, theirs):
        one.close()
    return {
        "ratio": round(theirs.median("seconds") / ours.median("seconds"), 2),
        **{
            one.name: {
                "seconds": round(one.median("seconds"), 3),
                "drawn_tokens": one.median("drawn"),
                "peak_megabytes": round(one.peak / 1e6),
            }
            for one in (ours, theirs)
        },
        "fledge_rollout_seconds": round(ours.median("rollout_seconds"), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--python", required=True)
    parser.add_argument("--size", choices=list(SIZES), default="6M")
    parser.add_argument("--answers", type=int, default=64, help="answers a step, 8 to a prompt")
    parser.add_argument("--tokens", type=int, default=64, help="tokens of an answer")
    parser.add_argument(
        "--words", type=int, default=24, help="words of a prompt, a token each; 13 more frame them"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2, help="steps a round")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        job = write_job(Path(name), asked.size, asked.answers, asked.tokens, asked.words)
        row = duel(asked.python, job, asked.rounds, asked.steps)
    shape = {name: getattr(asked, name) for name in ("size", "answers", "tokens", "words")}
    row = {**shape, **row}
    if asked.json:
        print(json.dumps(row))
        return
    ours, theirs = row["fledge"], row["trl"]
    print(
        f"{asked.size}, {asked.answers} answers of {asked.tokens} tokens, prompts of "
        f"{asked.words} words: {row['ratio']:.2f}x; "
        f"{ours['seconds']} s ({row['fledge_rollout_seconds']} s of it rollout) against "
        f"{theirs['seconds']} s; {ours['drawn_tokens']:.0f} and {theirs['drawn_tokens']:.0f} "
        f"tokens drawn; {ours['peak_megabytes']} and {theirs['peak_megabytes']} MB"
    )


if __name__ == "__main__":
    main()
