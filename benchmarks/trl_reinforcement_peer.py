"""The peer of benchmarks/trl_reinforcement.py: TRL's own losses and gradients on a given batch.

    python benchmarks/trl_reinforcement_peer.py FOLDER [FOLDER of TRL 0.11]

FOLDER holds ``model/`` (Hugging Face), ``batch.json`` and ``jobs.json``.  For each job
``NAME.safetensors`` is written beside them: the loss, the advantages and each weight's gradient.
TRL keeps no PPO since 1.0: its last losses as methods are those of 0.11, from a second folder.
"""

from __future__ import annotations

import ast
import json
import os
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import numpy as np
import torch
from safetensors.torch import save_file

Row = dict[str, Any]


def main() -> None:
    folder = Path(sys.argv[1])
    batch = json.loads((folder / "batch.json").read_text())
    for job in json.loads((folder / "jobs.json").read_text()):
        if job["kind"] == "ppo":
            found = ppo(Path(sys.argv[2]), job, batch)
        else:
            found = trained(folder, job, batch)
        tensors = {name: value.detach().float().contiguous() for name, value in found.items()}
        save_file(tensors, folder / f"{job['name']}.safetensors")


def trained(folder: Path, job: Row, batch: Row) -> dict[str, torch.Tensor]:
    """GRPO or RLOO: rewards to advantages, loss and gradients, all by the trainer itself."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

    rows, group = len(batch["completions"]), batch["group"]
    kinds = {"grpo": (GRPOTrainer, GRPOConfig), "rloo": (RLOOTrainer, RLOOConfig)}
    trainer_kind, config_kind = kinds[job["kind"]]
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    arguments = config_kind(
        output_dir=str(folder / "trl"),
        per_device_train_batch_size=rows,
        num_generations=group,
        max_completion_length=batch["max_new_tokens"],
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to=[],
        disable_tqdm=True,
        **job["options"],
    )
    trainer = trainer_kind(
        model=model,
        reward_funcs=lambda completions, **more: batch["rewards"],
        args=arguments,
        train_dataset=Dataset.from_list([{"prompt": "x"}] * rows),
        processing_class=AutoTokenizer.from_pretrained(folder / "model"),
    )
    texts = [f"{n}" for n in range(rows)]
    made: tuple[Any, ...] = (batch["prompts"], batch["completions"], texts)
    if job["kind"] == "grpo":
        made = (batch["prompts"], batch["completions"], None, texts, None, {}, None, None)
    trainer._generate = lambda prompts: made
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    inputs = trainer._generate_and_score_completions([{"prompt": "x"}] * rows)
    width = inputs["completion_ids"].shape[1]
    inputs["old_per_token_logps"] = padded(batch["old"], width)
    inputs["old_logps"] = (padded(batch["old"], width) * inputs["completion_mask"]).sum(1)
    if "ref_per_token_logps" in inputs:
        inputs["ref_per_token_logps"] = padded(batch["reference"], width)
    loss = trainer._compute_loss(trainer.model, inputs)
    loss.backward()
    gradients = {f"gradient.{n}": p.grad for n, p in model.named_parameters() if p.grad is not None}
    return {"loss": loss[None], "advantages": inputs["advantages"], **gradients}


def padded(rows: list[list[float]], width: int) -> torch.Tensor:
    return torch.tensor([[*row, *[0.0] * (width - len(row))] for row in rows])


def ppo(source: Path, job: Row, batch: Row) -> dict[str, torch.Tensor]:
    """GAE, policy and value loss, the controller of KL; gradients of log p and of the values."""
    namespace = old_functions(source)
    config = SimpleNamespace(
        gamma=job["gamma"],
        lam=job["lam"],
        whiten_rewards=False,
        cliprange=job["clip"],
        cliprange_value=job["value_clip"],
        vf_coef=job["value_weight"],
        ratio_threshold=1e9,
    )
    trainer = SimpleNamespace(config=config)
    width = max(map(len, batch["old"]))
    names = ("old", "values", "token_rewards", "now", "values_now")
    old, values, rewards, now, seen = (padded(batch[name], width) for name in names)
    mask = padded([[1.0] * len(row) for row in batch["old"]], width)
    values, advantages, returns = namespace["compute_advantages"](trainer, values, rewards, mask)
    now.requires_grad_()
    seen.requires_grad_()
    logits = torch.zeros(*now.shape, 2)
    policy, value, _ = namespace["loss"](
        trainer, old, values, logits, seen, now, mask, advantages, returns
    )
    (policy + value).backward()
    controller = namespace["AdaptiveKLController"](0.2, 6.0, 1000)
    controller.update(7.5, 64)
    return {
        "loss": (policy + value)[None],
        "advantages": advantages * mask,
        "returns": returns * mask,
        "gradient.logp": now.grad,
        "gradient.values": seen.grad,
        "kl_weight": torch.tensor([controller.value]),
    }


def old_functions(source: Path) -> dict[str, Any]:
    """The functions of TRL 0.11 that are needed, without its imports, which today's
    transformers no longer serve."""
    wanted = {
        "core.py": {
            "flatten_dict", "masked_mean", "masked_var", "masked_whiten", "clip_by_value",
            "entropy_from_logits",
        },
        "trainer/utils.py": {"AdaptiveKLController"},
        "trainer/ppo_trainer.py": {"compute_advantages", "loss"},
    }  # fmt: skip
    future = "from __future__ import annotations\n"
    namespace: dict[str, Any] = {
        "torch": torch, "np": np, "warnings": warnings, "Mapping": Mapping,
        "F": torch.nn.functional, "nn": torch.nn,
    }  # fmt: skip
    for file, names in wanted.items():
        tree = ast.parse((source / "trl" / file).read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in names:
                if isinstance(node, ast.FunctionDef):
                    node.decorator_list = []
                exec(compile(future + ast.unparse(node), file, "exec"), namespace)
    return namespace


if __name__ == "__main__":
    main()
