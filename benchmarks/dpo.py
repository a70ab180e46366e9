"""One DPO step: fledge against TRL's DPOTrainer, same model, pairs and tokens, on this machine.

    python benchmarks/dpo.py --trl-python PATH [--size 6M|30M] [--pairs 16] [--json]

Both train a random model of one shape (Qwen 3 layout, AdamW for TRL, Muon for fledge as
its default, or --adamw for both) on the same pairs: a prompt of --prompt tokens and two answers of
half to all of --answer tokens.  References are computed before the first step on both sides and
are not timed.  Each runs in its own process, in turns, three rounds; the median step counts.  TRL
runs as it comes (fp32) and, with --tuned, in bf16 where this processor multiplies it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SIZES = {
    "1M": {"depth": 2, "width": 128, "vocab": 2048},
    "6M": {"depth": 6, "width": 256, "vocab": 4096},
    "30M": {"depth": 7, "width": 512, "vocab": 16384},
}


def make_pairs(job: dict[str, Any]) -> list[dict[str, list[int]]]:
    """Random token ids: equal prompts, answers of several lengths."""
    rng = random.Random(1)

    def ids(count: int) -> list[int]:
        return [rng.randrange(2, job["vocab"]) for _ in range(count)]

    longest = job["answer"]
    return [
        {
            "prompt": ids(job["prompt"]),
            "chosen": ids(rng.randint(longest // 2, longest)),
            "rejected": ids(rng.randint(longest // 2, longest)),
        }
        for _ in range(job["pairs"])
    ]


def trl(job: dict[str, Any]) -> Callable[[], None]:
    """TRL's side: DPOTrainer's own training step, its optimizer, precomputed references."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    config = DPOConfig(
        output_dir=job["out"],
        report_to=[],
        use_cpu=True,
        bf16=job["bf16"],
        gradient_checkpointing=False,
        per_device_train_batch_size=job["pairs"],
        learning_rate=1e-5,
        max_length=None,
        precompute_ref_log_probs=True,
    )
    rows = Dataset.from_list([{"prompt": "a", "chosen": "b", "rejected": "c"}] * job["pairs"])
    trainer = DPOTrainer(
        AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32),
        None,
        config,
        train_dataset=rows,
        processing_class=AutoTokenizer.from_pretrained(job["tokenizer"]),
    )
    features = [
        {
            "prompt_ids": pair["prompt"],
            "chosen_ids": pair["chosen"],
            "rejected_ids": pair["rejected"],
            "ref_chosen_logps": -100.0,
            "ref_rejected_logps": -100.0,
        }
        for pair in make_pairs(job)
    ]
    trainer.create_optimizer()
    trainer.current_gradient_accumulation_steps = 1
    model = trainer.model.train()

    def step() -> None:
        trainer.training_step(model, trainer.data_collator(features))
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        trainer.optimizer.step()
        model.zero_grad()

    return step


def fledge(job: dict[str, Any]) -> Callable[[], None]:
    """As ``fledge dpo`` steps: packed rows, products in the faster type, generated code."""
    import numpy as np
    import torch

    from fledge.core import Silent
    from fledge.data.conversations import Rendered
    from fledge.model.checkpoint import load_model
    from fledge.train.compile import compiled
    from fledge.train.device import arithmetic, choose_micro_rows, choose_precision
    from fledge.train.optimizers import build_optimizers
    from fledge.tune.groups import Group, row_for
    from fledge.tune.pair_loader import PairLoader
    from fledge.tune.preference_config import DpoConfig
    from fledge.tune.preference_objective import Tally, preference_objective

    groups = []
    for pair in make_pairs(job):
        sides = [pair["chosen"], pair["rejected"]]
        answers = tuple(
            Rendered(
                ids=pair["prompt"] + side,
                mask=[False] * len(pair["prompt"]) + [True] * len(side),
                turns=[],
            )
            for side in sides
        )
        told = tuple(np.full(len(side), -5, dtype=np.float32) for side in sides)
        groups.append(Group(answers=answers, signals=told))
    row = row_for(groups, 2 * job["context"], min(job["context"], 512))
    rows = PairLoader(groups, row=row, batch_rows=1, seed=0, fill=0, epochs=1).rows_per_epoch
    config = DpoConfig(batch_rows=rows, optimizer="adamw" if job["adamw"] else "muon")
    device = torch.device("cpu")
    contextlib.ExitStack().enter_context(arithmetic(config, device))
    model = load_model(job["model"]).train()
    model.compute_dtype = choose_precision(config, device)
    loader = PairLoader(groups, row=row, batch_rows=rows, seed=0, fill=0, epochs=1)
    optimizers = build_optimizers(model, config, matrix_rate=1e-5, other_rate=1e-5)
    plain = preference_objective(config, loader.most, Tally(device))
    micro = choose_micro_rows(config, row, device, model.compute_dtype)
    example = next(loader[0].micro(micro))
    objective = plain if job["eager"] else compiled(plain, model, example, Silent()) or plain

    def step() -> None:
        batch = loader[0]
        for piece in batch.micro(micro):
            (objective(model, piece) / job["pairs"]).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        model.zero_grad(set_to_none=True)

    return step


def contend(name: str, job: dict[str, Any]) -> None:
    """One process: reads numbers of steps on stdin, answers with their seconds."""
    import torch

    torch.set_num_threads(job["threads"])
    noise, sys.stdout = sys.stdout, sys.stderr  # libraries print; answers alone go out
    step = {"trl": trl, "fledge": fledge}[name](job)
    step()  # what is done once
    print(json.dumps({"ready": True}), file=noise, flush=True)
    for line in sys.stdin:
        seconds = []
        for _ in range(int(line)):
            begun = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - begun)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"seconds": seconds, "peak_bytes": peak}), file=noise, flush=True)


class Contender:
    """A process that takes steps when asked."""

    def __init__(self, python: str, name: str, job: dict[str, Any]) -> None:
        self._process = subprocess.Popen(
            [python, __file__, "--contend", name, json.dumps(job)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if not job["debug"] else None,
            text=True,
        )
        self.name, self.seconds, self.peak_bytes = name, list[float](), 0
        self._read()

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
            _, error = self._process.communicate()
            raise SystemExit(f"{self.name} failed:\n{(error or '')[-3000:]}")
        row: dict[str, Any] = json.loads(line)
        return row


def duel(python: str, job: dict[str, Any], steps: int) -> dict[str, Any]:
    """Both in turn; what each reached."""
    ours, theirs = Contender(sys.executable, "fledge", job), Contender(python, "trl", job)
    for _ in range(3):
        for one in (ours, theirs):
            one.steps(steps)
    ours.close()
    theirs.close()
    tokens = sum(
        2 * len(pair["prompt"]) + len(pair["chosen"]) + len(pair["rejected"])
        for pair in make_pairs(job)
    )
    rows = {
        one.name: {
            "seconds": round(statistics.median(one.seconds), 4),
            "tokens_per_second": round(tokens / statistics.median(one.seconds)),
            "peak_gigabytes": round(one.peak_bytes / 1e9, 3),
        }
        for one in (ours, theirs)
    }
    ratio = rows["trl"]["seconds"] / rows["fledge"]["seconds"]
    return {"pairs": job["pairs"], "tokens": tokens, "ratio": round(ratio, 3), **rows}


def make_model(folder: Path, job: dict[str, Any]) -> None:
    """A random model and some tokenizer."""
    from fledge.model.checkpoint import save_model
    from fledge.model.config import derive
    from fledge.model.decoder import Decoder
    from fledge.tokenizer.config import TokenizerConfig
    from fledge.tokenizer.train import train_tokenizer

    shape = derive(job["depth"], job["vocab"], job["context"], width=job["width"], tied=True)
    shape = shape.model_copy(update={"pad_id": 0, "eos_ids": (1,)})
    save_model(Decoder(shape).initialize(0), folder / "model")
    texts = [("en", f"Some words {n} for a tokenizer.") for n in range(50)]
    train_tokenizer(
        TokenizerConfig(vocab_size=300), lambda: iter(texts), lambda: iter(texts), folder / "words"
    )


def main() -> None:
    """Race, print a line (or JSON)."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--trl-python", default=os.environ.get("FLEDGE_TRL_PYTHON", sys.executable), metavar="PATH"
    )
    parser.add_argument("--size", choices=list(SIZES), default="6M")
    parser.add_argument("--pairs", type=int, default=16)
    parser.add_argument("--prompt", type=int, default=96)
    parser.add_argument("--answer", type=int, default=96)
    parser.add_argument("--steps", type=int, default=4, help="steps a round")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--adamw", action="store_true", help="AdamW on both sides")
    parser.add_argument("--eager", action="store_true", help="fledge without generated code")
    parser.add_argument("--tuned", action="store_true", help="TRL in bf16")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--debug", action="store_true", help="show what both sides print")
    parser.add_argument("--contend", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.contend:
        return contend(asked.contend[0], json.loads(asked.contend[1]))
    job = {**SIZES[asked.size], "context": asked.prompt + asked.answer, "bf16": asked.tuned}
    job |= {k: getattr(asked, k) for k in ("pairs", "prompt", "answer", "threads", "adamw")}
    job |= {"eager": asked.eager, "debug": asked.debug}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        job |= {"model": str(folder / "model"), "tokenizer": str(folder / "words")}
        job["out"] = str(folder / "out")
        make_model(folder, job)
        row = {"size": asked.size, **duel(asked.trl_python, job, asked.steps)}
    if asked.json:
        print(json.dumps(row))
        return
    ours, theirs = row["fledge"], row["trl"]
    print(
        f"{asked.size}, {row['pairs']} pairs, {row['tokens']:,} tokens: {row['ratio']:.2f}x; "
        f"fledge {ours['seconds']:.3f} s, {ours['peak_gigabytes']} GB; TRL "
        f"{theirs['seconds']:.3f} s, {theirs['peak_gigabytes']} GB"
    )


if __name__ == "__main__":
    main()
