"""PPO, GRPO and RLOO against TRL: the same model and batch, values and gradients compared.

    python benchmarks/trl_reinforcement.py --python PYTHON [--old-trl FOLDER]

PYTHON has trl 1.x, torch and transformers; FOLDER holds the unpacked wheel of trl 0.11, whose
PPO losses are methods (later ones have them inside a loop, 1.x has none).  Prints the largest
difference of each, relative to the largest number of its kind; all must stay below 1e-4.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from fledge.model.checkpoint import huggingface_name, save_model
from fledge.model.config import ModelConfig
from fledge.model.decoder import Decoder
from fledge.tokenizer.config import TokenizerConfig
from fledge.tokenizer.train import train_tokenizer
from fledge.tune.branching import lay_out
from fledge.tune.credit import credit_groups, token_weights
from fledge.tune.experience import Experience
from fledge.tune.losses.advantages import gae, whiten
from fledge.tune.losses.kl import adapted_weight
from fledge.tune.losses.policy import policy_loss, value_loss
from fledge.tune.reinforce_config import GrpoConfig
from fledge.tune.reinforce_objective import Tally, counted, reinforce_objective

TOLERANCE = 1e-4
GROUP, PROMPTS, LONGEST = 4, 3, 12
PEER = Path(__file__).with_name("trl_reinforcement_peer.py")

PPO = {"gamma": 0.98, "lam": 0.93, "clip": 0.2, "value_clip": 0.2, "value_weight": 0.4}

JOBS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    # name: (TRL's trainer, its options, ours)
    "grpo": ("grpo", {"loss_type": "grpo", "beta": 0.0}, {"normalise": "answer"}),
    "grpo_kl": (
        "grpo",
        {"loss_type": "grpo", "beta": 0.05, "use_bias_correction_kl": False},
        {"normalise": "answer", "kl_weight": 0.05},
    ),
    "grpo_kl_corrected": (
        "grpo",
        {"loss_type": "grpo", "beta": 0.05, "use_bias_correction_kl": True},
        {"normalise": "answer", "kl_weight": 0.05, "kl_corrected": True},
    ),
    "dr_grpo": (
        "grpo",
        {"loss_type": "dr_grpo", "scale_rewards": "none", "beta": 0.0},
        {"normalise": "constant", "advantage": "mean"},
    ),
    "dapo": (
        "grpo",
        {"loss_type": "dapo", "epsilon_high": 0.28, "beta": 0.0},
        {"normalise": "token", "clip_high": 0.28},
    ),
    "dual_clip": (
        "grpo",
        {"loss_type": "grpo", "delta": 1.5, "beta": 0.0},
        {"normalise": "answer", "clip_cap": 1.5},
    ),
    "temperature": (
        "grpo",
        {"loss_type": "grpo", "temperature": 0.7, "beta": 0.0},
        {"normalise": "answer", "temperature": 0.7},
    ),
    "rloo": (
        "rloo",
        {"beta": 0.0},
        {"normalise": "answer", "ratio": "answer", "advantage": "leave_one_out"},
    ),
}


def compare(python: str, old_trl: Path | None) -> dict[str, dict[str, float]]:
    """Job -> kind of number -> largest difference, relative to the largest number."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = _write_model(folder / "model")
        batch = _batch(model)
        jobs = [{"name": job, "kind": kind, "options": how} for job, (kind, how, _) in JOBS.items()]
        if old_trl is not None:
            jobs.append({"name": "ppo", "kind": "ppo", **PPO})
        (folder / "batch.json").write_text(json.dumps(batch))
        (folder / "jobs.json").write_text(json.dumps(jobs))
        command = [python, str(PEER), str(folder), *([str(old_trl)] if old_trl else [])]
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr[-3000:])
        rows = {}
        for job in jobs:
            theirs = load_file(folder / f"{job['name']}.safetensors")
            ours = _ppo(batch) if job["kind"] == "ppo" else _ours(model, batch, job["name"])
            rows[job["name"]] = _differences(ours, theirs)
        return rows


def _write_model(folder: Path) -> Decoder:
    texts = [("en", f"The bridge number {n} opened in {1900 + n}.") for n in range(60)]
    train_tokenizer(TokenizerConfig(vocab_size=300), lambda: texts, lambda: texts, folder)
    config = ModelConfig(
        vocab_size=300,
        width=32,
        depth=2,
        heads=2,
        kv_heads=1,
        ffn=48,
        context=64,
        eos_ids=(2,),
        pad_id=0,
    )
    model = Decoder(config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.2)
    save_model(model, folder)
    return model


def _batch(model: Decoder) -> dict[str, Any]:
    """Prompts, answers of unequal lengths, rewards, and old log-probabilities some way off."""
    chance = random.Random(5)
    rows = GROUP * PROMPTS
    asked = [[chance.randrange(10, 300) for _ in range(3 + 2 * n)] for n in range(PROMPTS)]
    prompts = [asked[n // GROUP] for n in range(rows)]
    lengths = [2 + (5 * n) % (LONGEST - 1) for n in range(rows)]
    completions = [[*(chance.randrange(10, 300) for _ in range(n - 1)), 2] for n in lengths]
    now = [
        _logp(model, prompt, completion)
        for prompt, completion in zip(prompts, completions, strict=True)
    ]

    def near(values: list[float], spread: float) -> list[float]:
        return [value + chance.gauss(0, spread) for value in values]

    return {
        "group": GROUP,
        "max_new_tokens": LONGEST,
        "prompts": prompts,
        "completions": completions,
        "rewards": [round(chance.random(), 3) for _ in range(rows)],
        "now": now,
        "old": [near(row, 0.3) for row in now],
        "reference": [near(row, 0.5) for row in now],
        "values": [near([0.0] * n, 0.5) for n in lengths],
        "values_now": [near([0.0] * n, 0.5) for n in lengths],
        "token_rewards": [near([0.0] * n, 1.0) for n in lengths],
    }


@torch.no_grad()
def _logp(model: Decoder, prompt: list[int], completion: list[int]) -> list[float]:
    scores = model(torch.tensor([prompt + completion]))[0, len(prompt) - 1 : -1].log_softmax(-1)
    found: list[float] = scores.gather(-1, torch.tensor(completion)[:, None]).squeeze(-1).tolist()
    return found


def _ours(model: Decoder, batch: dict[str, Any], name: str) -> dict[str, Tensor]:
    rows = len(batch["prompts"])
    config = GrpoConfig.model_validate(
        {"group": GROUP, "batch_rows": rows, "max_new_tokens": LONGEST, **JOBS[name][2]}
    )
    pairs = list(zip(batch["prompts"], batch["completions"], strict=True))
    experience = Experience(
        ids=np.array([token for p, c in pairs for token in p + c], np.int32),
        learnt=np.array([one for p, c in pairs for one in [False] * len(p) + [True] * len(c)]),
        lengths=np.array([len(p) + len(c) for p, c in pairs], np.int32),
        rewards=np.array(batch["rewards"], np.float32),
        truncated=np.zeros(rows, np.bool_),
    )
    for channel, key in (("old", "old"), ("reference", "reference"), ("drawn", "old")):
        values = [
            x for (p, _), row in zip(pairs, batch[key], strict=True) for x in [0.0] * len(p) + row
        ]
        experience.signals[channel] = np.array(values, np.float32)
    experience.signals["kl_weight"] = np.full(len(experience.ids), config.kl_weight, np.float32)
    credit_groups(experience, config, config.advantage, config.kl_weight)
    laid = lay_out(experience, range(rows), token_weights(experience, config), 0, 256).batch
    model.zero_grad(set_to_none=True)
    loss = reinforce_objective(config, Tally())(model, laid) / counted(config)(laid)
    loss.backward()
    found = {"loss": loss.detach()[None]}
    found["advantages"] = torch.from_numpy(experience.signals["advantage"][experience.starts])
    for own, weight in model.named_parameters():
        if weight.grad is not None:
            found[f"gradient.{huggingface_name(own)}"] = weight.grad.clone()
    return found


def _ppo(batch: dict[str, Any]) -> dict[str, Tensor]:
    width = max(map(len, batch["old"]))

    def padded(name: str) -> Tensor:
        return torch.tensor([[*row, *[0.0] * (width - len(row))] for row in batch[name]])

    mask = torch.tensor([[1.0] * len(row) + [0.0] * (width - len(row)) for row in batch["old"]])
    old, values, now, seen = (padded(name) for name in ("old", "values", "now", "values_now"))
    advantages, returns = gae(padded("token_rewards"), values, mask, PPO["gamma"], PPO["lam"])
    advantages = whiten(advantages, mask)
    now.requires_grad_()
    seen.requires_grad_()
    losses = policy_loss(now - old, advantages, PPO["clip"], PPO["clip"])
    losses = losses + PPO["value_weight"] * value_loss(seen, values, returns, PPO["value_clip"])
    loss = (losses * mask).sum() / mask.sum()
    loss.backward()
    assert now.grad is not None
    assert seen.grad is not None
    return {
        "loss": loss.detach()[None],
        "advantages": advantages * mask,
        "returns": returns * mask,
        "gradient.logp": now.grad,
        "gradient.values": seen.grad,
        "kl_weight": torch.tensor([adapted_weight(0.2, 7.5, 6.0, 64, 1000)]),
    }


def _differences(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> dict[str, float]:
    """Kind of number -> largest difference relative to the largest number of all of its kind."""
    assert set(ours) == set(theirs), set(ours) ^ set(theirs)
    found: dict[str, float] = {}
    for kind in dict.fromkeys(name.partition(".")[0] for name in ours):
        names = [name for name in ours if name.partition(".")[0] == kind]
        largest = max(float(theirs[name].abs().max()) for name in names)
        far = max(float((ours[name] - theirs[name]).abs().max()) for name in names)
        found[kind] = far / largest
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--python", required=True)
    parser.add_argument("--old-trl", type=Path)
    asked = parser.parse_args()
    worst = 0.0
    for name, row in compare(asked.python, asked.old_trl).items():
        worst = max(worst, *row.values())
        print(f"{name:18}", ", ".join(f"{kind} {value:.1e}" for kind, value in row.items()))
    print("all below" if worst < TOLERANCE else "NOT all below", TOLERANCE)


if __name__ == "__main__":
    main()
