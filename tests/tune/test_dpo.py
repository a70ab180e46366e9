"""The stage dpo: it learns to prefer, counts what it leaves out, and resumes to the same bits."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fledge.core.errors import InputError
from fledge.core.files import file_digest
from fledge.core.protocols import Silent
from fledge.core.run import Outcome
from fledge.model.checkpoint import load_model
from fledge.model.decoder import Decoder
from fledge.model.lora_checkpoint import load_lora
from fledge.tokenizer.tokenizer import Tokenizer
from fledge.train.compile import compiled, has_compiler
from fledge.train.world import ALONE
from fledge.tune.dpo import dpo
from fledge.tune.groups import Group
from fledge.tune.held_out import log_probs_of_groups
from fledge.tune.kto import KtoLoader, mismatched
from fledge.tune.pair_loader import PairLoader
from fledge.tune.pairs import gather_pairs
from fledge.tune.preference_config import DpoConfig
from fledge.tune.preference_objective import LOGGED, Tally, kto_objective, preference_objective
from fledge.tune.reference import Reference
from fledge.tune.segments import count_segments
from pico_model import write_pico_model
from pico_pairs import SMALL, polite_pairs, write_rows
from pico_runs import Listening, StopsAt

RESULT = ("model/model.safetensors", "loss.jsonl", "validation.jsonl")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pico_model(tmp_path_factory.mktemp("run"))


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return polite_pairs(tmp_path / "pairs.jsonl")


def run(base: Path, file: Path, out: Path, progress: Any = None, **changes: Any) -> Outcome:
    config = DpoConfig.model_validate({**SMALL, **changes})
    return dpo(config, base, [file], out, progress or Silent())


@pytest.mark.parametrize(
    "options",
    [
        {"loss": "dpo"},
        {"loss": "dpo", "label_smoothing": 0.1, "sft_weight": 0.5},
        {"loss": "robust", "label_smoothing": 0.1},
        {"loss": "dpo_norm"},
        {"loss": "ipo"},
        {"loss": "simpo"},
        {"loss": "orpo"},
        {"loss": "kto"},
    ],
)
def test_every_method_learns_to_prefer(
    base: Path, pairs: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    done = run(base, pairs, tmp_path / "out", **options)
    figures = done.figures
    assert done.counts["pairs"] == 60
    assert done.counts["trained"] + done.counts["held_out"] == 60
    assert figures["dpo.accuracy"] == 1.0
    assert figures["dpo.margin"] > figures["dpo.margin_before"]
    assert figures["dpo.loss"] < figures["dpo.loss_before"]
    assert figures["dpo.accuracy_low"] < figures["dpo.accuracy"] <= figures["dpo.accuracy_high"]
    assert load_model(tmp_path / "out").config.eos_ids == load_model(base).config.eos_ids
    rows = [
        json.loads(line)
        for line in (tmp_path / "out" / "logs" / "metrics.jsonl").read_text().splitlines()
    ]
    one_by_one = {"margin", "accuracy"} if options["loss"] == "kto" else {"drift"}
    assert set(LOGGED) - set(rows[-1]) == one_by_one


def test_before_training_the_model_is_its_own_reference(
    base: Path, pairs: Path, tmp_path: Path
) -> None:
    figures = run(base, pairs, tmp_path / "out", steps=1, epochs=None).figures
    assert figures["dpo.loss_before"] == pytest.approx(math.log(2))
    assert figures["dpo.margin_before"] == 0
    assert figures["dpo.accuracy_before"] == 0.5
    assert figures["dpo.logp_chosen_before"] < 0


def test_figures_are_those_of_the_saved_model(base: Path, pairs: Path, tmp_path: Path) -> None:
    """Held-out rewards from the two checkpoints, by full logits, one answer at a time."""
    figures = run(base, pairs, tmp_path / "out", beta=0.3).figures
    config = DpoConfig.model_validate({**SMALL, "beta": 0.3})
    tokenizer = Tokenizer.load(base / "model")
    held_out = gather_pairs(config, [pairs], tokenizer, 96, Silent()).held_out
    models = [load_model(base), load_model(tmp_path / "out")]
    margins = []
    for group in held_out:
        before, after = ([_log_prob(model, a) for a in group.answers] for model in models)
        margins.append(0.3 * ((after[0] - before[0]) - (after[1] - before[1])))
    assert figures["dpo.margin"] == pytest.approx(np.mean(margins), rel=1e-3)


def _log_prob(model: Decoder, answer: Any) -> float:
    ids = torch.tensor([answer.ids])
    with torch.no_grad():
        logits = model(ids)[0, :-1].log_softmax(-1)
    picked = logits.gather(-1, ids[0, 1:, None]).squeeze(-1)
    return float(picked[torch.tensor(answer.mask[1:])].sum())


def test_small_matrices_learn_and_the_frozen_model_is_the_reference(
    base: Path, pairs: Path, tmp_path: Path
) -> None:
    outcome = run(base, pairs, tmp_path / "out", lora={"rank": 4}, learning_rate=0.01)
    assert outcome.figures["dpo.margin_before"] == pytest.approx(0, abs=1e-4)
    assert outcome.figures["dpo.margin"] > 0.1
    adapted, merged = load_model(base), load_model(tmp_path / "out" / "model")
    load_lora(adapted, tmp_path / "out" / "adapter")
    ids = torch.arange(5, 40)[None]
    with torch.no_grad():
        assert (merged(ids) - adapted(ids)).abs().max() <= 1e-4


def test_what_teaches_nothing_is_left_out_and_counted(base: Path, tmp_path: Path) -> None:
    rows = [
        {"prompt": "a?", "chosen": "b", "rejected": "c"},
        {"prompt": "a?", "chosen": "b", "rejected": "b"},
        {"prompt": "a?", "chosen": "b", "rejected": " "},
        {"prompt": "why? " * 300, "chosen": "b", "rejected": "c"},
    ]
    file = write_rows(tmp_path / "p.jsonl", rows)
    heard = Listening()
    done = run(base, file, tmp_path / "out", heard, held_out=0)
    assert {k: v for k, v in done.counts.items() if "drop" in k or "cut" in k} == {
        "dropped_identical": 1,
        "dropped_empty": 1,
        "dropped_overlong": 1,
        "dropped_refused": 0,
    }
    assert done.counts["trained"] == 1
    assert "dpo.loss" not in done.figures
    assert any("1 have two answers that read the same" in line for line in heard.lines)
    cut = run(base, file, tmp_path / "cut", held_out=0, overlong="truncate")
    assert (cut.counts["trained"], cut.counts["truncated"]) == (2, 1)
    with pytest.raises(InputError, match=r"p\.jsonl:4: \d+ tokens, .* may have 96"):
        run(base, file, tmp_path / "error", overlong="error")
    alike = write_rows(tmp_path / "alike.jsonl", rows[1:3])
    with pytest.raises(InputError, match="none of 2 pairs can teach anything"):
        run(base, alike, tmp_path / "none")
    long = write_rows(tmp_path / "long.jsonl", rows[3:])
    with pytest.raises(InputError, match="none of 1 pairs fits 96 tokens"):
        run(base, long, tmp_path / "none")
    with pytest.raises(InputError, match="context = 97 exceeds"):
        run(base, file, tmp_path / "none", context=97)


def test_a_file_without_pairs_is_an_error(base: Path, tmp_path: Path) -> None:
    file = write_rows(tmp_path / "p.jsonl", [{"prompt": "a?", "completion": "b"}])
    with pytest.raises(InputError, match=r"p\.jsonl:1: expected 'chosen' and 'rejected'"):
        run(base, file, tmp_path / "out")


def test_prompts_are_held_out_whole(base: Path, tmp_path: Path) -> None:
    rows = [
        {"prompt": f"{n % 10}?", "chosen": f"yes {n}", "rejected": f"no {n}"} for n in range(40)
    ]
    file = write_rows(tmp_path / "p.jsonl", rows)
    config = DpoConfig.model_validate({**SMALL, "held_out": 0.25})
    found = gather_pairs(config, [file], Tokenizer.load(base / "model"), 96, Silent())

    def prompts(groups: list[Group]) -> set[tuple[int, ...]]:
        return {tuple(g.answers[0].ids[: g.answers[0].mask.index(True)]) for g in groups}

    assert len(found.held_out) == 8
    assert not prompts(found.trained) & prompts(found.held_out)


def test_judged_answers_are_for_kto(base: Path, tmp_path: Path) -> None:
    rows = [
        {"prompt": f"{n}?", "completion": "yes." if n % 3 else "What now", "label": n % 3 != 0}
        for n in range(60)
    ]
    file = write_rows(tmp_path / "judged.jsonl", rows)
    done = run(base, file, tmp_path / "out", loss="kto")
    assert done.figures["dpo.accuracy"] == 1.0
    assert done.figures["dpo.reward_chosen"] > done.figures["dpo.reward_rejected"]
    with pytest.raises(InputError, match="expected 'chosen' and 'rejected'"):
        run(base, file, tmp_path / "none", loss="dpo")


@pytest.mark.parametrize("loss", ["dpo", "kto"])
def test_an_interrupted_run_ends_in_the_same_bits(
    base: Path, pairs: Path, tmp_path: Path, loss: str
) -> None:
    straight, halted = tmp_path / "straight", tmp_path / "halted"
    expected = run(base, pairs, straight, loss=loss)
    with pytest.raises(KeyboardInterrupt):
        run(base, pairs, halted, StopsAt(70 + 3), loss=loss)  # 60 pairs read, then some steps
    assert not (halted / "model").exists()
    assert run(base, pairs, halted, loss=loss) == expected
    for name in RESULT:
        assert file_digest(halted / name) == file_digest(straight / name)


CHILD = """
import json, sys
from pathlib import Path
from fledge.core.protocols import Silent
from fledge.tune.dpo import dpo
from fledge.tune.preference_config import DpoConfig
values, base, file, out = sys.argv[1:]
dpo(DpoConfig.model_validate(json.loads(values)), Path(base), [Path(file)], Path(out), Silent())
"""


@pytest.mark.slow
def test_killed_and_run_again_ends_in_the_same_bits(
    base: Path, pairs: Path, tmp_path: Path
) -> None:
    """kill -9 twice: while the reference is computed, and between two steps."""
    values = {**SMALL, "epochs": 20, "checkpoint_every_steps": 3}
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    run(base, pairs, straight, **values)
    for pattern in ("reference/**/*.json", "step-*"):
        command = [sys.executable, "-c", CHILD, json.dumps(values), str(base), str(pairs)]
        child = subprocess.Popen([*command, str(killed)], env={**os.environ})
        deadline = time.monotonic() + 120
        while not list((killed / "state").glob(pattern)):
            assert child.poll() is None, "it finished before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.002)
        child.kill()
        child.wait()
    assert not (killed / "model").exists()
    run(base, pairs, killed, **values)
    for name in RESULT:
        assert file_digest(killed / name) == file_digest(straight / name)


def test_the_reference_is_computed_once(
    base: Path, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fledge.tune.reference.PART", 16)
    config = DpoConfig.model_validate({**SMALL, "held_out": 0})
    groups = gather_pairs(config, [pairs], Tokenizer.load(base / "model"), 96, Silent()).trained
    model = load_model(base)
    reference = Reference(model, tmp_path, 192, ALONE)
    first = reference.read("trained", groups, Silent())
    assert len(list((tmp_path / "trained").glob("*.npy"))) == 4
    plain = log_probs_of_groups(model, groups, 192)
    for group, values in zip(first, plain, strict=True):
        for mine, other in zip(group.signals, values, strict=True):
            np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-4)

    def refuse(*arguments: Any) -> Any:
        raise AssertionError("it is known already")

    monkeypatch.setattr(Reference, "_compute", refuse)
    again = reference.read("trained", groups, Silent())
    assert all(
        np.array_equal(a, b)
        for one, other in zip(first, again, strict=True)
        for a, b in zip(one.signals, other.signals, strict=True)
    )
    with pytest.raises(AssertionError, match="known already"):
        reference.read("trained", groups[1:], Silent())  # other pairs: nothing of it is used


def test_micro_batches_change_no_result(base: Path, pairs: Path, tmp_path: Path) -> None:
    for loss in ("dpo", "kto"):
        whole = run(base, pairs, tmp_path / f"{loss}4", loss=loss, micro_rows=4)
        pieces = run(base, pairs, tmp_path / f"{loss}1", loss=loss, micro_rows=1)
        for name, value in whole.figures.items():
            assert pieces.figures[name] == pytest.approx(value, rel=2e-3, abs=2e-3), name


def test_a_batch_that_is_no_number_is_skipped(
    base: Path, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = PairLoader.__getitem__

    def spoilt(self: PairLoader, step: int) -> Any:
        batch = real(self, step)
        if step == 2 and self.batch_rows == 4:
            assert batch.signals is not None
            batch = batch._replace(signals=torch.full_like(batch.signals, math.nan))
        return batch

    monkeypatch.setattr(PairLoader, "__getitem__", spoilt)
    done = run(base, pairs, tmp_path / "out", log_every=1)
    assert done.counts["skipped_batches"] == 1
    assert done.figures["dpo.accuracy"] == 1.0
    metrics = (tmp_path / "out" / "logs" / "metrics.jsonl").read_text()
    assert "NaN" not in metrics


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # inside torch.compile
@pytest.mark.skipif(not has_compiler(), reason="needs a C++ compiler")
@pytest.mark.parametrize("loss", ["dpo", "kto", "orpo"])
def test_generated_code_computes_the_same(base: Path, pairs: Path, loss: str) -> None:
    config = DpoConfig.model_validate({**SMALL, "loss": loss, "held_out": 0})
    tokenizer, model = Tokenizer.load(base / "model"), load_model(base).train()
    groups = gather_pairs(config, [pairs], tokenizer, 96, Silent()).trained
    if loss == "kto":
        groups = [one for group in groups for one in group.apart()]
    zeros = [group.with_signals(tuple(np.full(sum(a.mask), -5, np.float32) for a in group.answers))
             for group in groups]  # fmt: skip
    loader: Any = PairLoader(zeros, row=128, batch_rows=4, seed=0, fill=0)
    make: Any = preference_objective
    if loss == "kto":
        others = mismatched(zeros, 96)
        others = [
            o.with_signals((np.full(sum(o.answers[0].mask), -5, np.float32),)) for o in others
        ]
        loader, make = KtoLoader(loader, others, model), kto_objective
    tally = Tally(model.device)
    objective, batch = make(config, loader.most, tally), loader[0]
    assert count_segments(batch) >= 8
    heard = Listening()
    fast = compiled(objective, model, batch, heard)
    assert fast is not None, heard.lines
    found = []
    for compute in (objective, fast):
        tally.figures()
        model.zero_grad()
        value = compute(model, batch)
        value.backward()
        gradients = {n: p.grad.clone() for n, p in model.named_parameters()}
        found.append((float(value.detach()), tally.figures(), gradients))
    (value, figures, gradients), (other, told, theirs) = found
    assert other == pytest.approx(value, rel=1e-4)
    assert told == pytest.approx(figures, rel=1e-4)
    for name, gradient in gradients.items():
        torch.testing.assert_close(theirs[name], gradient, rtol=1e-3, atol=1e-4)


@pytest.mark.shared
@pytest.mark.slow
def test_real_pairs_raise_the_preference_of_a_real_base(fledge_data: Path, tmp_path: Path) -> None:
    """tinystories-656k on polite and impolite answers to the same instructions."""
    base = fledge_data / "checkpoints" / "tinystories-656k"
    file = fledge_data / "rasbt_instruction" / "instruction-data-with-preference.jsonl.zst"
    changes = {"context": 256, "batch_rows": 8, "threads": 1, "precision": "fp32", "held_out": 0.3}
    done = run(base, file, tmp_path / "out", epochs=1, learning_rate=None, **changes)
    assert (done.counts["pairs"], done.counts["dropped_identical"]) == (1100, 6)
    assert done.counts["new_tokens"] == 6
    assert done.figures["dpo.accuracy_low"] > 0.6
    assert done.figures["dpo.logp_chosen"] > done.figures["dpo.logp_chosen_before"]
