"""GRPO and PPO as stages: they learn, go on after a kill to the same bits, and say why not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy_rewards import SMALL, asked, guessing_model, write_rows

from fledge.core.errors import FledgeError, InputError
from fledge.core.files import file_digest, files_below, read_jsonl
from fledge.core.protocols import Silent
from fledge.core.run import Outcome
from fledge.core.types import Message
from fledge.model.checkpoint import load_model
from fledge.model.lora_checkpoint import load_lora
from fledge.tune.experience import Experience
from fledge.tune.held_out_rewards import overfits
from fledge.tune.reinforce import Helpers, grpo, ppo
from fledge.tune.reinforce_config import GrpoConfig, PpoConfig, ReinforceConfig
from fledge.tune.verifiers import Score

ANSWERS = ["1", "2", "3", "4"]
QUESTIONS = [f"{n} + 1?" for n in range(4)]
SUMS = [asked(question, answer) for question, answer in zip(QUESTIONS, ANSWERS, strict=True)]


@pytest.fixture(scope="module")
def guesser(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return guessing_model(tmp_path_factory.mktemp("base"), QUESTIONS, ANSWERS)


class Says(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def run(
    kind: type[ReinforceConfig],
    base: Path,
    rows: Sequence[Mapping[str, Any]],
    out: Path,
    helpers: Helpers | None = None,
    progress: Any = None,
    **changes: Any,
) -> Outcome:
    prompts = write_rows(out.parent / f"{out.name}.jsonl", rows)
    config = kind.model_validate({**SMALL, **changes})
    says = progress or Silent()
    if isinstance(config, PpoConfig):
        return ppo(config, base, [prompts], out, says, helpers)
    assert isinstance(config, GrpoConfig)
    return grpo(config, base, [prompts], out, says, helpers)


def rewards_of(out: Path) -> list[float]:
    files = sorted((out / "rollouts").glob("*.safetensors"))
    found = [Experience.load(file.with_suffix("")) for file in files]
    return [one.facts["reward"] for one in found if one is not None]


@pytest.mark.slow
def test_grpo_learns_what_is_verified(guesser: Path, tmp_path: Path) -> None:
    changes = {"group": 16, "batch_rows": 64, "steps": 60, "entropy_weight": 0.02}
    run(GrpoConfig, guesser, SUMS, tmp_path / "out", **changes)
    rewards = rewards_of(tmp_path / "out")
    assert rewards[0] < 0.5
    assert np.mean(rewards[-5:]) >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize("critic", ["own", "shared"])
def test_ppo_learns_which_arm_pays(guesser: Path, tmp_path: Path, critic: str) -> None:
    """A bandit: one question, four answers, one of which pays."""
    arms = [asked(QUESTIONS[0], "3")]
    changes = {"steps": 70, "kl_weight": 0.002, "critic": critic, "entropy_weight": 0.01}
    run(PpoConfig, guesser, arms, tmp_path / "out", **changes)
    rewards = rewards_of(tmp_path / "out")
    assert rewards[0] < 0.6
    assert np.mean(rewards[-5:]) >= 0.95
    model = load_model(tmp_path / "out" / "model")  # without its critic
    assert not hasattr(model, "value_head")


def test_a_few_steps_help_and_all_is_written(guesser: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    changes = {"steps": 6, "log_every": 1, "held_out": 0.25, "validate_every": 3}
    outcome = run(GrpoConfig, guesser, SUMS, out, **changes)
    assert outcome.counts["rollouts"] == outcome.counts["steps"] == 6
    assert outcome.counts["held_out"] == 1
    names = {"reward", "length", "truncated", "distinct_3grams", "kl", "failed_verifiers"}
    for name in names:
        assert {f"grpo.{name}_before", f"grpo.{name}"} <= set(outcome.figures)
    assert outcome.figures["grpo.kl_before"] == pytest.approx(0.0, abs=1e-6)
    assert outcome.figures["grpo.kl"] > 0
    rows = list(read_jsonl(out / "logs" / "metrics.jsonl"))
    watched = {"reward", "kl", "entropy", "clipped", "engine_gap", "length", "without_signal"}
    assert watched <= set(rows[-1])
    assert all(row["engine_gap"] < 1e-3 for row in rows)
    people = list(read_jsonl(out / "rollouts" / "step-000003.jsonl"))
    assert len(people) == SMALL["batch_rows"]
    assert {"messages", "answer", "reward", "reasons", "advantage"} <= set(people[0])
    curve = list(read_jsonl(out / "validation.jsonl"))
    assert [row["step"] for row in curve] == [3, 6]


def test_kl_begins_at_zero_where_training_rounds_more(guesser: Path, tmp_path: Path) -> None:
    """What is measured before is float32, of the reference as well."""
    changes = {"steps": 1, "held_out": 0.25, "precision": "bf16"}
    outcome = run(GrpoConfig, guesser, SUMS, tmp_path / "out", **changes)
    assert outcome.figures["grpo.kl_before"] == pytest.approx(0.0, abs=1e-6)


def test_small_matrices_learn_beside_a_frozen_model(guesser: Path, tmp_path: Path) -> None:
    """Rollouts are drawn from the sum of both; the adapter over the base is the merged model."""
    out = tmp_path / "out"
    changes = {"steps": 4, "log_every": 1, "lora": {"rank": 4}, "learning_rate": 0.01}
    run(GrpoConfig, guesser, SUMS, out, **changes)
    rows = list(read_jsonl(out / "logs" / "metrics.jsonl"))
    assert all(row["engine_gap"] < 1e-3 for row in rows)
    merged, adapted, base = (load_model(f) for f in (out / "model", guesser, guesser))
    load_lora(adapted, out / "adapter")
    ids = torch.arange(5, 40)[None]
    with torch.no_grad():
        assert (merged(ids) - adapted(ids)).abs().max() <= 1e-4
        assert (merged(ids) - base(ids)).abs().max() > 1e-3


def digests(out: Path) -> dict[str, str]:
    found = {}
    for path in files_below(out):
        name = path.relative_to(out).as_posix()
        left = path.name.startswith(".tmp")  # of safetensors, killed while it wrote
        if name.split("/")[0] not in ("logs", "state") and not left:
            found[name] = file_digest(path)
    return found


CHILD = """
import json, sys
from pathlib import Path
from fledge.core.protocols import Silent
from fledge.tune.reinforce import grpo, ppo
from fledge.tune.reinforce_config import GrpoConfig, PpoConfig
kind, values, base, prompts, out = sys.argv[1:]
stage, config = {"grpo": (grpo, GrpoConfig), "ppo": (ppo, PpoConfig)}[kind]
stage(config.model_validate(json.loads(values)), Path(base), [Path(prompts)], Path(out), Silent())
"""


def start(
    kind: str, values: dict[str, Any], base: Path, prompts: Path, out: Path
) -> subprocess.Popen[bytes]:
    arguments = [kind, json.dumps(values), str(base), str(prompts), str(out)]
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    return subprocess.Popen([sys.executable, "-c", CHILD, *arguments], env=environment)


def killed_at(process: subprocess.Popen[bytes], folder: Path, pattern: str) -> None:
    """kill -9 once a file of that pattern is there."""
    deadline = time.monotonic() + 120
    while not list(folder.glob(pattern)):
        assert process.poll() is None, "it finished before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.kill()
    process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["grpo", "ppo"])
def test_a_killed_run_goes_on_to_the_same_bits(kind: str, guesser: Path, tmp_path: Path) -> None:
    """Killed as a rollout's readable half is written, after the whole, and between updates."""
    changes: dict[str, Any] = {"steps": 12, "passes": 2, "parts": 2, "checkpoint_every_steps": 1}
    changes |= {"held_out": 0.25, "kl_target": 0.5, "kl_weight": 0.01, "validate_every": 5}
    values = {**SMALL, **changes}
    prompts = write_rows(tmp_path / "p.jsonl", SUMS)
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    assert start(kind, values, guesser, prompts, whole).wait(timeout=200) == 0
    for pattern in (
        "rollouts/step-000001.jsonl",
        "rollouts/step-000005.safetensors",
        "state/step-*7.pt",
        "rollouts/step-000009.jsonl",
    ):
        process = start(kind, values, guesser, prompts, torn)
        killed_at(process, torn, pattern)
    assert start(kind, values, guesser, prompts, torn).wait(timeout=200) == 0
    assert digests(whole) == digests(torn)


def test_a_run_goes_on_from_the_rollouts_it_wrote(guesser: Path, tmp_path: Path) -> None:
    """Without its saved states a run draws nothing anew that it had written whole."""
    out = tmp_path / "out"
    run(GrpoConfig, guesser, SUMS, out, steps=2)
    first = digests(out)
    file = out / "rollouts" / "step-000001.safetensors"
    changed = os.stat(file).st_mtime_ns
    for path in (out / "state").glob("step-*"):
        path.unlink()
    (out / "rollouts" / "step-000002.safetensors").unlink()  # as if killed while writing it
    run(GrpoConfig, guesser, SUMS, out, steps=2)
    assert os.stat(file).st_mtime_ns == changed
    assert digests(out) == first


def test_a_damaged_rollout_is_named(guesser: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out" / "rollouts"
    folder.mkdir(parents=True)
    (folder / "step-000001.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(InputError, match=r"step-000001.safetensors is no rollout"):
        run(GrpoConfig, guesser, SUMS, tmp_path / "out", steps=1)


def test_constant_rewards_stop_the_run_and_say_so(guesser: Path, tmp_path: Path) -> None:
    never, says = [asked(question, "never") for question in QUESTIONS], Says()
    with pytest.raises(FledgeError, match=r"no signal in any of 2 rollouts.*mean 0"):
        run(GrpoConfig, guesser, never, tmp_path / "out", None, says, steps=9, give_up_after=2)
    assert any("100% of the prompts give no signal" in line for line in says.lines)


def test_broken_verifiers_are_counted_and_training_goes_on(guesser: Path, tmp_path: Path) -> None:
    def moody(messages: Sequence[Message], answer: str, reference: Mapping[str, Any]) -> Score:
        if answer == "1":
            raise RuntimeError("no ones, please")
        return Score(float("nan") if answer == "2" else 1.0)

    helpers = Helpers(verifiers={"moody": moody})
    run(GrpoConfig, guesser, SUMS, tmp_path / "out", helpers, steps=2, rewards={"moody": 1.0})
    rows = list(read_jsonl(tmp_path / "out/rollouts/step-000001.jsonl"))
    reasons = {row["answer"]: row["reasons"]["moody"] for row in rows}
    assert "no ones, please" in reasons["1"]
    assert "gave nan" in reasons["2"]
    assert {row["reward"] for row in rows if row["answer"] in ("1", "2")} == {0.0}
    loaded = Experience.load(tmp_path / "out/rollouts/step-000001")
    assert loaded is not None
    assert loaded.facts["failed_verifiers"] == sum(row["answer"] in ("1", "2") for row in rows)


def test_dynamic_sampling_prefers_prompts_that_teach(guesser: Path, tmp_path: Path) -> None:
    mixed = [*SUMS, *(asked(question, "never") for question in QUESTIONS * 3)]
    shares = []
    for redraws in (0, 5):
        out = tmp_path / f"out{redraws}"
        run(GrpoConfig, guesser, mixed, out, steps=2, redraws=redraws, learning_rate=1e-5)
        loaded = Experience.load(out / "rollouts" / "step-000001")
        assert loaded is not None
        assert len(loaded.lengths) == SMALL["batch_rows"]
        shares.append(loaded.facts["without_signal"])
    assert shares[1] < shares[0]


def test_prompts_that_do_not_fit_are_left_out(guesser: Path, tmp_path: Path) -> None:
    says = Says()
    rows = [*SUMS, asked("long " * 200, "1")]
    outcome = run(GrpoConfig, guesser, rows, tmp_path / "out", None, says, steps=1)
    assert outcome.counts["dropped_overlong"] == 1
    assert any("1 are longer than 90 tokens: left out" in line for line in says.lines)
    with pytest.raises(InputError, match="none of 1 prompts leaves room"):
        run(GrpoConfig, guesser, rows[-1:], tmp_path / "other", steps=1)
    with pytest.raises(InputError, match="leaves no room for a prompt"):
        run(GrpoConfig, guesser, SUMS, tmp_path / "third", steps=1, max_new_tokens=96)
    roomy = run(GrpoConfig, guesser, SUMS, tmp_path / "fourth", steps=1, max_new_tokens=90, room=6)
    assert roomy.counts["dropped_overlong"] == 0


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ([], "must be a JSON object"),
        ({"answer": "1"}, "'messages' must be a list"),
        ({"messages": [{"role": "user", "content": "?"}]}, "needs 'answer'"),
        (asked("?", "1", verifier="nobody"), "no verifier 'nobody'"),
        ({"messages": [{"role": "assistant", "content": "!"}]}, "nothing to answer"),
    ],
)
def test_rows_that_cannot_be_judged_are_named(
    row: Any, why: str, guesser: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=why) as caught:
        run(GrpoConfig, guesser, [row], tmp_path / "out", steps=1)
    assert "out.jsonl:1" in caught.value.message


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"group": 5}, "must divide batch_rows"),
        ({"group": 1}, "nothing to compare"),
        ({"think_tokens": 6}, "below max_new_tokens"),
        ({"overlong_margin": 6}, "below max_new_tokens"),
        ({"tools": ["hammer"]}, "none called 'hammer'"),
        ({"rewards": {"taste": 1.0}}, "no verifier 'taste'"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    changes: dict[str, Any], why: str, guesser: Path, tmp_path: Path
) -> None:
    with pytest.raises((InputError, ValueError), match=why):
        run(GrpoConfig, guesser, SUMS, tmp_path / "out", steps=1, **changes)


def test_all_answers_cut_off_is_an_error_where_those_are_not_learnt(
    guesser: Path, tmp_path: Path
) -> None:
    with pytest.raises(FledgeError, match="all 32 answers were cut off"):
        run(
            GrpoConfig,
            guesser,
            SUMS,
            tmp_path / "out",
            steps=1,
            max_new_tokens=1,
            mask_truncated=True,
        )


def test_overfitting_is_seen() -> None:
    rising, falling = [0.1, 0.2, 0.3, 0.4, 0.5], [0.3, 0.4, 0.35, 0.3, 0.2]
    pairs = list(zip(rising, falling, strict=True))
    assert overfits(pairs, 3)
    assert not overfits(pairs[:4], 3)  # only two since the best
    assert not overfits(pairs, 0)
    assert not overfits(list(zip(rising, rising, strict=True)), 3)
    assert not overfits(list(zip(falling, falling, strict=True)), 3)  # training falls as well


def test_early_stop_brings_the_best_weights_back(
    guesser: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Held-out reward is made to fall from the second validation on."""
    fake = iter([0.5, 0.9, 0.4, 0.3, 0.2, 0.1, 0.1])
    kept: list[torch.Tensor] = []

    def figures(config: Any, players: Any, prompts: Any) -> dict[str, float]:
        kept.append(players.model.norm.weight.detach().clone())
        return {"reward": next(fake)}

    monkeypatch.setattr("fledge.tune.held_out_rewards.held_out_figures", figures)
    monkeypatch.setattr("fledge.tune.held_out_rewards.overfits", lambda pairs, n: len(pairs) == 4)
    says = Says()
    changes = {"steps": 20, "validate_every": 1, "held_out": 0.25}
    outcome = run(GrpoConfig, guesser, SUMS, tmp_path / "out", None, says, **changes)
    assert outcome.counts["steps"] == 4
    assert any("stopping at step 4, with the weights of step 2" in line for line in says.lines)
    saved = load_model(tmp_path / "out" / "model").norm.weight
    assert torch.equal(saved, kept[1])
    assert not torch.equal(saved, kept[3])
