"""Schedule, optimizers, objective, validation, saved states: each against a closed form."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from fledge.core.compiler import find_compiler
from fledge.core.config import parse_config
from fledge.core.errors import InputError
from fledge.core.protocols import Silent
from fledge.model.config import ModelConfig
from fledge.model.decoder import Decoder
from fledge.train import compile as compile_file
from fledge.train.checkpoint import Checkpoints
from fledge.train.compile import has_compiler
from fledge.train.config import LoopConfig, PretrainConfig
from fledge.train.device import (
    choose_micro_rows,
    choose_micro_tokens,
    choose_precision,
    worth_compiling,
)
from fledge.train.loader import PackedLoader
from fledge.train.muon import Muon, orthogonalize
from fledge.train.objective import cross_entropy
from fledge.train.optimizers import build_optimizers
from fledge.train.rates import peak_rates
from fledge.train.schedule import rate_factor
from fledge.train.shards import TokenShards
from fledge.train.validate import bits_per_byte
from fledge.train.world import World
from pico_shards import VOCAB, pattern_shards, write_shards

SHAPE = ModelConfig(
    vocab_size=VOCAB, width=32, depth=2, heads=2, kv_heads=1, head_size=16, ffn=48, context=16
)


@given(
    steps=st.integers(1, 400),
    warmup=st.floats(0, 0.5),
    schedule=st.sampled_from(["wsd", "linear", "cosine", "constant"]),
    final=st.floats(0, 1),
)
@settings(max_examples=80, deadline=None)
def test_rates_rise_hold_and_fall(steps: int, warmup: float, schedule: str, final: float) -> None:
    config = LoopConfig.model_validate(
        {"warmup": warmup, "schedule": schedule, "final_rate": final, "decay": 0.4}
    )
    rates = [rate_factor(step, steps, config) for step in range(steps)]
    warm = round(warmup * steps)
    assert all(0 <= rate <= 1 for rate in rates)
    assert rates[:warm] == sorted(rates[:warm])
    assert rates[warm:] == sorted(rates[warm:], reverse=True)
    if schedule != "constant" and steps > 10:
        assert rates[-1] == pytest.approx(final)


def test_wsd_holds_until_the_decay() -> None:
    config = LoopConfig(warmup=0.1, schedule="wsd", decay=0.4, final_rate=0.0)
    rates = [rate_factor(step, 100, config) for step in range(100)]
    assert rates[9] < 1.0
    assert rates[10:61] == [1.0] * 51
    assert rates[80] == pytest.approx(1 - 20 / 39)


@pytest.mark.parametrize("shape", [(3, 16, 64), (2, 64, 16), (1, 32, 32)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_orthogonalized_matrices_have_singular_values_near_one(
    shape: tuple[int, int, int], dtype: torch.dtype
) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 1e-3
    result = orthogonalize(matrices, dtype).float()
    values = torch.linalg.svdvals(result)
    assert values.min() > 0.8
    assert values.max() < 1.2
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    exact = left @ right
    cosine = F.cosine_similarity(result.flatten(1), exact.flatten(1))
    assert cosine.min() > 0.99


def test_muon_moves_against_the_polar_factor_by_even_rows_and_decays() -> None:
    weight = torch.nn.Parameter(torch.ones(64, 16))
    gradient = torch.randn(64, 16, generator=torch.Generator().manual_seed(1))
    weight.grad = gradient
    Muon([weight], lr=0.1, weight_decay=0.5).step()
    left, _, right = torch.linalg.svd(gradient, full_matrices=False)
    step = (torch.ones(64, 16) * (1 - 0.05) - weight.detach()) / (0.1 * 2)  # sqrt(64 / 16) = 2
    expected = F.normalize(left @ right, dim=1)  # at first every row is as large as the others
    assert F.cosine_similarity(step.flatten(), expected.flatten(), dim=0) > 0.99
    assert step.norm() == pytest.approx(16**0.5, rel=0.15)
    torch.testing.assert_close(step.norm(dim=1), torch.full((64,), float(step.norm()) / 8))


def test_muon_treats_matrices_of_a_shape_as_if_alone() -> None:
    def updated(count: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(2)
        weights = [torch.nn.Parameter(torch.zeros(8, 24)) for _ in range(count)]
        for weight in weights:
            weight.grad = torch.randn(8, 24, generator=generator)
        optimizer = Muon(weights, lr=1.0)
        optimizer.step()
        return weights[0].detach()

    assert torch.allclose(updated(1), updated(3), atol=1e-5)


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_every_weight_has_one_optimizer(optimizer: str) -> None:
    model = Decoder(SHAPE)
    config = LoopConfig.model_validate({"optimizer": optimizer, "weight_decay": 0.3})
    optimizers = build_optimizers(model, config, matrix_rate=0.5, other_rate=0.25)
    groups = [group for one in optimizers for group in one.param_groups]
    seen = [id(weight) for group in groups for weight in group["params"]]
    assert sorted(seen) == sorted(id(weight) for weight in model.parameters())
    inner = {id(p) for n, p in model.layers.named_parameters() if p.ndim == 2}
    for group in groups:
        matrices = {id(weight) for weight in group["params"]} <= inner
        assert group["peak"] == (0.5 if matrices else 0.25)
        assert group["weight_decay"] == (0.3 if matrices else 0.0)


def test_rates_given_stand_and_others_follow_width_and_batch() -> None:
    table = {"muon": (0.02, 0.008), "adamw": (0.004, 0.004)}
    assert peak_rates(LoopConfig(), table, 1024) == (0.02, 0.004)
    assert peak_rates(LoopConfig(optimizer="adamw"), table, 64) == (0.008, 0.008)
    assert peak_rates(LoopConfig(optimizer="adamw8bit"), table, 64) == (0.008, 0.008)
    lion = peak_rates(LoopConfig(optimizer="lion"), table, 64)
    assert lion == pytest.approx((0.0008, 0.0008))
    assert peak_rates(LoopConfig(), table, 256, batch_tokens=2048) == (0.01, 0.004)
    chosen = LoopConfig(learning_rate=0.1, embedding_learning_rate=0.2)
    assert peak_rates(chosen, table, 1024, batch_tokens=99) == (0.1, 0.2)


def test_the_objective_is_the_weighted_sum_of_token_losses(tmp_path: Path) -> None:
    model = Decoder(SHAPE).initialize(0)
    data = TokenShards(pattern_shards(tmp_path), "train")
    batch = PackedLoader(data, context=16, batch_rows=4, seed=0)[0]
    weights = torch.rand(batch.weights.shape)
    batch = batch._replace(weights=weights)
    logits = model(batch.ids, batch.segments)
    picked = logits.log_softmax(-1).gather(-1, batch.targets[..., None]).squeeze(-1)
    expected = -(picked * weights).sum()
    torch.testing.assert_close(cross_entropy()(model, batch), expected)
    z = logits.logsumexp(-1).square()
    torch.testing.assert_close(
        cross_entropy(0.1)(model, batch), expected + 0.1 * (z * weights).sum()
    )


@pytest.mark.parametrize("stride", [16, 8, 5, 1])
def test_a_model_without_opinion_needs_log2_v_bits_a_token(tmp_path: Path, stride: int) -> None:
    model = Decoder(SHAPE)
    torch.nn.init.zeros_(model.embed_tokens.weight)
    model.initialize(0)
    torch.nn.init.zeros_(model.embed_tokens.weight)  # tied: all logits are 0
    documents = [[[5] * 11, [6] * 3], [[7] * 40]]
    folder = write_shards(tmp_path, {"validation": documents}, bytes_per_token=4)
    figure = bits_per_byte(model, TokenShards(folder, "validation"), context=16, stride=stride)
    # The first token of the stream, <|endoftext|>, is given; each text token counts once.
    assert figure == pytest.approx(math.log2(VOCAB) / 4)


def test_overlap_gives_documents_their_context(tmp_path: Path) -> None:
    """With stride 1 the code length is the exact one: every token has a full window before it."""
    model = Decoder(SHAPE).initialize(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(3))
    ids = torch.randint(1, VOCAB, (15,), generator=torch.Generator().manual_seed(4)).tolist()
    folder = write_shards(tmp_path, {"validation": [[ids[:9], ids]]}, bytes_per_token=1)
    figure = bits_per_byte(model, TokenShards(folder, "validation"), context=16, stride=1)
    nats = 0.0
    with torch.no_grad():
        for document in (ids[:9], ids):
            whole = torch.tensor([[0, *document]])
            logits = model(whole)[0, :-1]
            nats += float(F.cross_entropy(logits, whole[0, 1:], reduction="sum"))
    assert figure == pytest.approx(nats / math.log(2) / 24, rel=1e-5)


def test_a_sample_of_the_validation_reads_whole_documents(tmp_path: Path) -> None:
    model = Decoder(SHAPE).initialize(1)
    documents = [[[5, 6, 7], [8] * 30, [9] * 30]]
    whole = write_shards(tmp_path / "a", {"validation": documents})
    first = write_shards(tmp_path / "b", {"validation": [documents[0][:1]]})
    options = {"context": 16, "stride": 16}
    sampled = bits_per_byte(model, TokenShards(whole, "validation"), tokens=2, **options)
    assert sampled == pytest.approx(
        bits_per_byte(model, TokenShards(first, "validation"), **options)
    )


def test_a_broken_state_falls_back_to_the_one_before(tmp_path: Path) -> None:
    saved = Checkpoints(tmp_path / "state")
    assert saved.load() is None
    for step in (1, 2, 30):
        saved.save(step, {"position": step})
    names = sorted(path.name for path in (tmp_path / "state").iterdir())
    assert names == ["step-000000002.pt", "step-000000030.pt"]
    assert saved.load() == {"position": 30}
    newest = tmp_path / "state" / names[-1]
    newest.write_bytes(newest.read_bytes()[:-40])
    lines: list[str] = []

    class Listening(Silent):
        def say(self, line: str) -> None:
            lines.append(line)

    assert Checkpoints(tmp_path / "state", Listening()).load() == {"position": 2}
    assert [line for line in lines if str(newest) in line and "broken" in line]
    assert not newest.exists()
    newest.write_bytes(b"")
    assert saved.load() == {"position": 2}


@pytest.mark.parametrize("content", [b"", b"junk", b"PK\x03\x04" + b"\0" * 99, b"\x80\x02}q\0."])
def test_a_state_that_was_just_written_is_kept(tmp_path: Path, content: bytes) -> None:
    """With two broken files of later steps each new state used to be dropped at once."""
    folder = tmp_path / "state"
    folder.mkdir()
    for step in (8, 9):
        (folder / f"step-{step:09d}.pt").write_bytes(content)
    saved = Checkpoints(folder)
    for step in (1, 2, 3):  # without a load first, which would have removed them
        saved.save(step, {"position": step})
        assert saved.load() == {"position": step}
    assert len(list(folder.iterdir())) == 2


def test_a_state_that_does_not_fit_into_memory_is_not_thrown_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = Checkpoints(tmp_path / "state")
    saved.save(1, {"position": 1})

    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "load", fails)
        with pytest.raises(RuntimeError, match="memory"):
            saved.load()
    assert saved.load() == {"position": 1}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": 1, "steps": 3}, "epochs and steps exclude each other"),
        ({"tokens": 9, "steps": 3}, "steps and tokens exclude each other"),
        ({"batch_rows": 10, "micro_rows": 4}, r"micro_rows must divide batch_rows \(10\)"),
        ({"warmup": 0.6, "decay": 0.5}, "exceed the run"),
        ({"max_epochs": 2, "epochs": 1}, "max_epochs bounds tokens .*, not epochs"),
        ({"max_epochs": 2, "steps": 3}, "max_epochs bounds tokens .*, not steps"),
        ({"lr": 0.1}, "unknown key 'lr'"),
        ({"precision": "fp16"}, "precision"),
    ],
)
def test_configs_are_checked(values: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_config(PretrainConfig, values, "recipe")


def test_warm_up_in_steps_leaves_the_whole_run_to_the_decay() -> None:
    asked = {"warmup_steps": 0, "decay": 1.0}
    assert parse_config(PretrainConfig, asked, "recipe").decay == 1.0


def test_micro_batches_divide_the_batch() -> None:
    cpu, half, single = torch.device("cpu"), torch.bfloat16, torch.float32
    assert choose_micro_rows(LoopConfig(batch_rows=64), 128, cpu, half) == 32
    assert choose_micro_rows(LoopConfig(batch_rows=64), 128, cpu, single) == 16
    assert choose_micro_rows(LoopConfig(batch_rows=60), 128, cpu, half) == 30
    assert choose_micro_rows(LoopConfig(batch_rows=7), 100_000, cpu, half) == 1
    assert choose_micro_rows(LoopConfig(batch_rows=64, micro_rows=32), 128, cpu, single) == 32


def test_micro_batches_of_whole_answers_hold_what_fits_or_what_is_asked_for() -> None:
    cpu, half = torch.device("cpu"), torch.bfloat16
    assert choose_micro_tokens(LoopConfig(), 100, cpu, half) == 4096
    assert choose_micro_tokens(LoopConfig(), 100, cpu, torch.float32) == 2048
    assert choose_micro_tokens(LoopConfig(), 5000, cpu, half) == 5000
    assert choose_micro_tokens(LoopConfig(batch_rows=64, micro_rows=8), 100, cpu, half) == 800


def test_emulated_bfloat16_of_an_old_gpu_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    def supported(including_emulation: bool = True) -> bool:
        return including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert choose_precision(LoopConfig(), torch.device("cuda")) == torch.float32
    asked = LoopConfig(precision="bf16")
    assert choose_precision(asked, torch.device("cuda")) == torch.bfloat16


@pytest.mark.parametrize(
    ("rate", "chosen"), [(0.5, torch.float32), (1.0, torch.bfloat16), (2.4, torch.bfloat16)]
)
def test_bfloat16_must_be_fast_and_not_only_there(
    monkeypatch: pytest.MonkeyPatch, rate: float, chosen: torch.dtype
) -> None:
    monkeypatch.setattr("fledge.train.device.cpu_has_bfloat16", lambda: True)
    monkeypatch.setattr("fledge.train.device.bfloat16_speed", lambda: rate)
    assert choose_precision(LoopConfig(), torch.device("cpu")) == chosen
    asked = LoopConfig(precision="bf16")
    assert choose_precision(asked, torch.device("cpu")) == torch.bfloat16


def test_processes_agree_on_the_slowest_ones_number_type(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mixed(World):
        def any(self, flag: bool) -> bool:
            return True  # some other process is slow in bfloat16

    monkeypatch.setattr("fledge.train.device.cpu_has_bfloat16", lambda: True)
    monkeypatch.setattr("fledge.train.device.bfloat16_pays", lambda: True)
    cpu = torch.device("cpu")
    assert choose_precision(LoopConfig(), cpu, World()) == torch.bfloat16
    assert choose_precision(LoopConfig(), cpu, Mixed()) == torch.float32


def programs(folder: Path, monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """A machine whose only programs are ``names``."""
    for name in names:
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("CXX", raising=False)


@pytest.mark.skipif(sys.platform != "linux", reason="looks for g++ first")
def test_the_compiler_there_is_gets_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs(tmp_path, monkeypatch)
    assert not has_compiler()
    programs(tmp_path, monkeypatch, "clang++")
    assert has_compiler()
    monkeypatch.setenv("CXX", "nowhere++")
    assert find_compiler() == "clang++"
    monkeypatch.delenv("CXX")
    monkeypatch.delitem(sys.modules, "torch._inductor.config", raising=False)
    compile_file._set_compiler()
    assert os.environ["CXX"] == "clang++"
    programs(tmp_path, monkeypatch, "g++")
    compile_file._set_compiler()
    assert "CXX" not in os.environ  # PyTorch finds it by itself
    monkeypatch.setenv("CXX", f"{tmp_path / 'g++'} -O1")
    assert find_compiler() == f"{tmp_path / 'g++'} -O1"


@pytest.mark.parametrize("installed", [True, False])
def test_on_macos_a_shim_is_no_compiler(monkeypatch: pytest.MonkeyPatch, installed: bool) -> None:
    ran: list[list[str]] = []

    def fake(command: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        ran.append(command)
        return subprocess.CompletedProcess(command, 0 if installed else 2)

    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(subprocess, "run", fake)
    assert has_compiler() is installed
    assert {tuple(command) for command in ran} == {("xcode-select", "-p")}
    monkeypatch.setattr("shutil.which", lambda name: f"/opt/homebrew/bin/{name}")
    assert has_compiler()


def test_only_long_runs_are_compiled() -> None:
    cpu = torch.device("cpu")
    assert not worth_compiling(SHAPE, 10_000, torch.float32, cpu)
    assert worth_compiling(SHAPE, 10**10, torch.float32, cpu)
