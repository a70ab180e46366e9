"""Fine-tuning as a stage: it answers, counts what it leaves out, and resumes to the same bits."""

from __future__ import annotations

import json
import os
import signal
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fledge.core.errors import InputError
from fledge.core.files import file_digest
from fledge.core.protocols import Bar, Silent
from fledge.core.run import Outcome
from fledge.model.checkpoint import load_model
from fledge.model.locate import find_checkpoint
from fledge.tokenizer.tokenizer import Tokenizer
from fledge.tune.config import SftConfig
from fledge.tune.sft import held_out_loss, sft
from pico_model import write_pico_model
from pico_shards import write_shards

SMALL = {
    "steps": 16,
    "batch_rows": 4,
    "compile": False,
    "checkpoint_every_seconds": 1e9,
    "held_out": 0.1,
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pico_model(tmp_path_factory.mktemp("run"), stage="pretrain")


@pytest.fixture
def conversations(tmp_path: Path) -> Path:
    return write(tmp_path / "c.jsonl", [(f"{i} + 1?", f"{i + 1}.") for i in range(40)])


def write(path: Path, pairs: list[tuple[str, str]]) -> Path:
    def row(question: str, answer: str) -> str:
        messages = [
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
        ]
        return json.dumps({"messages": messages})

    path.write_text("".join(f"{row(*pair)}\n" for pair in pairs))
    return path


def run(base: Path, files: list[Path], out: Path, progress: Any = None, **changes: Any) -> Outcome:
    tokens = changes.pop("tokens", None)
    config = SftConfig.model_validate({**SMALL, **changes})
    return sft(config, base, files, out, progress or Silent(), tokens=tokens)


class StopsAt(Silent):
    """A user who presses Ctrl-C after some steps of training."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def bar(
        self, label: str, total: float | None, unit: str, done: float = 0
    ) -> AbstractContextManager[Bar]:
        outer, silent = self, super().bar(label, total, unit, done)

        class Counting:
            def __enter__(self) -> Counting:
                return self

            def __exit__(self, *error: object) -> None:
                silent.__exit__(*error)

            def advance(self, amount: float = 1, note: str = "") -> None:
                outer.left -= note != ""
                if outer.left == 0:
                    os.kill(os.getpid(), signal.SIGINT)

        return Counting()


def test_it_learns_to_answer_and_to_stop(base: Path, tmp_path: Path) -> None:
    pair = ("When did it open?", "In 1937.")
    files = [write(tmp_path / "c.jsonl", [pair] * 8)]
    outcome = run(base, files, tmp_path / "out", steps=40, learning_rate=0.02, held_out=0)
    assert "sft.loss" not in outcome.figures
    model, tokenizer = load_model(tmp_path / "out"), Tokenizer.load(tmp_path / "out" / "model")
    assert model.config.eos_ids == (tokenizer.im_end_id, tokenizer.endoftext_id)
    prompt = tokenizer.encode_chat(
        [{"role": "user", "content": pair[0]}], add_generation_prompt=True
    )
    ids = list(prompt)
    with torch.no_grad():
        while len(ids) < len(prompt) + 30 and ids[-1] != tokenizer.im_end_id:
            ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    assert tokenizer.decode(ids[len(prompt) :], specials=True) == "In 1937.<|im_end|>"


def test_the_threads_asked_for_also_measure(
    base: Path, conversations: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before and after training, too: in a container more threads than cores crawl."""
    seen: list[int] = []

    def counted(*arguments: Any) -> Any:
        seen.append(torch.get_num_threads())
        return held_out_loss(*arguments)

    monkeypatch.setattr("fledge.tune.sft.held_out_loss", counted)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        run(base, [conversations], tmp_path / "out", steps=1, threads=1)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert seen == [1, 1, 1]  # before, the only point of the curve, after


def test_counts_and_figures(base: Path, conversations: Path, tmp_path: Path) -> None:
    outcome = run(base, [conversations, conversations], tmp_path / "out", steps=None, epochs=1)
    assert outcome.counts["conversations"] == 80
    assert outcome.counts["held_out"] == 8
    assert outcome.counts["trained"] == 72
    assert 0 < outcome.counts["target_tokens"] < outcome.counts["tokens"]
    lines = (tmp_path / "out" / "validation.jsonl").read_text().splitlines()
    curve = [json.loads(line) for line in lines]
    assert outcome.figures["sft.loss"] == pytest.approx(curve[-1]["loss"], rel=0.02)


def test_target_tokens_are_the_answers_and_their_stops(base: Path, tmp_path: Path) -> None:
    pairs = [("a?", "b"), ("c?", "d"), ("e?", "f")]
    files = [write(tmp_path / "c.jsonl", pairs)]
    outcome = run(base, files, tmp_path / "out", steps=None, epochs=2, held_out=0)
    tokenizer = Tokenizer.load(base / "model")
    words = sum(len(tokenizer.encode(answer)) + 1 for _, answer in pairs)
    assert outcome.counts["target_tokens"] == 2 * words


def test_an_interrupted_run_ends_in_the_same_bits(
    base: Path, conversations: Path, tmp_path: Path
) -> None:
    straight, halted = tmp_path / "straight", tmp_path / "halted"
    reference = run(base, [conversations], straight)
    with pytest.raises(KeyboardInterrupt):
        run(base, [conversations], halted, StopsAt(6))
    assert not (halted / "model").exists()
    assert run(base, [conversations], halted) == reference
    for name in ("model/model.safetensors", "loss.jsonl", "validation.jsonl"):
        assert file_digest(halted / name) == file_digest(straight / name)


def test_overlong_conversations_are_counted_and_said(
    base: Path, conversations: Path, tmp_path: Path
) -> None:
    lines: list[str] = []

    class Listening(Silent):
        def say(self, line: str) -> None:
            lines.append(line)

    long = write(tmp_path / "long.jsonl", [("why? " * 300, "so.")] * 3)
    outcome = run(base, [conversations, long], tmp_path / "out", Listening(), steps=1)
    assert outcome.counts["dropped_overlong"] == 3
    assert any("of 43 conversations, 3 are longer than 96 tokens" in line for line in lines)
    with pytest.raises(InputError, match="none of 3 conversations fits 96 tokens; raise context"):
        run(base, [long], tmp_path / "none")


def test_replay_needs_tokens_and_mixes_them_in(
    base: Path, conversations: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"replay_share = 0\.25 needs pretraining text"):
        run(base, [conversations], tmp_path / "none", replay_share=0.25)
    document = np.random.default_rng(0).integers(10, 300, 500).tolist()
    foreign = write_shards(tmp_path / "foreign", {"train": [[document]]}, vocab=9999)
    with pytest.raises(InputError, match=r"foreign has a vocabulary of 9999, .* tokenizer \d+"):
        run(base, [conversations], tmp_path / "no", steps=1, replay_share=0.25, tokens=foreign)
    size = Tokenizer.load(find_checkpoint(base)).vocab_size
    other = write_shards(tmp_path / "other", {"train": [[document]]}, vocab=size)
    index = json.loads((other / "index.json").read_text())
    (other / "index.json").write_text(json.dumps({**index, "tokenizer": "0" * 64}))
    with pytest.raises(InputError, match="written with another tokenizer"):
        run(base, [conversations], tmp_path / "odd", steps=1, replay_share=0.25, tokens=other)
    tokens = write_shards(tmp_path / "tokens", {"train": [[document]]}, vocab=302)
    mixed = run(base, [conversations], tmp_path / "out", steps=4, replay_share=0.25, tokens=tokens)
    assert mixed.counts["target_tokens"] > 4 * 90  # a row of text a step teaches every token


def test_what_does_not_fit_the_model_is_refused(
    base: Path, conversations: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="context = 97 exceeds the model's 96"):
        run(base, [conversations], tmp_path / "out", context=97)
    with pytest.raises(InputError, match="does not exist"):
        run(tmp_path / "nowhere", [conversations], tmp_path / "out")
    with pytest.raises(InputError, match="none of 0 conversations"):
        run(base, [], tmp_path / "out")


def test_what_is_left_out_is_counted_with_its_reason(base: Path, tmp_path: Path) -> None:
    rows = [
        {"instruction": "q?", "output": "a"},
        {"instruction": "q?", "output": " "},
        {"messages": [{"role": "user", "content": "q?"}]},
        {"messages": [{"role": "assistant", "content": "a", "loss_weight": 0}]},
        {"instruction": "why? " * 300, "output": "a"},
    ]
    path = tmp_path / "c.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    outcome = run(base, [path], tmp_path / "out", steps=1, held_out=0)
    counts = {key: outcome.counts[f"dropped_{key}"] for key in ("overlong", "no_answer", "refused")}
    assert counts == {"overlong": 1, "no_answer": 3, "refused": 0}
    assert outcome.counts["trained"] == 1
    with pytest.raises(InputError, match=r"c\.jsonl:5: \d+ tokens, a row holds 96"):
        run(base, [path], tmp_path / "error", steps=1, overlong="error")
    path.write_text("".join(json.dumps(row) + "\n" for row in rows[1:4]))
    with pytest.raises(InputError, match="none of 3 conversations has an answer"):
        run(base, [path], tmp_path / "none", steps=1)
    path.write_text("")
    with pytest.raises(InputError, match="holds no conversation"):
        run(base, [path], tmp_path / "empty", steps=1)


def test_only_the_last_answer_is_learnt_when_asked(base: Path, tmp_path: Path) -> None:
    messages = [
        {"role": role, "content": text}
        for role, text in [("user", "a?"), ("assistant", "bb"), ("user", "c?"), ("assistant", "d")]
    ]
    path = tmp_path / "c.jsonl"
    path.write_text(json.dumps({"messages": messages}))
    changes = {"steps": None, "epochs": 1, "held_out": 0}
    tokenizer = Tokenizer.load(base / "model")
    last = run(base, [path], tmp_path / "last", train_on="last", **changes)
    assert last.counts["target_tokens"] == len(tokenizer.encode("d")) + 1
    both = run(base, [path], tmp_path / "all", **changes)
    assert (
        both.counts["target_tokens"] == len(tokenizer.encode("bb")) + len(tokenizer.encode("d")) + 2
    )


def test_noise_is_resumed_to_the_same_bits(base: Path, conversations: Path, tmp_path: Path) -> None:
    straight, halted, quiet = (tmp_path / name for name in ("straight", "halted", "quiet"))
    reference = run(base, [conversations], straight, neftune_alpha=5)
    with pytest.raises(KeyboardInterrupt):
        run(base, [conversations], halted, StopsAt(6), neftune_alpha=5)
    assert run(base, [conversations], halted, neftune_alpha=5) == reference
    assert run(base, [conversations], quiet).figures["sft.loss"] != reference.figures["sft.loss"]
    name = "model/model.safetensors"
    assert file_digest(halted / name) == file_digest(straight / name)


@pytest.mark.shared
@pytest.mark.slow
def test_real_conversations_lower_the_loss_of_a_real_base(
    fledge_data: Path, tmp_path: Path
) -> None:
    """tinystories-656k, whose tokenizer knows no turns, on the demo's English instructions."""
    base = fledge_data / "checkpoints" / "tinystories-656k"
    file = fledge_data / "llamafactory_demo" / "alpaca_en_demo.jsonl.zst"
    changes = {"steps": 40, "batch_rows": 8, "context": 256, "threads": 1, "precision": "fp32"}
    outcome = run(base, [file], tmp_path / "out", **changes)
    assert outcome.counts["new_tokens"] == 6
    assert outcome.counts["conversations"] == 999
    assert outcome.figures["sft.loss"] < outcome.figures["sft.loss_before"] - 0.5
