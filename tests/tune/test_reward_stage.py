"""Reward models: they learn, transformers reads them, packing changes no score."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fledge.core.errors import InputError
from fledge.core.files import file_digest
from fledge.core.protocols import Silent
from fledge.core.run import Outcome
from fledge.core.types import Message
from fledge.model.checkpoint import load_model
from fledge.model.scorer import HEAD, Scorer, is_scorer, load_scorer, save_scorer
from fledge.tokenizer.tokenizer import Tokenizer
from fledge.tune.pair_loader import PairLoader
from fledge.tune.pairs import gather_pairs
from fledge.tune.preference_config import RewardConfig
from fledge.tune.reward import answer_objective, at_the_end, reward
from fledge.tune.reward_model import RewardModel
from fledge.tune.steps import render_steps
from pico_model import write_pico_model
from pico_pairs import SMALL, polite_pairs, write_rows
from pico_runs import StopsAt

ASKED = [Message(role="user", content="70 + 1?")]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pico_model(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def trained(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    folder = tmp_path_factory.mktemp("reward")
    return folder / "out", run(base, polite_pairs(folder / "pairs.jsonl"), folder / "out")


def run(base: Path, file: Path, out: Path, progress: Any = None, **changes: Any) -> Outcome:
    config = RewardConfig.model_validate({**SMALL, **changes})
    return reward(config, base, [file], out, progress or Silent())


def test_it_learns_which_answer_is_better(trained: tuple[Path, Outcome]) -> None:
    out, done = trained
    figures = done.figures
    assert figures["reward.accuracy"] == 1.0
    assert figures["reward.accuracy_low"] < 1.0
    assert figures["reward.margin"] > 1
    assert 0 <= figures["reward.brier"] < 0.25
    assert abs(figures["reward.score_mean"]) < figures["reward.score_deviation"]
    curve = json.loads((out / "calibration.json").read_text())["bins"]
    assert sum(one["size"] for one in curve) == done.counts["held_out"]
    model = RewardModel.load(out)
    assert model.score(ASKED, "It is 71.") > model.score(ASKED, "Who knows? 490")


def test_scores_are_the_same_alone_packed_and_by_hand(trained: tuple[Path, Outcome]) -> None:
    model, tokenizer = RewardModel.load(trained[0]), Tokenizer.load(trained[0] / "model")
    answers = [(ASKED, f"It is {n}." * (1 + n % 3)) for n in range(20)]
    together = model.score_all(answers)
    scorer = load_scorer(trained[0])
    for (asked, answer), score in zip(answers, together, strict=True):
        assert model.score(asked, answer) == pytest.approx(score, abs=1e-4)
        messages = [*(m.to_openai() for m in asked), {"role": "assistant", "content": answer}]
        ids = tokenizer.encode_chat(messages)
        ids = ids[: len(ids) - ids[::-1].index(tokenizer.im_end_id)]
        with torch.no_grad():
            hidden = scorer.hidden(torch.tensor([ids]))[0, -1]
        assert float(hidden @ scorer.score.weight[0].detach()) == pytest.approx(score, abs=1e-4)
    assert model.score_all([]) == []


def test_transformers_reads_it(trained: tuple[Path, Outcome]) -> None:
    transformers = pytest.importorskip("transformers")
    folder = trained[0] / "model"
    other = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    assert other.config.num_labels == 1
    scorer = load_scorer(folder)
    ids = torch.randint(3, 300, (1, 30), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = float(other(ids).logits)
        mine = float(scorer.scores(ids)[0, -1])
    assert mine == pytest.approx(expected, abs=1e-4)


def test_a_folder_says_what_it_is(
    base: Path, trained: tuple[Path, Outcome], tmp_path: Path
) -> None:
    folder = trained[0] / "model"
    assert is_scorer(folder)
    assert not is_scorer(base / "model")
    assert HEAD in load_file(folder / "model.safetensors")
    with pytest.raises(InputError, match="is no model that scores"):
        load_scorer(base)
    with pytest.raises(InputError, match="ForSequenceClassification is not supported"):
        load_model(folder)
    scorer = load_scorer(folder)
    save_scorer(scorer, tmp_path / "again")
    same = load_scorer(tmp_path / "again")
    for (name, one), other in zip(scorer.named_parameters(), same.parameters(), strict=True):
        assert torch.equal(one, other), name


def test_an_untied_decoder_loses_only_its_output_matrix(base: Path) -> None:
    decoder = load_model(base)
    scorer = Scorer.on(decoder)
    ids = torch.arange(10)[None]
    with torch.no_grad():
        assert torch.equal(scorer.hidden(ids), decoder.hidden(ids))
        assert float(scorer.scores(ids).abs().max()) == 0


def test_an_interrupted_run_ends_in_the_same_bits(base: Path, tmp_path: Path) -> None:
    pairs = polite_pairs(tmp_path / "pairs.jsonl")
    straight, halted = tmp_path / "straight", tmp_path / "halted"
    expected = run(base, pairs, straight)
    with pytest.raises(KeyboardInterrupt):
        run(base, pairs, halted, StopsAt(60 + 5))
    assert run(base, pairs, halted) == expected
    for name in ("model/model.safetensors", "loss.jsonl", "validation.jsonl", "calibration.json"):
        assert file_digest(halted / name) == file_digest(straight / name)


def test_margins_of_rows_are_asked_for(base: Path, tmp_path: Path) -> None:
    """The loss of untrained scores, all 0, is -log s(-margin) for each pair."""
    rows = [{"prompt": "a?", "chosen": "b", "rejected": "c", "margin": 2.0}]
    file = write_rows(tmp_path / "p.jsonl", rows)
    config = RewardConfig.model_validate({**SMALL, "held_out": 0})
    (group,) = gather_pairs(config, [file], Tokenizer.load(base / "model"), 96, Silent()).trained
    scorer = Scorer.on(load_model(base))
    for margins, expected in ((True, math.log(1 + math.exp(2))), (False, math.log(2))):
        loader = PairLoader(
            [at_the_end(group, margins)], row=64, batch_rows=1, seed=0, fill=0, scored=True
        )
        loss = answer_objective(loader.most, 0.0)(scorer, loader[0])
        assert float(loss.detach()) == pytest.approx(expected)


def test_an_answer_too_long_is_said_and_a_prompt_is_cut(trained: tuple[Path, Outcome]) -> None:
    model = RewardModel.load(trained[0])
    with pytest.raises(InputError, match=r"an answer of \d+ tokens: the reward model reads 96"):
        model.score(ASKED, "It is 71. " * 60)
    long = [Message(role="user", content="70 + 1? " * 100)]
    assert math.isfinite(model.score(long, "It is 71."))


@pytest.fixture
def steps(tmp_path: Path) -> Path:
    rows = [
        {
            "prompt": f"{n} + 1?",
            "completions": ["Count on.", f"It is {n + 1}." if n % 3 else f"Who knows? {n}"],
            "labels": [True, n % 3 != 0],
        }
        for n in range(60)
    ]
    return write_rows(tmp_path / "steps.jsonl", rows)


def test_a_process_reward_model_judges_steps(base: Path, steps: Path, tmp_path: Path) -> None:
    done = run(base, steps, tmp_path / "out", kind="steps", epochs=6)
    assert done.figures["reward.accuracy"] == 1.0
    assert done.counts["target_tokens"] == 6 * 2 * done.counts["trained"]
    model = RewardModel.load(tmp_path / "out")
    first, good = model.score_steps(ASKED, ["Count on.", "It is 71."])
    again, bad = model.score_steps(ASKED, ["Count on.", "Who knows? 9"])
    assert first == pytest.approx(again, abs=1e-5)  # what follows changes no step before it
    assert good > 0.5 > bad


def test_steps_are_marked_at_their_last_token(base: Path) -> None:
    tokenizer = Tokenizer.load(base / "model")
    rendered = render_steps(ASKED, ["One.", "Two.\n"], tokenizer)
    ends = [n for n, counts in enumerate(rendered.mask) if counts]
    prompt = tokenizer.encode_chat([m.to_openai() for m in ASKED], add_generation_prompt=True)
    texts = [tokenizer.decode(rendered.ids[len(prompt) : end + 1]) for end in ends]
    assert texts == ["One.\n\n", "One.\n\nTwo.\n\n"]


def test_steps_that_do_not_fit_are_counted_or_refused(base: Path, tmp_path: Path) -> None:
    rows = [
        {"prompt": "a?", "completions": ["b"], "labels": [True]},
        {"prompt": "why? " * 300, "completions": ["b"], "labels": [False]},
    ]
    file = write_rows(tmp_path / "s.jsonl", rows)
    done = run(base, file, tmp_path / "out", kind="steps", steps=1, epochs=None, held_out=0)
    assert done.counts["dropped_overlong"] == 1
    with pytest.raises(InputError, match=r"s\.jsonl:2: \d+ tokens, a row holds 96"):
        run(base, file, tmp_path / "no", kind="steps", overlong="error")
    odd = write_rows(tmp_path / "odd.jsonl", [{"prompt": "a?", "completions": ["b"], "labels": []}])
    with pytest.raises(InputError, match=r"odd\.jsonl:1: 1 'completions' and 0 'labels'"):
        run(base, odd, tmp_path / "no", kind="steps")


@pytest.mark.shared
@pytest.mark.slow
def test_real_pairs_teach_a_real_base_to_judge(fledge_data: Path, tmp_path: Path) -> None:
    """tinystories-656k on polite and impolite answers to the same instructions."""
    base = fledge_data / "checkpoints" / "tinystories-656k"
    file = fledge_data / "rasbt_instruction" / "instruction-data-with-preference.jsonl.zst"
    changes = {"context": 256, "batch_rows": 8, "threads": 1, "precision": "fp32", "held_out": 0.3}
    done = run(base, file, tmp_path / "out", epochs=1, learning_rate=None, **changes)
    assert done.counts["pairs"] == 1100
    assert done.figures["reward.accuracy_low"] > 0.55
    assert done.figures["reward.brier"] < 0.25


def test_a_judge_reads_the_beginning_of_an_answer_that_never_ends(
    trained: tuple[Path, Outcome],
) -> None:
    model = RewardModel.load(trained[0])
    endless = "It is 71. " * 400
    with pytest.raises(InputError, match="the reward model reads"):
        model.score(ASKED, endless)
    found = model.score_all([(ASKED, endless), (ASKED, "It is 71.")], cut=True)
    assert all(math.isfinite(score) for score in found)
    assert found[1] == pytest.approx(model.score(ASKED, "It is 71."), abs=1e-5)
