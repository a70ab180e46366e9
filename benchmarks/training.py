"""Training speed: fledge's step against nanoGPT, nanochat and transformers on this machine.

    python benchmarks/training.py --peers DIR [--size 6M|30M] [--context 256|1024] [--json]

DIR holds checkouts of nanoGPT and nanochat; transformers comes from pip.  All train the same
shape (layers, width, heads of 64, vocabulary) on the same number of random tokens a step, each in
its own process, optimizer included: fledge and each peer in turn, three rounds; the median step
counts.  Models differ in details, so operations are counted for each: 6 x weights that multiply
+ 6 x layers x width x context a token (causal attention).  The ceiling is the machine's own matrix
product, in bf16 or fp32, whichever is faster, measured in the same run.

Peers run as they come (nanoGPT and transformers: fp32, eager; nanochat: fp32, compiled) and tuned
(the faster type, compiled or not, all rows or 2,048 tokens at once, glibc told to keep its memory).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

SIZES = {
    "6M": {"depth": 6, "width": 256, "heads": 4, "vocab": 4096},
    "30M": {"depth": 7, "width": 512, "heads": 8, "vocab": 16384},
}
TOKENS = 16_384
"""Tokens of a step: what nanochat's own CPU script takes."""
AT_ONCE = 2_048
"""Tokens of a micro-batch where a peer is tuned to take few at once."""
MALLOC = {
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "4294967296",
    "MALLOC_TOP_PAD_": "67108864",
}
AS_THEY_COME = ("nanoGPT fp32", "nanochat fp32", "transformers fp32", "transformers bf16")
TUNED = ("nanoGPT {}", "nanoGPT {} compiled", "nanochat {}")
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def matmul_rate(dtype: torch.dtype, size: int = 2048) -> float:
    """Floating-point operations per second of a square matrix product, best of 20."""
    a, b = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
    best = float("inf")
    for _ in range(20):
        begun = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - begun)
    return 2 * size**3 / best


class Contender:
    """A process that takes steps when asked."""

    def __init__(self, name: str, job: dict[str, Any], environment: dict[str, str]) -> None:
        script = Path(__file__).with_name("training_contender.py")
        self._process = subprocess.Popen(
            [sys.executable, str(script), name, json.dumps(job)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        self.seconds: list[float] = []
        self.peak_bytes = 0
        self.facts = self._read()

    def steps(self, count: int) -> None:
        """Take ``count`` steps and remember how long each took."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{count}\n")
        self._process.stdin.flush()
        row = self._read()
        self.seconds += row["seconds"]
        self.peak_bytes = row["peak_bytes"]

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"a contender failed with exit code {self._process.wait()}")
        row: dict[str, Any] = json.loads(line)
        return row


def duel(name: str, job: dict[str, Any], tuned: bool, steps: int) -> dict[str, Any]:
    """fledge against one peer, in turn; what each reached."""
    ours = Contender("fledge", job, {})
    theirs = Contender(name, job, MALLOC if tuned else {})
    for _ in range(3):
        for one in (ours, theirs):
            one.steps(steps)
    ours.close()
    theirs.close()
    ceiling = max(matmul_rate(dtype) for dtype in TYPES.values())
    rows = {}
    for label, one in (("fledge", ours), (name, theirs)):
        seconds = statistics.median(one.seconds)
        attention = 6 * job["depth"] * job["width"] * job["context"]
        operations = 6 * one.facts["matrices"] + attention
        rows[label] = {
            "tokens_per_second": round(TOKENS / seconds),
            "matrices": one.facts["matrices"],
            "gflops": round(TOKENS * operations / seconds / 1e9, 1),
            "share_of_ceiling": round(TOKENS * operations / seconds / ceiling, 3),
            "peak_gigabytes": round(one.peak_bytes / 1e9, 2),
            "warm_up_seconds": round(one.facts["warm_up_seconds"], 1),
        }
    return {
        "peer": name,
        "tuned": tuned,
        "at_once": job["micro_rows"] * job["context"],
        "ratio_of_operations": round(rows["fledge"]["gflops"] / rows[name]["gflops"], 3),
        "ratio_of_tokens": round(
            rows["fledge"]["tokens_per_second"] / rows[name]["tokens_per_second"], 3
        ),
        "ceiling_gflops": round(ceiling / 1e9, 1),
        "fledge": rows["fledge"],
        "them": rows[name],
    }


def contests(only: str | None, all_tuned: bool) -> list[tuple[str, bool, bool]]:
    """(peer, tuned, few tokens at once) of every duel."""
    rows = [(name, False, False) for name in AS_THEY_COME]
    fast = max(TYPES, key=lambda name: matmul_rate(TYPES[name]))
    rows += [(name.format(fast), True, few) for name in TUNED for few in (False, True)]
    rows = [row for row in rows if row[1] or not all_tuned]
    return [row for row in rows if only is None or only in row[0]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--peers", type=Path, required=True)
    parser.add_argument("--size", choices=list(SIZES), default="6M")
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--steps", type=int, default=4, help="steps a round")
    parser.add_argument("--only", help="only peers whose name contains this")
    parser.add_argument("--tuned", action="store_true", help="only tuned peers")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    rows = TOKENS // asked.context
    for name, tuned, few in contests(asked.only, asked.tuned):
        micro_rows = max(1, AT_ONCE // asked.context) if few else rows
        job = {**SIZES[asked.size], "context": asked.context, "rows": rows}
        job |= {"micro_rows": micro_rows, "peers": str(asked.peers)}
        row = duel(name, job, tuned, asked.steps)
        row = {"size": asked.size, "context": asked.context, **row}
        if asked.json:
            print(json.dumps(row), flush=True)
        else:
            ours, them = row["fledge"], row["them"]
            print(
                f"{asked.size} ctx {asked.context} vs {name}{' tuned' if tuned else ''} "
                f"({row['at_once']} at once): {row['ratio_of_operations']:.2f}x operations, "
                f"{row['ratio_of_tokens']:.2f}x tokens; {ours['gflops']:.0f} vs "
                f"{them['gflops']:.0f} GFLOP/s of {row['ceiling_gflops']:.0f} "
                f"({ours['share_of_ceiling']:.1%} vs {them['share_of_ceiling']:.1%}), "
                f"{ours['peak_gigabytes']} vs {them['peak_gigabytes']} GB",
                flush=True,
            )


if __name__ == "__main__":
    main()
