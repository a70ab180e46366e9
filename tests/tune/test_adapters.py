"""SFT by LoRA: small matrices learn, stops change no bit, what is written is what was trained."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from test_sft import StopsAt
from test_vocabulary import plain_base

from fledge.core.config import parse_config
from fledge.core.errors import InputError
from fledge.core.files import file_digest
from fledge.core.protocols import Silent
from fledge.core.run import Outcome
from fledge.model.adapter_folder import load_adapted, merge_adapter
from fledge.model.checkpoint import load_model, save_model
from fledge.model.config import derive
from fledge.model.decoder import Decoder
from fledge.model.lora import lora_layers, lora_state, merge_lora
from fledge.model.lora_config import LoraConfig
from fledge.model.quantized import NF4Linear
from fledge.tokenizer.tokenizer import Tokenizer
from fledge.train.batch import Batch
from fledge.train.objective import cross_entropy
from fledge.train.optimizers import build_optimizers, group_weights
from fledge.tune.adapters import adapt_model, stage_rates, trained_count
from fledge.tune.config import Adapted, SftConfig
from fledge.tune.sft import RATES, sft
from lora_decoder import ids as some_ids
from lora_decoder import shake_lora, tiny_decoder
from pico_model import write_pico_model
from pico_runs import kill_after

SMALL = {
    "steps": 16,
    "batch_rows": 4,
    "compile": False,
    "checkpoint_every_seconds": 1e9,
    "held_out": 0.1,
    "precision": "fp32",
    "lora": {"rank": 4, "alpha": 8},
}
KINDS: dict[str, dict[str, Any]] = {
    "lora": {},
    "rslora": {"lora": {"rank": 4, "alpha": 4, "stabilised": True}},
    "dora": {"lora": {"rank": 4, "alpha": 8, "dora": True}},
    "nf4": {"quantize_base": "nf4"},
    "int8": {"quantize_base": "int8"},
    "dropout": {"lora": {"rank": 4, "alpha": 8, "dropout": 0.3}},
    "some layers": {"lora": {"rank": 2, "alpha": 8, "targets": ["q_proj", "down_proj"]}},
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pico_model(tmp_path_factory.mktemp("run"), stage="sft")


@pytest.fixture(scope="module")
def conversations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("c") / "c.jsonl"
    rows = ({"instruction": f"{i} + 1?", "output": f"{i + 1}."} for i in range(40))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(base: Path, file: Path, out: Path, progress: Any = None, **changes: Any) -> Outcome:
    config = SftConfig.model_validate({**SMALL, **changes})
    return sft(config, base, [file], out, progress or Silent())


def ids(model: Decoder) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, model.config.vocab_size, (3, 20), generator=generator)


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_falls_and_what_is_written_is_what_was_trained(
    base: Path, conversations: Path, tmp_path: Path, kind: str
) -> None:
    outcome = run(base, conversations, tmp_path / "out", steps=40, **KINDS[kind])
    assert outcome.figures["sft.loss"] < outcome.figures["sft.loss_before"] - 1
    merged = load_model(tmp_path / "out")
    adapted, config = load_adapted(base, tmp_path / "out")
    assert outcome.counts["trainable"] == sum(t.numel() for t in lora_state(adapted).values())
    assert outcome.counts["trainable"] < outcome.counts["parameters"] / 3
    with torch.no_grad():
        assert (merged(ids(merged)) - adapted(ids(adapted))).abs().max() <= 2e-5
        assert (merged(ids(merged)) - load_model(base)(ids(merged))).abs().max() > 0.1
    assert merged.config.eos_ids == adapted.config.eos_ids
    assert config.dora == (kind == "dora")
    quantized = any(isinstance(part, NF4Linear) for part in adapted.modules())
    assert quantized == (kind == "nf4")


@pytest.mark.parametrize("kind", ["lora", "dora", "nf4"])
def test_merged_again_from_the_adapter_it_is_the_same_file(
    base: Path, conversations: Path, tmp_path: Path, kind: str
) -> None:
    run(base, conversations, tmp_path / "out", **KINDS[kind])
    report = merge_adapter(base, tmp_path / "out", tmp_path / "merged")
    assert report["quantize_base"] == KINDS[kind].get("quantize_base")
    for name in (
        *("model.safetensors", "config.json", "generation_config.json"),
        *("tokenizer.json", "tokenizer_config.json"),
    ):
        assert file_digest(tmp_path / "merged" / name) == file_digest(
            tmp_path / "out" / "model" / name
        )
    with pytest.raises(InputError, match="add --force"):
        merge_adapter(base, tmp_path / "out", tmp_path / "merged")
    with pytest.raises(InputError, match="is not empty and no model"):
        merge_adapter(base, tmp_path / "out", tmp_path / "out" / "adapter", force=True)


def test_frozen_weights_keep_their_bits(base: Path, conversations: Path, tmp_path: Path) -> None:
    """All but the adapted matrices are in the result as they were, although decays are set."""
    before = file_digest(base / "model" / "model.safetensors")
    decays = {"weight_decay": 0.3, "embedding_weight_decay": 0.3, "vector_weight_decay": 0.3}
    changes: dict[str, Any] = {"targets": ["q_proj", "up_proj"], "rank": 2}
    run(base, conversations, tmp_path / "out", lora=changes, ema=0.9, **decays)
    assert file_digest(base / "model" / "model.safetensors") == before
    old = load_file(base / "model" / "model.safetensors")
    new = load_file(tmp_path / "out" / "model" / "model.safetensors")
    assert old.keys() == new.keys()
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    assert changed == {name for name in old if "q_proj" in name or "up_proj" in name}


def test_a_state_holds_what_learns_and_nothing_else(
    base: Path, conversations: Path, tmp_path: Path
) -> None:
    run(base, conversations, tmp_path / "full", lora=None)
    run(base, conversations, tmp_path / "lora")
    states = {}
    for kind in ("full", "lora"):
        path = max((tmp_path / kind / "state").glob("step-*.pt"))
        states[kind] = torch.load(path, weights_only=True)
    assert {name.rpartition(".")[2] for name in states["lora"]["model"]} == {"lora_A", "lora_B"}
    [optimizer] = states["lora"]["optimizers"]
    assert len(optimizer["state"]) == len(states["lora"]["model"]) == 2 * 2 * 7
    assert "embed_tokens.weight" in states["full"]["model"]


@pytest.mark.parametrize("kind", ["dropout", "nf4", "dora"])
def test_stopped_and_gone_on_it_ends_in_the_same_bits(
    base: Path, conversations: Path, tmp_path: Path, kind: str
) -> None:
    straight, halted = tmp_path / "straight", tmp_path / "halted"
    changes = {**KINDS[kind], "ema": 0.9}
    reference = run(base, conversations, straight, **changes)
    with pytest.raises(KeyboardInterrupt):
        run(base, conversations, halted, StopsAt(6), **changes)
    assert list((halted / "state").glob("step-*.pt"))
    assert not (halted / "adapter").exists()
    torch.rand(3)  # whatever else drew numbers in the meantime
    assert run(base, conversations, halted, **changes) == reference
    for name in ("adapter/adapter_model.safetensors", "model/model.safetensors", "loss.jsonl"):
        assert file_digest(halted / name) == file_digest(straight / name)


CHILD = """
import json, sys
from pathlib import Path
from fledge.core.protocols import Silent
from fledge.tune.config import SftConfig
from fledge.tune.sft import sft
values, base, file, out = sys.argv[1:]
sft(SftConfig.model_validate(json.loads(values)), Path(base), [Path(file)], Path(out), Silent())
"""


def start(base: Path, file: Path, out: Path, **changes: Any) -> subprocess.Popen[bytes]:
    values = json.dumps({**SMALL, "threads": 1, **changes})
    arguments = [values, str(base), str(file), str(out)]
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    return subprocess.Popen([sys.executable, "-c", CHILD, *arguments], env=environment)


@pytest.mark.slow
def test_killed_by_nine_and_run_again_ends_the_same(
    base: Path, conversations: Path, tmp_path: Path
) -> None:
    changes = {"steps": 60, "checkpoint_every_steps": 1, **KINDS["dropout"]}
    assert start(base, conversations, tmp_path / "straight", **changes).wait(120) == 0
    kill_after(start(base, conversations, tmp_path / "killed", **changes), tmp_path / "killed", 9)
    assert start(base, conversations, tmp_path / "killed", **changes).wait(120) == 0
    for name in ("adapter/adapter_model.safetensors", "model/model.safetensors"):
        assert file_digest(tmp_path / "killed" / name) == file_digest(tmp_path / "straight" / name)


def test_a_state_of_full_fine_tuning_is_no_state_of_lora(
    base: Path, conversations: Path, tmp_path: Path
) -> None:
    run(base, conversations, tmp_path / "out", lora=None)
    with pytest.raises(InputError, match="saved by another model"):
        run(base, conversations, tmp_path / "out")


def test_rewinds_take_the_small_matrices_back(
    base: Path, conversations: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three bad batches in a row: the run goes back, and ends with finite weights."""
    from fledge.train import step

    calls: list[int] = []

    def sometimes_bad(*arguments: Any) -> str | None:
        calls.append(1)
        return "made up" if len(calls) in (8, 9, 10) else None

    monkeypatch.setattr(step, "find_fault", sometimes_bad)
    outcome = run(base, conversations, tmp_path / "out", rewind_every=4)
    assert outcome.counts["rewinds"] == 1
    assert all(
        t.isfinite().all() for t in lora_state(load_adapted(base, tmp_path / "out")[0]).values()
    )


@pytest.mark.parametrize("kind", ["lora", "dora", "nf4"])
def test_new_tokens_learn_by_rows_of_their_own(tmp_path: Path, kind: str) -> None:
    """A base without turns: with its rows frozen at their mean it could never write <|im_end|>."""
    base = plain_base(tmp_path / "base")
    model, generator = load_model(base), torch.Generator().manual_seed(7)
    with torch.no_grad():  # a base that speaks, if nonsense: what is frozen can be built upon
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.15)
    save_model(model, base)
    (tmp_path / "c.jsonl").write_text('{"instruction": "who?", "output": "it is I."}\n' * 8)
    changes = {**SMALL, **KINDS[kind], "held_out": 0.25}
    changes["lora"] = {**changes["lora"], "rank": 16, "alpha": 32}
    outcome = run(base, tmp_path / "c.jsonl", tmp_path / "out", **{**changes, "steps": 80})
    assert outcome.counts["new_tokens"] == 6
    assert outcome.figures["sft.loss"] < 0.3
    stored = load_file(tmp_path / "out" / "adapter" / "adapter_model.safetensors")
    old, config = (
        Tokenizer.load(base),
        json.loads((tmp_path / "out" / "adapter" / "adapter_config.json").read_text()),
    )
    assert config["trainable_token_indices"] == list(range(old.vocab_size, old.vocab_size + 6))
    rows = stored["base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta"]
    merged = load_model(tmp_path / "out")
    assert torch.equal(merged.embed_tokens.weight[-6:], rows)
    assert torch.equal(merged.embed_tokens.weight[:-6], load_model(base).embed_tokens.weight)
    distinct = {tuple(row.tolist()) for row in rows}
    assert len(distinct) == 3  # begin and end of turn, and the four that nobody used
    adapted, _ = load_adapted(base, tmp_path / "out")
    assert adapted.config.vocab_size == merged.config.vocab_size == old.vocab_size + 6
    with torch.no_grad():
        assert (merged(ids(merged)) - adapted(ids(merged))).abs().max() <= 2e-5
    tokenizer = Tokenizer.load(tmp_path / "out" / "adapter")
    prompt = tokenizer.encode_chat(
        [{"role": "user", "content": "who?"}], add_generation_prompt=True
    )
    answer = list(prompt)
    with torch.no_grad():
        while len(answer) < len(prompt) + 30 and answer[-1] not in merged.config.eos_ids:
            answer.append(int(merged(torch.tensor([answer]))[0, -1].argmax()))
    assert tokenizer.decode(answer[len(prompt) :], specials=True) == "it is I.<|im_end|>"


def test_turns_that_a_pretrained_base_never_met_learn_too(
    base: Path, conversations: Path, tmp_path: Path
) -> None:
    """Its tokenizer has their tokens, and its manifest says that it read no conversation."""
    fresh = write_pico_model(tmp_path / "run", stage="pretrain")
    tokenizer = Tokenizer.load(fresh / "model")
    turns = sorted((tokenizer.im_start_id, tokenizer.im_end_id))

    def learnt(source: Path, name: str, **changes: Any) -> list[int]:
        run(source, conversations, tmp_path / name, steps=2, **changes)
        new = load_model(tmp_path / name).embed_tokens.weight
        changed = (new != load_model(source).embed_tokens.weight).any(1)
        return [int(token) for token in changed.nonzero().flatten()]

    assert learnt(fresh, "fresh") == turns
    assert learnt(fresh, "never", learn_turns=False) == []
    assert learnt(base, "chatted") == []
    assert learnt(base, "asked", learn_turns=True) == turns


def test_quantizing_without_lora_and_unknown_keys_are_refused() -> None:
    with pytest.raises(InputError, match="quantize_base = 'nf4' is for lora"):
        parse_config(SftConfig, {"quantize_base": "nf4"}, "fledge sft")
    with pytest.raises(InputError, match=r"unknown key 'lora\.rnak'; did you mean 'rank'"):
        parse_config(SftConfig, {"lora": {"rnak": 3}}, "fledge sft")
    assert SftConfig(lora=LoraConfig(rank=3)).model_dump()["lora"]["rank"] == 3


def test_a_target_the_model_lacks_is_refused(
    base: Path, conversations: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"'q_prj' is not in the model; did you mean 'q_proj'"):
        run(base, conversations, tmp_path / "out", lora={"targets": ["q_prj"]})


def test_small_matrices_have_adamw_whatever_the_optimizer() -> None:
    for optimizer, kind in (("muon", "AdamW"), ("adamw", "AdamW"), ("lion", "Lion")):
        config = Adapted(lora=LoraConfig(rank=2, dora=True), optimizer=optimizer)
        model = tiny_decoder()
        adapt_model(model, config, [3, 30])
        groups = group_weights(model)
        assert [len(group) for group in groups] == [0, 2 * 14, 1, 1, 14]
        assert trained_count(model) == sum(w.numel() for group in groups for w in group)
        rates = stage_rates(config, RATES, 256)
        [built] = build_optimizers(model, config, matrix_rate=rates[0], other_rate=rates[1])
        assert type(built).__name__ == kind
        assert [g["name"] for g in built.param_groups] == [
            *("adapters", "embedding", "output", "vectors")
        ]
        assert built.param_groups[0]["peak"] == rates[0]
        assert built.param_groups[0]["weight_decay"] == 0
    full = Adapted()
    assert stage_rates(full, RATES, 256) == RATES["muon"]
    assert stage_rates(Adapted(lora=LoraConfig(), learning_rate=0.5), RATES, 256)[0] == 0.5
    wide = stage_rates(Adapted(lora=LoraConfig()), RATES, 1024)
    narrow = stage_rates(Adapted(lora=LoraConfig()), RATES, 256)
    assert wide == pytest.approx([rate / 2 for rate in narrow])


def test_gradients_of_a_and_b_are_the_closed_form() -> None:
    """With W' = W + s B A: dL/dB = s G A', dL/dA = s B' G, G the gradient of W' itself."""
    config = Adapted(lora=LoraConfig(rank=3, alpha=6), precision="fp32", batch_rows=3)
    model = tiny_decoder().train()
    adapt_model(model, config)
    shake_lora(model)
    tokens = some_ids()
    batch = Batch(
        tokens[:, :-1], tokens[:, 1:], torch.zeros(3, 11, dtype=torch.long), torch.ones(3, 11)
    )
    cross_entropy()(model, batch).backward()  # type: ignore[no-untyped-call]
    layers = lora_layers(model)
    grads = {name: (layer.lora_A.grad, layer.lora_B.grad) for name, layer in layers.items()}
    factors = {
        name: (layer.lora_A.detach(), layer.lora_B.detach()) for name, layer in layers.items()
    }
    assert all(weight.grad is None for weight in model.parameters() if not weight.requires_grad)
    merge_lora(model)
    cross_entropy()(model, batch).backward()  # type: ignore[no-untyped-call]
    for name, (for_a, for_b) in grads.items():
        whole = model.get_parameter(f"{name}.weight").grad
        a, b = factors[name]
        assert whole is not None
        torch.testing.assert_close(for_b, 2 * whole @ a.T, atol=2e-5, rtol=1e-3)
        torch.testing.assert_close(for_a, 2 * b.T @ whole, atol=2e-5, rtol=1e-3)


@pytest.mark.slow
def test_at_full_rank_it_comes_near_full_fine_tuning(
    base: Path, conversations: Path, tmp_path: Path
) -> None:
    """Same batches: rank 1 stays far behind, full rank (64 of 64) ends beside it."""
    changes: dict[str, Any] = {"steps": 120, "optimizer": "adamw", "learning_rate": 0.008}
    low = run(base, conversations, tmp_path / "low", lora={"rank": 1, "alpha": 2}, **changes)
    high = run(base, conversations, tmp_path / "high", lora={"rank": 64, "alpha": 64}, **changes)
    changes["learning_rate"] = 0.002
    full = run(base, conversations, tmp_path / "full", lora=None, **changes)
    losses = [outcome.figures["sft.loss"] for outcome in (low, high, full)]
    assert losses[0] > losses[2] + 1
    assert abs(losses[1] - losses[2]) < 0.2 * (losses[0] - losses[2])


def test_dropout_is_for_training_only(base: Path, conversations: Path, tmp_path: Path) -> None:
    """Measured twice the trained model has one loss, and the last point of the curve is that."""
    outcome = run(base, conversations, tmp_path / "out", **KINDS["dropout"])
    curve = (tmp_path / "out" / "validation.jsonl").read_text().splitlines()
    assert outcome.figures["sft.loss"] == pytest.approx(json.loads(curve[-1])["loss"], abs=1e-5)


def test_a_base_in_bfloat16_stays_so_and_loses_nothing(
    base: Path, conversations: Path, tmp_path: Path
) -> None:
    half = tmp_path / "half"
    save_model(load_model(base), half, dtype="bfloat16")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (half / name).write_bytes((base / "model" / name).read_bytes())
    whole = tmp_path / "whole"
    save_model(load_model(half), whole, dtype="float32")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (whole / name).write_bytes((half / name).read_bytes())
    for source in ("half", "whole"):
        run(tmp_path / source, conversations, tmp_path / f"from-{source}")
    for name in ("adapter/adapter_model.safetensors", "model/model.safetensors"):
        digests = {file_digest(tmp_path / f"from-{source}" / name) for source in ("half", "whole")}
        assert len(digests) == 1


MEMORY = """
import json, resource, sys
from pathlib import Path
from fledge.core.protocols import Silent
from fledge.tune.config import SftConfig
from fledge.tune.sft import sft
values, base, file, out = sys.argv[1:]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
sft(SftConfig.model_validate(json.loads(values)), Path(base), [Path(file)], Path(out), Silent())
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory as Linux tells it")
def test_peak_memory_is_below_full_fine_tuning(conversations: Path, tmp_path: Path) -> None:
    """A model of 170 MB in small rows: full fine-tuning has gradients and states of that size."""
    folder = write_pico_model(tmp_path / "run", stage="sft") / "model"
    size = Tokenizer.load(folder).vocab_size
    save_model(Decoder(derive(6, size, 96, width=768, heads=12, ffn=2048)).initialize(0), folder)
    peaks = {}
    for kind, changes in {"full": {"lora": None}, "lora": {}, "nf4": KINDS["nf4"]}.items():
        fields = {"steps": 2, "batch_rows": 1, "threads": 1, "optimizer": "adamw", "held_out": 0}
        values = json.dumps({**SMALL, **fields, "max_rewinds": 0, **changes})
        arguments = [values, str(folder), str(conversations), str(tmp_path / kind)]
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, *arguments], capture_output=True, text=True, check=True
        )
        peaks[kind] = int(done.stdout.split()[-1])
    assert peaks["lora"] < 0.7 * peaks["full"], peaks
    assert peaks["nf4"] < 0.7 * peaks["full"], peaks
