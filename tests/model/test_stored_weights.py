"""Weights in files: sharded, tied, of other types, broken; and a disk that fills."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from fledge.core.errors import InputError
from fledge.model.checkpoint import load_config, load_model, save_model
from fledge.model.config import ModelConfig
from fledge.model.decoder import Decoder
from fledge.model.lora import add_lora, merge_lora
from fledge.model.lora_config import LoraConfig

INDEX = "model.safetensors.index.json"
IDS = torch.arange(20)[None]


def config_of(**changes: Any) -> ModelConfig:
    shape: dict[str, Any] = {
        "vocab_size": 50,
        "width": 32,
        "depth": 2,
        "heads": 2,
        "kv_heads": 1,
        "head_size": 16,
        "ffn": 48,
        "context": 32,
    }
    return ModelConfig.model_validate({**shape, **changes})


def filled(seed: int = 0, **changes: Any) -> Decoder:
    """A decoder whose logits depend on every weight."""
    model = Decoder(config_of(**changes)).initialize(seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator) * 0.2)
    return model.eval()


def logits(folder: Path, **options: Any) -> Tensor:
    with torch.no_grad():
        found: Tensor = load_model(folder, **options)(IDS)
    return found


def rewrite(file: Path, change: Any) -> None:
    """Pass the tensors of a file through ``change``."""
    tensors = {name: tensor.clone() for name, tensor in load_file(file).items()}
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_shards_hold_the_same_model(tmp_path: Path) -> None:
    model = filled()
    save_model(model, tmp_path / "one")
    save_model(model, tmp_path / "many", max_shard_bytes=10_000)
    names = sorted(path.name for path in (tmp_path / "many").glob("*.safetensors"))
    assert len(names) > 3
    assert names[0] == f"model-00001-of-{len(names):05d}.safetensors"
    for name in names:
        size = sum(t.numel() * 4 for t in load_file(tmp_path / "many" / name).values())
        assert 0 < size <= 10_000
    index = json.loads((tmp_path / "many" / INDEX).read_text())
    assert index["metadata"]["total_size"] == model.config.parameters * 4
    assert set(index["weight_map"].values()) == set(names)
    assert torch.equal(logits(tmp_path / "one"), logits(tmp_path / "many"))
    peer = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "many").eval()
    with torch.no_grad():
        assert (peer(IDS).logits - logits(tmp_path / "many")).abs().max() <= 1e-4


def test_shards_of_transformers_are_read(tmp_path: Path) -> None:
    save_model(filled(), tmp_path / "ours")
    peer = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    peer.save_pretrained(tmp_path / "theirs", max_shard_size="12KB")
    assert (tmp_path / "theirs" / INDEX).is_file()
    assert torch.equal(logits(tmp_path / "ours"), logits(tmp_path / "theirs"))


def test_a_folder_is_cut_anew_without_leftovers(tmp_path: Path) -> None:
    for limit, seed in ((None, 1), (10_000, 2), (30_000, 3), (None, 4)):
        model = filled(seed)
        save_model(model, tmp_path, max_shard_bytes=limit)
        assert torch.equal(logits(tmp_path), model(IDS).detach())
        files = {path.name for path in tmp_path.iterdir()}
        shards = len([name for name in files if name.endswith(".safetensors")])
        assert (INDEX in files) == (shards > 1) == (limit is not None)
        assert len(files) == shards + 2 + (shards > 1)
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    save_model(filled(4), tmp_path)
    assert first == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


@pytest.mark.parametrize("tied", [True, False])
def test_a_tied_matrix_is_found_under_either_name(tmp_path: Path, tied: bool) -> None:
    save_model(filled(tied=True), tmp_path)
    expected, weights = logits(tmp_path), tmp_path / "model.safetensors"
    embedding = "model.embed_tokens.weight"
    rewrite(weights, lambda t: t.update({"lm_head.weight": t[embedding].clone()}))
    edit(tmp_path / "config.json", tie_word_embeddings=tied)
    assert torch.equal(logits(tmp_path), expected)  # stored twice
    rewrite(weights, lambda t: t.pop(embedding))
    if tied:
        assert torch.equal(logits(tmp_path), expected)
    else:
        with pytest.raises(InputError, match=f"{embedding} is missing"):
            load_model(tmp_path)


def test_tied_matrices_that_differ_are_refused(tmp_path: Path) -> None:
    save_model(filled(tied=False), tmp_path)
    edit(tmp_path / "config.json", tie_word_embeddings=True)
    with pytest.raises(InputError, match=r"lm_head.weight differs .*tie_word_embeddings"):
        load_model(tmp_path)


def test_auto_keeps_the_stored_types(tmp_path: Path) -> None:
    model = filled()
    save_model(model, tmp_path / "half", dtype="bfloat16")
    save_model(model, tmp_path / "full")
    half, full = (load_model(tmp_path / name, dtype="auto") for name in ("half", "full"))
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16} == {half.compute_dtype}
    assert {p.dtype for p in full.parameters()} == {torch.float32} == {full.compute_dtype}
    assert torch.equal(
        logits(tmp_path / "half", dtype="auto"), logits(tmp_path / "half", dtype="bfloat16")
    )
    assert half.cos.dtype == torch.float32  # positions keep their precision
    rewrite(
        tmp_path / "half" / "model.safetensors",
        lambda t: t.update({"model.norm.weight": t["model.norm.weight"].float()}),
    )
    mixed = load_model(tmp_path / "half", dtype="auto")
    assert mixed.norm.weight.dtype == torch.float32
    assert mixed.compute_dtype == torch.bfloat16


def test_weights_do_not_change_with_the_file(tmp_path: Path) -> None:
    save_model(filled(1), tmp_path)
    model = load_model(tmp_path)
    before = [weight.clone() for weight in model.parameters()]
    with (tmp_path / "model.safetensors").open("r+b") as file:
        file.seek(4096)
        file.write(b"\1" * 8192)
    assert all(map(torch.equal, before, model.parameters()))
    assert all(weight.requires_grad for weight in model.parameters())


def drop(name: str) -> Any:
    return lambda tensors: tensors.pop(name)


def put(name: str, tensor: Tensor) -> Any:
    return lambda tensors: tensors.update({name: tensor})


Q = "model.layers.1.self_attn.q_proj.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop(Q), rf"{Q} is missing.*\(32, 32\)"),
        (
            put(Q, torch.zeros(32, 31)),
            rf"model.safetensors: tensor {Q} has shape \(32, 31\).*\(32, 32\)",
        ),
        (
            put(Q, torch.zeros(32, 32, dtype=torch.int8)),
            rf"model.safetensors: tensor {Q} has type I8.*not quantized",
        ),
        (put(Q, torch.zeros(32, 32).to(torch.float8_e4m3fn)), rf"{Q} has type F8_E4M3"),
        (put("model.extra", torch.zeros(1)), "model.safetensors: tensor model.extra has no place"),
        (
            put(f"{Q}_scale_inv", torch.zeros(1)),
            "q_proj.weight_scale_inv has no place.*not quantized",
        ),
    ],
)
@pytest.mark.parametrize("sharded", [False, True])
def test_tensors_that_do_not_fit_are_named(
    tmp_path: Path, change: Any, message: str, sharded: bool
) -> None:
    save_model(filled(), tmp_path, max_shard_bytes=10**6 if sharded else None)
    rewrite(tmp_path / "model.safetensors", change)
    if sharded:
        only = tmp_path / "model-00001-of-00001.safetensors"
        (tmp_path / "model.safetensors").rename(only)
        names = dict.fromkeys(load_file(only), only.name)
        (tmp_path / INDEX).write_text(json.dumps({"weight_map": names}))
        message = message.replace("model.safetensors:", f"{only.name}:")
    with pytest.raises(InputError, match=message):
        load_model(tmp_path)


def test_buffers_of_old_writers_are_passed_over(tmp_path: Path) -> None:
    save_model(filled(), tmp_path)
    expected = logits(tmp_path)
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    rewrite(tmp_path / "model.safetensors", put(name, torch.zeros(8)))
    assert torch.equal(logits(tmp_path), expected)


def test_broken_shards_and_indices_are_named(tmp_path: Path) -> None:
    save_model(filled(), tmp_path, max_shard_bytes=10_000)
    index = tmp_path / INDEX
    placed = json.loads(index.read_text())["weight_map"]
    names = sorted(set(placed.values()))
    second = tmp_path / names[1]
    whole = second.read_bytes()
    for length in (0, 5, 100, len(whole) - 1):
        second.write_bytes(whole[:length])
        with pytest.raises(InputError, match=rf"{names[1]} cannot be read"):
            load_model(tmp_path)
    second.unlink()
    with pytest.raises(InputError, match=rf"{names[1]} is missing.*index"):
        load_model(tmp_path)
    second.write_bytes(whole)
    tensor = next(name for name, file in placed.items() if file == names[0])
    for weight_map, message in (
        ({**placed, "model.ghost": names[0]}, f"model.ghost is in {names[0]}, which has no such"),
        ({**placed, tensor: names[1]}, f"{tensor} is in {names[1]}, which has no such"),
        ({**placed, tensor: "../other.safetensors"}, "no file of the folder"),
        ({**placed, tensor: 3}, "no file of the folder"),
        ({}, "no weight_map"),
        (["x"], "no weight_map"),
    ):
        index.write_text(json.dumps({"weight_map": weight_map}))
        with pytest.raises(InputError, match=message):
            load_model(tmp_path)
    index.write_text("[]")
    with pytest.raises(InputError, match=rf"{INDEX} has no weight_map"):
        load_model(tmp_path)


def test_pickled_weights_are_not_opened(tmp_path: Path) -> None:
    save_model(filled(), tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"no model\.safetensors.*convert it to safetensors"):
        load_model(tmp_path)


def test_end_tokens_of_the_generation_config_count(tmp_path: Path) -> None:
    save_model(filled(eos_ids=(3,)), tmp_path)
    path = tmp_path / "generation_config.json"
    edit(path, eos_token_id=[4, 5])
    assert load_config(tmp_path).eos_ids == (4, 5)
    edit(path, eos_token_id=None)
    assert load_config(tmp_path).eos_ids == (3,)
    edit(path, eos_token_id=[True])
    with pytest.raises(InputError, match=r"generation_config\.json: eos_token_id"):
        load_config(tmp_path)
    path.unlink()
    assert load_config(tmp_path).eos_ids == (3,)


OWN = {"logit_softcap": 5.0, "gated": False, "activation": "relu2", "output_bias": True}


def test_our_own_layout_holds_what_no_other_can(tmp_path: Path) -> None:
    model = filled(**OWN)
    with pytest.raises(InputError, match=r"gated = false.*logit_softcap"):
        save_model(model, tmp_path / "exchanged", exchange=True)
    assert not (tmp_path / "exchanged").exists()
    save_model(model, tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    assert (values["architectures"], values["model_type"]) == (["FledgeForCausalLM"], "fledge")
    assert load_config(tmp_path) == model.config
    with torch.no_grad():
        assert torch.equal(logits(tmp_path), model(IDS))


def test_a_model_with_lora_is_saved_after_merging(tmp_path: Path) -> None:
    model = filled()
    expected = model(IDS).detach()
    add_lora(model, LoraConfig(rank=2))
    with pytest.raises(InputError, match="merge LoRA"):
        save_model(model, tmp_path)
    assert not tmp_path.joinpath("config.json").exists()
    merge_lora(model)
    save_model(model, tmp_path)
    assert (logits(tmp_path) - expected).abs().max() <= 1e-5


def test_bad_limits_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="max_shard_bytes = 0"):
        save_model(filled(), tmp_path, max_shard_bytes=0)


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import torch
from fledge.core.errors import FledgeError
from fledge.model.checkpoint import load_model, save_model
folder, limit, shard = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
model = load_model(folder).requires_grad_(False)
model.norm.weight.fill_(7.0)
model.config = model.config.model_copy(update={"eos_ids": (9,)})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    save_model(model, folder, max_shard_bytes=int(shard) if shard else None)
except FledgeError as error:
    print(error)
    sys.exit(error.exit_code)
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="needs a limit on file sizes")
@pytest.mark.parametrize("shard", ["", "20000"])
def test_a_full_disk_leaves_the_former_checkpoint(tmp_path: Path, shard: str) -> None:
    """No file may grow beyond a limit: the error of a full disk, without one."""
    save_model(filled(eos_ids=(3,)), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    limit = "8000"
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path), limit, shard],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "cannot be written" in done.stdout
    assert "free disk space" in done.stdout
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}
