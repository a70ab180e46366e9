"""The training loop: it adds up, stops where it must and leaves the process as it was."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from fledge.core.errors import FledgeError
from fledge.core.protocols import Silent
from fledge.model.config import ModelConfig
from fledge.model.decoder import Decoder
from fledge.train.config import PretrainConfig
from fledge.train.loader import PackedLoader
from fledge.train.loop import Position, Training, train
from fledge.train.objective import cross_entropy
from fledge.train.optimizers import build_optimizers
from fledge.train.shards import TokenShards
from fledge.train.step import update
from pico_runs import SMALL, Listening, digests, run
from pico_shards import VOCAB


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
        done = update(job, job.objective, batch, Position(), 1.0)
        return done.loss, kept

    whole_loss, whole = gradients(8)
    loss, parts = gradients(micro_rows)
    assert loss == pytest.approx(whole_loss, rel=1e-6)
    assert len(parts) == len(whole) > 0
    for one, other in zip(parts, whole, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)


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


def test_settings_of_the_process_are_restored(folders: tuple[Path, Path], tmp_path: Path) -> None:
    handler, threads = signal.getsignal(signal.SIGINT), torch.get_num_threads()
    run(folders, tmp_path / "out", steps=2, threads=1)
    assert signal.getsignal(signal.SIGINT) is handler
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()
