"""One contender of benchmarks/grpo.py, in a process of its own: GRPO steps on request, times out.

    python benchmarks/grpo_contender.py NAME JOB.json

Reads the number of steps from each line of stdin, takes them and answers with one JSON line:
seconds and drawn tokens of each step, peak memory so far.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

Job = dict[str, Any]
Rows = Iterator[dict[str, float]]


def reward_of(text: str) -> float:
    """A reward that both can compute and no two answers share by chance: its share of vowels."""
    return sum(text.count(vowel) for vowel in "aeiou") / max(1, len(text))


def fledge(job: Job) -> Rows:
    """As ``fledge grpo`` steps: rollout by the engine, written to disk, and the update."""
    from fledge.core.protocols import Silent
    from fledge.train.device import arithmetic, choose_device
    from fledge.train.job import Position
    from fledge.train.step import update
    from fledge.tune.held_out_rewards import HeldOut
    from fledge.tune.reinforce import Helpers, _job, gather_cast
    from fledge.tune.reinforce_batches import RolloutBatches
    from fledge.tune.reinforce_config import GrpoConfig
    from fledge.tune.verifiers import Score

    config = GrpoConfig(
        batch_rows=job["answers"],
        group=job["group"],
        max_new_tokens=job["tokens"],
        rewards={"vowels": 1.0},
        held_out=0.0,
        watch_kl=False,
        precision="fp32",
        steps=10_000,
        learning_rate=1e-5,
        embedding_learning_rate=1e-5,
        threads=job["threads"],
    )
    helpers = Helpers(
        verifiers={"vowels": lambda said, answer, reference: Score(reward_of(answer))}
    )
    folder = Path(job["folder"])
    with arithmetic(config, choose_device(config)):
        cast = gather_cast(config, folder / "model", [folder / "p.jsonl"], Silent(), helpers)
        batches = RolloutBatches(config, cast.players, cast.prompts, folder / "rollouts", Silent())
        validate = HeldOut(config, cast.players, batches, [], folder / "state")
        work = _job("grpo", config, cast, batches, validate, folder)
        position = Position()
        while True:
            begun = time.perf_counter()
            batch = batches[position.step]
            rolled = time.perf_counter()
            done = update(work, work.objective, batch, position, 1.0)
            position.learnt(batch, done.loss)
            yield {
                "seconds": time.perf_counter() - begun,
                "rollout_seconds": rolled - begun,
                "drawn": float((batch.weights > 0).sum()),
            }


def trl(job: Job) -> None:
    """GRPOTrainer with transformers' generate, answering by a callback."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    torch.set_num_threads(job["threads"])
    folder = Path(job["folder"])
    rows = [json.loads(line) for line in (folder / "p.jsonl").read_text().splitlines()]
    dataset = Dataset.from_list([{"prompt": row["messages"]} for row in rows])
    arguments = GRPOConfig(
        output_dir=str(folder / "trl"),
        per_device_train_batch_size=job["answers"],
        num_generations=job["group"],
        max_completion_length=job["tokens"],
        beta=0.0,
        learning_rate=1e-5,
        lr_scheduler_type="constant",
        max_steps=10_000,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to=[],
        logging_steps=1,
        save_strategy="no",
        disable_tqdm=True,
        temperature=1.0,
        top_k=0,
    )
    lengths: list[int] = []

    def rewards(
        completions: list[Any], completion_ids: list[list[int]], **more: Any
    ) -> list[float]:
        lengths[:] = [len(ids) for ids in completion_ids]
        return [reward_of(one[0]["content"]) for one in completions]

    class Answers(TrainerCallback):  # type: ignore[misc]
        left = 0
        begun = 0.0

        def on_step_begin(self, *_: Any, **more: Any) -> None:
            if not self.left:
                self.left = asked_for()
            self.begun = time.perf_counter()

        def on_step_end(self, *_: Any, **more: Any) -> None:
            row = {"seconds": time.perf_counter() - self.begun, "drawn": float(sum(lengths))}
            taken.append(row)
            self.left -= 1
            if not self.left:
                answer(taken)
                taken.clear()

    taken: list[dict[str, float]] = []
    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32),
        reward_funcs=rewards,
        args=arguments,
        train_dataset=dataset,
        processing_class=AutoTokenizer.from_pretrained(folder / "model"),
        callbacks=[Answers()],
    )
    # What the first step is asked for is drawn before it begins; so it is not measured.
    trainer.log = lambda *_, **more: None
    trainer.train()


def asked_for() -> int:
    """How many steps are wanted next; ends the process when no more are."""
    line = sys.stdin.readline()
    if not line.strip():
        sys.stdout.flush()
        os._exit(0)
    return int(line)


def answer(rows: list[dict[str, float]]) -> None:
    """One JSON line to whoever asked."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"steps": rows, "peak_bytes": peak}), flush=True)


def main() -> None:
    name, job = sys.argv[1], json.loads(Path(sys.argv[2]).read_text())
    if name == "trl":
        return trl(job)
    steps = fledge(job)
    while True:
        answer([next(steps) for _ in range(asked_for())])


if __name__ == "__main__":
    main()
