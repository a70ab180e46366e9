"""Losses of preference learning, fledge against TRL: value and gradients on the same pairs.

    python benchmarks/trl_losses.py --trl-python PATH [--json]

A small random decoder learns from random pairs of several lengths.  TRL computes each loss by its
own trainers' code (DPOTrainer, KTOTrainer, RewardTrainer; CPO and ORPO of trl.experimental), one
pair at a time where its loss is a mean over pairs, in the interpreter named by --trl-python or
$FLEDGE_TRL_PYTHON; fledge computes all pairs packed into rows.  Exit code 1 when a value or the
gradient of all weights differs by more than 1e-4 of itself.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

TOLERANCE = 1e-4
PAIRS = 6
VOCAB, CONTEXT = 311, 48

CASES: dict[str, dict[str, Any]] = {
    "dpo": {"loss": "dpo", "beta": 0.3},
    "cdpo": {"loss": "dpo", "beta": 0.3, "label_smoothing": 0.2},
    "rpo": {"loss": "dpo", "beta": 0.3, "sft_weight": 0.7},
    "robust": {"loss": "robust", "beta": 0.3, "label_smoothing": 0.2},
    "ipo": {"loss": "ipo", "beta": 0.4},
    "dpo_norm": {"loss": "dpo_norm", "beta": 3.0},
    "simpo": {"loss": "simpo", "beta": 2.0, "gamma": 1.0},
    "orpo": {"loss": "orpo", "beta": 0.5},
    "kto": {"loss": "kto", "beta": 0.3, "desirable_weight": 1.3, "undesirable_weight": 0.8},
    "reward": {"centre": 0.05},
}
TRL_NAMES = {
    "dpo": ["sigmoid"],
    "cdpo": ["aot"],  # which sorts a batch; of one pair it is DPO with smoothed labels
    "rpo": ["sigmoid", "sft"],
    "robust": ["robust"],
    "ipo": ["ipo"],
    "dpo_norm": ["sigmoid_norm"],
}


def peer() -> None:
    """TRL's side: a JSON job on stdin, values on stdout, gradients in files.  Knows no fledge."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    job = json.load(sys.stdin)
    values = {}
    for name, options in job["cases"].items():
        torch.manual_seed(0)
        kind = AutoModelForSequenceClassification if name == "reward" else AutoModelForCausalLM
        model = kind.from_pretrained(job["scorer" if name == "reward" else "model"])
        values[name] = _peer_case(name, options, job, model)
        gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        save_file(gradients, f"{job['out']}/{name}.safetensors")
    print("VALUES" + json.dumps(values))


def _peer_case(name: str, options: dict[str, Any], job: dict[str, Any], model: Any) -> float:
    """The value of a loss; its gradients stay in ``model``."""
    pairs = job["pairs"]
    if name == "kto":
        loss = _peer_kto(options, job, model)
        loss.backward()
        return float(loss)
    total = 0.0
    trainer = _peer_trainer(name, options, job, model)
    for pair in pairs:
        if name == "reward":
            loss = _peer_reward(trainer, model, pair)
        elif name in ("simpo", "orpo"):
            loss = _peer_experimental(name, options, model, pair)
        else:
            batch = _peer_batch([pair["chosen"], pair["rejected"]])
            loss = trainer._compute_loss(trainer.model, batch, False)
        (loss / len(pairs)).backward()
        total += float(loss) / len(pairs)
    return total


def _peer_batch(answers: list[dict[str, Any]]) -> dict[str, Any]:
    """input_ids, attention_mask and completion_mask, padded on the right."""
    import torch

    longest = max(len(one["ids"]) for one in answers)
    rows = [
        (one["ids"] + [0] * (n := longest - len(one["ids"])), one["mask"] + [0] * n, n)
        for one in answers
    ]
    return {
        "input_ids": torch.tensor([ids for ids, _, _ in rows]),
        "attention_mask": torch.tensor([[1] * (longest - n) + [0] * n for _, _, n in rows]),
        "completion_mask": torch.tensor([mask for _, mask, _ in rows]),
    }


def _peer_trainer(name: str, options: dict[str, Any], job: dict[str, Any], model: Any) -> Any:
    """A real trainer of TRL around the model, where the loss has one."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer

    plain = {"output_dir": job["out"], "report_to": [], "use_cpu": True, "bf16": False}
    plain |= {"gradient_checkpointing": False, "disable_dropout": True}
    rows = Dataset.from_list([{"prompt": "a", "chosen": "b", "rejected": "c"}] * 2)
    tokenizer = AutoTokenizer.from_pretrained(job["tokenizer"])
    if name == "reward":
        config = RewardConfig(center_rewards_coefficient=options["centre"], **plain)
        return RewardTrainer(model, config, train_dataset=rows, processing_class=tokenizer)
    if name not in TRL_NAMES:
        return None
    weights = [1.0, options["sft_weight"]] if name == "rpo" else None
    config = DPOConfig(
        beta=options["beta"],
        label_smoothing=options.get("label_smoothing", 0.0),
        loss_type=TRL_NAMES[name],
        loss_weights=weights,
        **plain,
    )
    reference = AutoModelForCausalLM.from_pretrained(job["reference"])
    return DPOTrainer(model, reference, config, train_dataset=rows, processing_class=tokenizer)


def _peer_reward(trainer: Any, model: Any, pair: dict[str, Any]) -> Any:
    import torch

    batch = _peer_batch([pair["chosen"], pair["rejected"]])
    del batch["completion_mask"]
    return trainer.compute_loss(model, {**batch, "margin": torch.tensor([pair["margin"]])})


def _peer_experimental(name: str, options: dict[str, Any], model: Any, pair: dict[str, Any]) -> Any:
    """CPO's and ORPO's own methods, which need no trainer around them."""
    from trl.experimental.cpo import CPOTrainer
    from trl.experimental.orpo import ORPOTrainer

    batch = _peer_batch([pair["chosen"], pair["rejected"]])
    labels = batch["input_ids"].masked_fill(batch.pop("completion_mask") == 0, -100)
    logits = model(**batch).logits
    trainer = SimpleNamespace(
        accelerator=SimpleNamespace(device="cpu"),
        beta=options["beta"],
        alpha=0.0,
        label_smoothing=0.0,
        loss_type="simpo",
        simpo_gamma=options.get("gamma"),
    )
    kind = CPOTrainer if name == "simpo" else ORPOTrainer
    log_probs = kind.get_batch_logps(logits, labels, average_log_prob=True)
    if name == "simpo":
        return CPOTrainer.cpo_loss(trainer, log_probs[:1], log_probs[1:])[0].mean()
    odds = ORPOTrainer.odds_ratio_loss(trainer, log_probs[:1], log_probs[1:])[0]
    # As its trainer adds them up; there the prompt is learnt, too, which fledge does not.
    return -log_probs[0] - odds.mean()


def _peer_kto(options: dict[str, Any], job: dict[str, Any], model: Any) -> Any:
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import KTOConfig, KTOTrainer

    config = KTOConfig(
        output_dir=job["out"],
        report_to=[],
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        disable_dropout=True,
        **{key: value for key, value in options.items() if key != "loss"},
    )
    answers = [pair[side] for pair in job["pairs"] for side in ("chosen", "rejected")]
    labels = [True, False] * len(job["pairs"])
    rows = Dataset.from_list([{"prompt": "a", "completion": "b", "label": True}] * 2)
    trainer = KTOTrainer(
        model,
        AutoModelForCausalLM.from_pretrained(job["reference"]),
        config,
        train_dataset=rows,
        processing_class=AutoTokenizer.from_pretrained(job["tokenizer"]),
    )
    others = {f"KL_{key}": value for key, value in _peer_batch(job["mismatched"]).items()}
    batch = {**_peer_batch(answers), **others, "label": torch.tensor(labels)}
    return trainer._compute_loss(trainer.model, batch, False)


def has_trl(python: str) -> bool:
    """Whether trl can be imported there."""
    done = subprocess.run([python, "-c", "import trl"], capture_output=True)
    return done.returncode == 0


def ask_peer(python: str, job: dict[str, Any]) -> dict[str, float]:
    """The values of ``peer`` in the interpreter ``python``; gradients are in ``job["out"]``."""
    done = subprocess.run(
        [python, __file__, "--peer"], input=json.dumps(job), capture_output=True, text=True
    )
    if done.returncode or "VALUES" not in done.stdout:
        raise SystemExit(f"trl failed in {python}:\n{done.stderr[-3000:]}")
    values: dict[str, float] = json.loads(done.stdout.split("VALUES")[1])
    return values


def make_job(folder: Path) -> dict[str, Any]:
    """A model, a reference, a scorer and pairs of answers, written to ``folder``."""
    import torch

    from fledge.model.checkpoint import save_model
    from fledge.model.config import derive
    from fledge.model.decoder import Decoder
    from fledge.model.scorer import Scorer, save_scorer
    from fledge.tokenizer.config import TokenizerConfig
    from fledge.tokenizer.train import train_tokenizer

    shape = derive(2, VOCAB, CONTEXT, width=32, heads=2, kv_heads=1)
    shape = shape.model_copy(update={"pad_id": 0, "eos_ids": (1,)})
    generator = torch.Generator().manual_seed(3)
    models = {}
    for name in ("model", "reference"):
        models[name] = Decoder(shape)
        for weight in models[name].parameters():
            if weight.ndim == 2:
                weight.data.copy_(torch.randn(weight.shape, generator=generator) * 0.2)
        save_model(models[name], folder / name)
    scorer = Scorer.on(models["model"])
    scorer.score.weight.data.copy_(torch.randn(1, shape.width, generator=generator))
    save_scorer(scorer, folder / "scorer")
    texts = [("en", f"Some words {n} for a tokenizer.") for n in range(50)]
    train_tokenizer(
        TokenizerConfig(vocab_size=300), lambda: iter(texts), lambda: iter(texts), folder / "words"
    )
    rng = random.Random(5)

    def answer(prompt: list[int], length: int) -> dict[str, Any]:
        ids = [rng.randrange(2, VOCAB) for _ in range(length)]
        return {"ids": prompt + ids, "mask": [0] * len(prompt) + [1] * length}

    pairs = []
    for number in range(PAIRS):
        prompt = [rng.randrange(2, VOCAB) for _ in range(3 + number)]
        chosen, rejected = answer(prompt, 2 + 3 * number), answer(prompt, 15 - 2 * number)
        pairs.append({"chosen": chosen, "rejected": rejected, "margin": 0.25 * number})
    (folder / "out").mkdir()
    paths = {key: str(folder / key) for key in ("model", "reference", "scorer", "out")}
    return {**paths, "tokenizer": str(folder / "words"), "pairs": pairs, "cases": CASES}


def groups_of(job: dict[str, Any]) -> list[Any]:
    """The pairs as fledge reads them."""
    from fledge.data.conversations import Rendered
    from fledge.tune.groups import Group

    def rendered(one: dict[str, Any]) -> Any:
        return Rendered(ids=one["ids"], mask=[bool(m) for m in one["mask"]], turns=[])

    return [
        Group(answers=(rendered(pair["chosen"]), rendered(pair["rejected"])), margin=pair["margin"])
        for pair in job["pairs"]
    ]


def mismatched_of(job: dict[str, Any]) -> list[dict[str, Any]]:
    """KTO's prompts with others' answers, for both sides."""
    from fledge.tune.kto import mismatched

    groups = [one for group in groups_of(job) for one in group.apart()]
    return [
        {"ids": one.answers[0].ids, "mask": [int(m) for m in one.answers[0].mask]}
        for one in mismatched(groups, CONTEXT)
    ]


def ours(name: str, job: dict[str, Any]) -> tuple[float, dict[str, Any]]:
    """fledge's value and gradients (by their names in the Hugging Face layout) of a case."""
    import torch

    from fledge.model.checkpoint import huggingface_name, load_model
    from fledge.model.scorer import HEAD, load_scorer
    from fledge.tune.held_out import log_probs_of_groups
    from fledge.tune.kto import KtoLoader, mismatched
    from fledge.tune.pair_loader import PairLoader
    from fledge.tune.preference_config import DpoConfig
    from fledge.tune.preference_objective import Tally, kto_objective, preference_objective
    from fledge.tune.reward import answer_objective, at_the_end
    from fledge.tune.segments import count_segments

    row, groups, options = 2 * CONTEXT, groups_of(job), CASES[name]
    rows = {"row": row, "batch_rows": 6, "seed": 0, "fill": 0, "epochs": 1}
    reference = load_model(job["reference"])

    def referred(some: list[Any]) -> list[Any]:
        values = log_probs_of_groups(reference, some, row)
        return [group.with_signals(v) for group, v in zip(some, values, strict=True)]

    tally = Tally(torch.device("cpu"))
    if name == "reward":
        model: Any = load_scorer(job["scorer"])
        loader: Any = PairLoader([at_the_end(g, True) for g in groups], scored=True, **rows)
        objective = answer_objective(loader.most, options["centre"])
    else:
        model, config = load_model(job["model"]), DpoConfig.model_validate(options)
        if name == "kto":
            singles = referred([one for group in groups for one in group.apart()])
            pairs = PairLoader(singles, **rows)
            loader = KtoLoader(pairs, referred(mismatched(singles, CONTEXT)), model)
            objective = kto_objective(config, loader.most, tally)
        else:
            loader = PairLoader(referred(groups), **rows)
            objective = preference_objective(config, loader.most, tally)
    batch = loader[0]
    assert loader.steps == 1
    count = count_segments(batch) / (1 if name == "kto" else 2)
    total = 0.0
    for piece in batch.micro(2):
        loss = objective(model, piece) / count
        if loss.requires_grad:
            loss.backward()
        total += float(loss.detach())
    gradients = {
        n if n == HEAD else huggingface_name(n): p.grad
        for n, p in model.named_parameters()
        if p.grad is not None
    }
    return total, gradients


def compare(name: str, job: dict[str, Any], theirs: float) -> dict[str, Any]:
    """How far value and gradients of a case are apart, as shares of TRL's."""
    import torch
    from safetensors.torch import load_file

    value, gradients = ours(name, job)
    other = load_file(f"{job['out']}/{name}.safetensors")
    assert gradients.keys() == other.keys(), sorted(gradients.keys() ^ other.keys())
    apart = torch.stack([(gradients[n] - other[n]).norm() for n in other]).norm()
    size = torch.stack([tensor.norm() for tensor in other.values()]).norm()
    return {
        "case": name,
        "fledge": value,
        "trl": theirs,
        "value_apart": abs(value - theirs) / abs(theirs),
        "gradient_norm": float(size),
        "gradient_apart": float(apart / size),
    }


def run(python: str, folder: Path) -> list[dict[str, Any]]:
    """All cases."""
    job = make_job(folder)
    values = ask_peer(python, {**job, "mismatched": mismatched_of(job)})
    return [compare(name, job, values[name]) for name in CASES]


def main() -> None:
    """Compare, print a table (or JSON), exit 1 when something is apart."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--trl-python", default=os.environ.get("FLEDGE_TRL_PYTHON", sys.executable), metavar="PATH"
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--peer", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.peer:
        return peer()
    if not has_trl(asked.trl_python):
        raise SystemExit(
            f"trl cannot be imported in {asked.trl_python}: name another with --trl-python"
        )
    with tempfile.TemporaryDirectory() as temporary:
        rows = run(asked.trl_python, Path(temporary))
    for row in rows:
        if asked.json:
            print(json.dumps(row))
        else:
            print(
                f"{row['case']:<9} fledge {row['fledge']:.6f}  trl {row['trl']:.6f}  value apart "
                f"{row['value_apart']:.1e}  gradients apart {row['gradient_apart']:.1e}"
            )
    if any(max(row["value_apart"], row["gradient_apart"]) > TOLERANCE for row in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
