"""Generation speed: fledge's engine against llama.cpp and transformers on this machine.

    python benchmarks/engine.py --like MODEL [--llama-python PATH] [--size 8M|90M] [--json]

A model of random weights with MODEL's tokenizer is written once as safetensors and as GGUF.
fledge answers through its scheduler and sampler (greedy); llama.cpp through its low-level
``llama_decode`` with one batch for all streams and numpy's argmax; transformers through
``generate``.  All have the same threads, each a process of its own, asked in turn, three rounds;
the best of a side counts.  llama-cpp-python runs in this interpreter or the one named.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

SIZES = {"8M": {"depth": 9, "width": 256}, "90M": {"depth": 12, "width": 768}}
CONTEXT, PROMPT, DRAWN, LONG = 1024, 32, 128, 512
KINDS = {"float32": "f32", "bfloat16": "bf16", "int8": "q8_0"}
"""Our types of weights, and GGUF's."""
QUESTIONS: tuple[tuple[str, int], ...] = (("decode", 1), ("decode", 8), ("prefill", 1))
ROUNDS = 3


class Contender:
    """A process that answers (what, streams) with tokens a second."""

    def __init__(self, python: str, side: str, job: dict[str, Any]) -> None:
        self.name = side
        script = Path(__file__).with_name("engine_contender.py")
        self._process = subprocess.Popen(
            [python, str(script), side, json.dumps(job)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.best: dict[tuple[str, int], float] = {}

    def ask(self, question: tuple[str, int]) -> None:
        """Let it measure once; the best answer is kept."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} failed with exit code {self._process.wait()}")
        self.best[question] = max(self.best.get(question, 0.0), float(json.loads(line)))

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def write_model(size: str, like: Path, folder: Path) -> Path:
    """A model of random weights that speaks the tokens of ``like``."""
    import torch

    from fledge.model.checkpoint import save_model
    from fledge.model.config import derive
    from fledge.model.decoder import Decoder
    from fledge.model.locate import find_checkpoint
    from fledge.tokenizer.tokenizer import Tokenizer

    checkpoint = find_checkpoint(like)
    shape = {"kv_heads": SIZES[size]["width"] // 64, "tied": True, **SIZES[size]}
    depth = shape.pop("depth")
    tokenizer = Tokenizer.load(checkpoint)
    config = derive(depth, tokenizer.vocab_size, CONTEXT, **shape)  # type: ignore[arg-type]
    model = Decoder(config)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.copy_(torch.randn(weight.shape, generator=draw) * weight.shape[1] ** -0.5)
    save_model(model, folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        if (checkpoint / name).is_file():
            (folder / name).write_bytes((checkpoint / name).read_bytes())
    return folder


def contest(
    model: Path, dtype: str, peers: dict[str, str], threads: int, work: Path
) -> list[dict[str, Any]]:
    """fledge and the peers in turn; a row for each question and peer."""
    from fledge.model.exporting import export_gguf

    gguf = work / f"{dtype}.gguf"
    if "llama.cpp" in peers and not gguf.exists():
        export_gguf(model, gguf, kind=KINDS[dtype])
    job = {
        "model": str(model),
        "gguf": str(gguf),
        "dtype": dtype,
        "threads": threads,
        "context": CONTEXT,
        "prompt": PROMPT,
        "drawn": DRAWN,
        "long": LONG,
    }
    sides = [Contender(python, side, job) for side, python in peers.items()]
    for question in QUESTIONS:
        for _ in range(ROUNDS):
            for side in sides:
                if side.name != "transformers" or question[1] == 1:
                    side.ask(question)
    for side in sides:
        side.close()
    ours, *others = sides
    return [
        {
            "dtype": dtype,
            "what": what,
            "streams": streams,
            "peer": side.name,
            "fledge": round(ours.best[what, streams]),
            "them": round(side.best[what, streams]),
            "ratio": round(ours.best[what, streams] / side.best[what, streams], 3),
        }
        for what, streams in QUESTIONS
        for side in others
        if (what, streams) in side.best
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--like", type=Path, required=True, help="a model whose tokenizer is used")
    parser.add_argument("--llama-python", default=sys.executable)
    parser.add_argument("--size", choices=list(SIZES), default="8M")
    parser.add_argument("--dtype", choices=list(KINDS), action="append")
    parser.add_argument("--transformers", action="store_true", help="it, too (slow)")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    threads = len(os.sched_getaffinity(0))
    peers = {"fledge": sys.executable, "llama.cpp": asked.llama_python}
    if asked.transformers:
        peers["transformers"] = sys.executable
    from fledge.engine.measure import measure_ceilings

    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        model = write_model(asked.size, asked.like, work / "model")
        ceilings = measure_ceilings()
        for dtype in asked.dtype or ["bfloat16", "int8"]:
            for row in contest(model, dtype, peers, threads, work):
                row = {"size": asked.size, **row}
                if asked.json:
                    print(json.dumps(row), flush=True)
                    continue
                print(
                    f"{asked.size} {dtype} {row['what']} x{row['streams']} vs {row['peer']}:"
                    f" {row['ratio']:.2f}x ({row['fledge']:,} : {row['them']:,} tokens/s)",
                    flush=True,
                )
        print(
            f"ceilings: memory copies {ceilings.bytes_per_second / 1e9:.1f} GB/s,"
            f" float32 products {ceilings.flops / 1e9:.0f} GFLOP/s, {threads} threads",
            file=sys.stderr,
        )


if __name__ == "__main__":
    main()
