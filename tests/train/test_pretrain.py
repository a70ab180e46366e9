"""Pretraining as a stage: it learns, adds up, stops where it must, and goes on to the same bits."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch

from fledge.core.errors import FledgeError, InputError
from fledge.core.files import file_digest
from fledge.core.protocols import Bar, Silent
from fledge.core.run import Outcome
from fledge.data.config import TokensConfig
from fledge.data.shards import DOCUMENTS, write_rows
from fledge.data.tokens import write_tokens
from fledge.model.checkpoint import load_model
from fledge.model.config import ModelConfig
from fledge.model.decoder import Decoder
from fledge.train.config import PretrainConfig
from fledge.train.loader import PackedLoader
from fledge.train.loop import Training, train, update
from fledge.train.objective import cross_entropy
from fledge.train.optimizers import build_optimizers
from fledge.train.pretrain import pretrain
from fledge.train.shards import TokenShards
from pico_shards import VOCAB, pattern_shards, write_shards, write_tokenizer

REPRODUCIBLE = ("model/model.safetensors", "model/config.json", "loss.jsonl", "validation.jsonl")
SMALL = {
    "depth": 1,
    "width": 32,
    "heads": 1,
    "ffn": 48,
    "context": 16,
    "batch_rows": 8,
    "micro_rows": 4,
    "compile": False,
    "checkpoint_every_seconds": 1e9,
    "seed": 5,
}


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    return pattern_shards(tmp_path / "tokens"), write_tokenizer(tmp_path / "tokenizer")


def run(folders: tuple[Path, Path], out: Path, progress: Any = None, **changes: Any) -> Outcome:
    config = PretrainConfig.model_validate({**SMALL, "steps": 24, **changes})
    return pretrain(config, *folders, out, progress or Silent())


def digests(out: Path) -> dict[str, str]:
    return {name: file_digest(out / name) for name in REPRODUCIBLE}


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


class Listening(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


class StopsAt(Silent):
    """Behaves as a user who presses Ctrl-C after a number of steps."""

    def __init__(self, steps: int, number: int = signal.SIGINT) -> None:
        self.left = steps
        self.number = number

    def bar(
        self, label: str, total: float | None, unit: str, done: float = 0
    ) -> AbstractContextManager[Bar]:
        outer, silent = self, super().bar(label, total, unit, done)

        class Counting:
            def __enter__(self) -> Counting:
                silent.__enter__()
                return self

            def __exit__(self, *error: object) -> None:
                return None

            def advance(self, amount: float = 1, note: str = "") -> None:
                outer.left -= 1
                if outer.left == 0:
                    os.kill(os.getpid(), outer.number)

        return Counting()


def test_it_learns_and_writes_what_it_promises(folders: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    outcome = run(folders, out, steps=60)
    assert outcome.counts["steps"] == 60
    assert outcome.counts["parameters"] == load_model(out).config.parameters
    losses = [row["loss"] for row in rows(out / "loss.jsonl")]
    assert len(losses) == 60
    assert losses[0] == pytest.approx(math.log(VOCAB), rel=0.05)
    assert losses[-1] < 0.6 * losses[0]
    curve = rows(out / "validation.jsonl")
    assert len(curve) == 10
    assert curve[-1]["bits_per_byte"] < 0.6 * curve[0]["bits_per_byte"]
    assert outcome.figures["pretrain.bits_per_byte"] <= curve[-1]["bits_per_byte"] * 1.05
    metrics = rows(out / "logs" / "metrics.jsonl")
    assert {"step", "loss", "lr", "grad_norm", "tokens_per_second"} <= set(metrics[0])
    assert list((out / "logs").glob("events.out.tfevents.*"))
    assert (out / "model" / "tokenizer_config.json").is_file()
    config = json.loads((out / "model" / "config.json").read_text())
    assert config["bos_token_id"] == config["eos_token_id"] == 0


def test_epochs_read_every_token(folders: tuple[Path, Path], tmp_path: Path) -> None:
    outcome = run(folders, tmp_path / "out", steps=None, epochs=2)
    assert outcome.counts["tokens"] == 2 * TokenShards(folders[0], "train").tokens
    by_default = run(folders, tmp_path / "default", steps=None)
    assert by_default.counts["tokens"] == TokenShards(folders[0], "train").tokens
    by_tokens = run(folders, tmp_path / "tokens", steps=None, tokens=1000)
    assert by_tokens.counts["steps"] == math.ceil(1000 / (8 * 16))


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
@pytest.mark.parametrize("micro_rows", [1, 2, 4])
def test_accumulation_equals_one_big_batch(
    folders: tuple[Path, Path], optimizer: str, micro_rows: int
) -> None:
    """Micro-batches of unequal weight give the gradient and loss of the whole batch."""

    def gradients(rows: int) -> tuple[float, list[torch.Tensor]]:
        shape = ModelConfig(
            vocab_size=VOCAB, width=32, depth=2, heads=2, kv_heads=1, ffn=48, context=16
        )
        config = PretrainConfig.model_validate(
            {**SMALL, "micro_rows": rows, "clip": 0, "optimizer": optimizer}
        )
        model = Decoder(shape).initialize(1).double()
        model.compute_dtype = torch.float64
        job = Training(
            label="test",
            model=model,
            objective=cross_entropy(),
            batches=PackedLoader(
                TokenShards(folders[0], "train"), context=16, batch_rows=8, seed=1
            ),
            steps=1,
            context=16,
            optimizers=build_optimizers(model, config, matrix_rate=0.0, other_rate=0.0),
            config=config,
            validate=dict,
            out=Path("unused"),
        )
        batch = job.batches[0]
        batch.weights[:3] = 0  # unequal weights: a mean of means would be wrong
        batch.weights[5, 4:] = 0
        kept: list[torch.Tensor] = []
        original = model.zero_grad

        def keep(set_to_none: bool = True) -> None:
            kept.extend(p.grad.clone() for p in model.parameters() if p.grad is not None)
            original(set_to_none)

        model.zero_grad = keep  # type: ignore[method-assign]
        loss, _ = update(job, job.objective, batch, 0, 1.0)
        return loss, kept

    whole_loss, whole = gradients(8)
    loss, parts = gradients(micro_rows)
    assert loss == pytest.approx(whole_loss, rel=1e-6)
    assert len(parts) == len(whole) > 0
    for one, other in zip(parts, whole, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("stop", [1, 7, 23, 24])
def test_an_interrupted_run_ends_in_the_same_bits(
    folders: tuple[Path, Path], tmp_path: Path, stop: int
) -> None:
    straight, halted = tmp_path / "straight", tmp_path / "halted"
    reference = run(folders, straight)
    with pytest.raises(KeyboardInterrupt):
        run(folders, halted, StopsAt(stop))
    assert not (halted / "model").exists()
    assert len(rows(halted / "loss.jsonl")) == stop
    outcome = run(folders, halted)
    assert digests(halted) == digests(straight)
    assert outcome == reference


def test_sigterm_saves_the_state_as_ctrl_c_does(folders: tuple[Path, Path], tmp_path: Path) -> None:
    handler = signal.getsignal(signal.SIGTERM)
    straight, halted = tmp_path / "straight", tmp_path / "halted"
    run(folders, straight)
    with pytest.raises(KeyboardInterrupt):
        run(folders, halted, StopsAt(7, signal.SIGTERM))
    assert signal.getsignal(signal.SIGTERM) is handler
    assert [path.name for path in (halted / "state").iterdir()] == ["step-000000007.pt"]
    run(folders, halted)
    assert digests(halted) == digests(straight)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_the_final_save_is_heard(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    real = torch.save

    def pressed(*arguments: Any) -> None:
        os.kill(os.getpid(), number)
        real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", pressed)
        with pytest.raises(KeyboardInterrupt):
            run(folders, tmp_path / "halted")
    assert not (tmp_path / "halted" / "model").exists()
    run(folders, tmp_path / "halted")
    run(folders, tmp_path / "straight")
    assert digests(tmp_path / "halted") == digests(tmp_path / "straight")


def test_a_run_goes_on_with_the_threads_it_began_with(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fledge.train.device.usable_cores", lambda: 2)
    with pytest.raises(KeyboardInterrupt):
        run(folders, tmp_path / "out", StopsAt(5))
    before = torch.get_num_threads()
    seen: list[int] = []
    monkeypatch.setattr("fledge.train.device.usable_cores", lambda: 1)
    monkeypatch.setattr(
        "fledge.train.loop.update",
        lambda *arguments: (seen.append(torch.get_num_threads()), update(*arguments))[1],
    )
    told = Listening()
    run(folders, tmp_path / "out", told)
    assert set(seen) == {2}
    assert [line for line in told.lines if "2 threads, as this run began, not 1" in line]
    assert torch.get_num_threads() == before


def native(monkeypatch: pytest.MonkeyPatch, bfloat16: bool) -> None:
    monkeypatch.setattr("fledge.train.device.cpu_has_bfloat16", lambda: bfloat16)


def test_a_run_goes_on_in_float32_where_it_began_so(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    native(monkeypatch, False)
    run(folders, tmp_path / "straight")
    with pytest.raises(KeyboardInterrupt):
        run(folders, tmp_path / "out", StopsAt(5))
    native(monkeypatch, True)
    told = Listening()
    run(folders, tmp_path / "out", told)
    assert [line for line in told.lines if "going on in float32" in line]
    assert digests(tmp_path / "out") == digests(tmp_path / "straight")


def test_a_run_in_bfloat16_does_not_go_on_where_there_is_none(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    native(monkeypatch, True)
    with pytest.raises(KeyboardInterrupt):
        run(folders, tmp_path / "out", StopsAt(5))
    native(monkeypatch, False)
    with pytest.raises(InputError, match=r"computed in bfloat16.*--force"):
        run(folders, tmp_path / "out")


@pytest.mark.parametrize(
    "damage",
    [
        {"position": {"step": 3, "epoch": 1}},
        {"position": 3},
        {"optimizers": []},
        {"optimizers": [{"state": {}, "param_groups": []}] * 2},
        {"model": {}},
        {"model": {"embed_tokens.weight": torch.zeros(2, 2)}},
        {"arithmetic": {}},
        {"rng": None},
    ],
)
def test_a_state_that_does_not_fit_is_an_input_error(
    folders: tuple[Path, Path], tmp_path: Path, damage: dict[str, Any]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(folders, tmp_path / "out", StopsAt(3))
    (path,) = (tmp_path / "out" / "state").iterdir()
    state = torch.load(path, weights_only=True)
    torch.save({**state, **damage}, path)
    with pytest.raises(InputError, match=r"another model or version of fledge.*--force"):
        run(folders, tmp_path / "out")
    torch.save({"data": state["data"]}, path)
    with pytest.raises(InputError, match=r"another model or version of fledge.*--force"):
        run(folders, tmp_path / "out")
    torch.save([1, 2], path)
    with pytest.raises(InputError, match=r"another model or version of fledge.*--force"):
        run(folders, tmp_path / "out")


def test_bfloat16_resumes_to_the_same_bits_too(folders: tuple[Path, Path], tmp_path: Path) -> None:
    straight, halted = tmp_path / "straight", tmp_path / "halted"
    run(folders, straight, precision="bf16")
    with pytest.raises(KeyboardInterrupt):
        run(folders, halted, StopsAt(9), precision="bf16")
    run(folders, halted, precision="bf16")
    assert digests(halted) == digests(straight)
    run(folders, tmp_path / "full", precision="fp32")
    assert digests(tmp_path / "full") != digests(straight)


def test_when_states_are_saved_does_not_matter(folders: tuple[Path, Path], tmp_path: Path) -> None:
    run(folders, tmp_path / "rarely")
    run(folders, tmp_path / "often", checkpoint_every_steps=3, checkpoint_every_seconds=0.01)
    assert digests(tmp_path / "rarely") == digests(tmp_path / "often")


CHILD = """
import json, sys
from pathlib import Path
from fledge.core.protocols import Silent
from fledge.train.config import PretrainConfig
from fledge.train.pretrain import pretrain
values, tokens, tokenizer, out = sys.argv[1:]
config = PretrainConfig.model_validate(json.loads(values))
pretrain(config, Path(tokens), Path(tokenizer), Path(out), Silent())
"""


def start(folders: tuple[Path, Path], out: Path, values: dict[str, Any]) -> subprocess.Popen[bytes]:
    arguments = [json.dumps({**SMALL, **values}), *map(str, folders), str(out)]
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    return subprocess.Popen([sys.executable, "-c", CHILD, *arguments], env=environment)


def kill_after(process: subprocess.Popen[bytes], out: Path, states: int) -> None:
    """kill -9 once the ``states``-th saved state is there."""
    seen: set[str] = set()
    deadline = time.monotonic() + 120
    while len(seen) < states:
        assert process.poll() is None, "it finished before it could be killed"
        assert time.monotonic() < deadline
        seen |= {path.name for path in (out / "state").glob("step-*.pt")}
        time.sleep(0.002)
    process.kill()
    process.wait()


def test_kill_9_then_the_same_command_ends_in_the_same_bits(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    values = {"steps": 150, "checkpoint_every_steps": 10}
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    kill_after(start(folders, killed, values), killed, states=2)
    assert not (killed / "model").exists()
    assert start(folders, killed, values).wait() == 0
    run(folders, straight, **values)
    assert digests(killed) == digests(straight)


@pytest.mark.slow
def test_kill_9_of_compiled_training_ends_in_the_same_bits(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    values = {"steps": 300, "checkpoint_every_steps": 5, "compile": True, "precision": "bf16"}
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    kill_after(start(folders, killed, values), killed, states=3)
    assert start(folders, killed, values).wait() == 0
    assert start(folders, straight, values).wait() == 0
    assert digests(killed) == digests(straight)


def test_a_failing_compiler_costs_one_line_only(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> Any:
        def fail(*_: object) -> Any:
            raise RuntimeError("no compiler\nlong story")

        return fail

    monkeypatch.setattr(torch, "compile", broken)
    told = Listening()
    run(folders, tmp_path / "out", told, compile=True)
    assert [line for line in told.lines if "no compiler" in line and "long story" not in line]
    run(folders, tmp_path / "plain")
    assert digests(tmp_path / "out") == digests(tmp_path / "plain")


def test_a_loss_that_explodes_stops_the_run(folders: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(FledgeError, match=r"loss .*(nan|inf).* at step \d+ of 24; lower learning"):
        run(folders, tmp_path / "out", learning_rate=1e30, embedding_learning_rate=1e30, clip=0)


def test_a_batch_with_nothing_to_learn_is_an_error(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    config = PretrainConfig.model_validate(SMALL)
    model = Decoder(
        ModelConfig(vocab_size=VOCAB, width=32, depth=1, heads=1, kv_heads=1, ffn=48, context=16)
    ).initialize(0)
    data = TokenShards(folders[0], "train")
    job = Training(
        label="pretrain",
        model=model,
        objective=cross_entropy(),
        batches=PackedLoader(data, context=16, batch_rows=8, seed=0, epochs=1),
        steps=1000,  # more than the data holds
        context=16,
        optimizers=build_optimizers(model, config, matrix_rate=0.01, other_rate=0.01),
        config=config,
        validate=dict,
        out=tmp_path,
    )
    with pytest.raises(FledgeError, match="nothing to learn; every token in it is padding"):
        train(job, Silent())


def test_other_data_under_a_saved_state_is_refused(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(folders, tmp_path / "out", StopsAt(3))
    other = pattern_shards(tmp_path / "other", documents=20, seed=9)
    with pytest.raises(InputError, match="other data; run with --force"):
        run((other, folders[1]), tmp_path / "out")


def test_training_goes_on_from_a_checkpoint(folders: tuple[Path, Path], tmp_path: Path) -> None:
    first = run(folders, tmp_path / "first", steps=60)
    gentle = {"learning_rate": 1e-6, "embedding_learning_rate": 1e-6}
    second = run(folders, tmp_path / "second", steps=1, init=str(tmp_path / "first"), **gentle)
    bits = first.figures["pretrain.bits_per_byte"]
    assert second.figures["pretrain.bits_per_byte"] == pytest.approx(bits, rel=1e-3)
    wide = write_shards(
        tmp_path / "wide", {"train": [[[1, 99]]], "validation": [[[1]]]}, vocab=VOCAB + 1
    )
    with pytest.raises(InputError, match=f"knows {VOCAB} tokens, .* uses {VOCAB + 1}"):
        run((wide, folders[1]), tmp_path / "third", init=str(tmp_path / "first"))


def test_the_tokens_stage_and_pretraining_understand_each_other(tmp_path: Path) -> None:
    """Documents -> the data room's writer -> this room's reader, across shards."""

    class Bytes:
        vocab_size, endoftext_id = 257, 256

        def encode_batch(self, texts: list[str]) -> list[list[int]]:
            return [list(text.encode()) for text in texts]

    texts = {"train": ["aå", "", "桥梁", "x" * 50], "validation": ["held out", "é"]}
    for split, split_texts in texts.items():
        (tmp_path / "corpus" / "documents").mkdir(parents=True, exist_ok=True)
        empty = dict.fromkeys(DOCUMENTS.names, "") | {"metadata": "{}", "lang": "en"}
        rows = [{**empty, "id": text, "text": text} for text in split_texts]
        write_rows(tmp_path / f"corpus/documents/{split}-00000.parquet", rows, DOCUMENTS)
    (tmp_path / "tokens").mkdir()
    write_tokens(TokensConfig(shard_tokens=8), tmp_path / "corpus", Bytes(), tmp_path / "tokens")
    for split, split_texts in texts.items():
        shards = TokenShards(tmp_path / "tokens", split)
        assert shards.documents == len(split_texts)
        for number, text in enumerate(split_texts):
            ids = shards.read(number, 0, int(shards.lengths[number])).tolist()
            assert ids == [256, *text.encode()]
        assert shards.document_bytes().tolist() == [len(text.encode()) for text in split_texts]
        assert shards.bytes == sum(len(text.encode()) for text in split_texts)
        assert shards.vocab_size == 257


def test_without_held_out_text_there_is_no_figure(tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "t", {"train": [[[1, 2, 3] * 50]], "validation": [[]]})
    outcome = run((folder, write_tokenizer(tmp_path / "tokenizer")), tmp_path / "out", steps=3)
    assert outcome.figures == {}
    assert (tmp_path / "out" / "validation.jsonl").read_text() == ""


def test_a_missing_tokenizer_is_named_before_training(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"no tokenizer\.json"):
        run((folders[0], tmp_path / "nowhere"), tmp_path / "out")
    assert not (tmp_path / "out" / "state").exists()


def test_a_gpu_that_is_not_there_is_an_input_error(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="sees no GPU"):
        run(folders, tmp_path / "out", device="cuda")


def test_settings_of_the_process_are_restored(folders: tuple[Path, Path], tmp_path: Path) -> None:
    handler, threads = signal.getsignal(signal.SIGINT), torch.get_num_threads()
    run(folders, tmp_path / "out", steps=2, threads=1)
    assert signal.getsignal(signal.SIGINT) is handler
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()
