"""What an adapter says of itself, and the adapter nearest to the difference of two models."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fledge.core.errors import InputError
from fledge.model.adapter_extract import extract_adapter
from fledge.model.adapter_folder import find_adapter, load_adapted, merge_adapter, noted_base
from fledge.model.adapter_report import describe_adapter, product_norm
from fledge.model.checkpoint import load_model, save_model
from fledge.model.lora import add_lora, lora_layers
from fledge.model.lora_checkpoint import save_lora
from fledge.model.lora_config import LoraConfig
from lora_decoder import CONFIGS, ids, shake_lora, tiny_decoder


def write_adapter(folder: Path, config: LoraConfig) -> None:
    model = tiny_decoder()
    save_model(model, folder / "base")
    add_lora(model, config)
    shake_lora(model)
    save_lora(model, folder / "adapter", config, base="some/base")


def test_the_norm_of_a_product_by_hand() -> None:
    a, b = torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0], [2.0], [2.0]])
    assert product_norm(a, b) == pytest.approx(15.0)  # |b| |a| = 3 x 5
    a, b = torch.randn(3, 9), torch.randn(7, 3)
    assert product_norm(a, b) == pytest.approx(float((b @ a).norm()), rel=1e-5)


@pytest.mark.parametrize("config", CONFIGS)
@torch.no_grad()
def test_what_it_adapts(tmp_path: Path, config: LoraConfig) -> None:
    write_adapter(tmp_path, config)
    alone = describe_adapter(tmp_path)
    assert (alone["rank"], alone["alpha"], alone["scale"]) == (
        *(config.rank, config.alpha, config.scale),
    )
    assert (alone["dora"], alone["stabilised"], alone["base"]) == (
        *(config.dora, config.stabilised, "some/base"),
    )
    assert alone["tokens"] == 0
    assert alone["quantize_base"] is None
    assert len(alone["layers"]) == 14
    model, _ = load_adapted(tmp_path / "base", tmp_path / "adapter")
    within = describe_adapter(tmp_path / "adapter", tmp_path / "base")
    rows = {row["name"]: row for row in alone["layers"]}
    for row in within["layers"]:
        layer = lora_layers(model)[row["name"].removeprefix("model.")]
        base = layer.base.weight
        assert row["change"] == pytest.approx(float((layer.merged() - base).norm()), rel=1e-4)
        assert row["relative"] == pytest.approx(row["change"] / float(base.norm()), rel=1e-4)
        bare = rows[row["name"]]
        assert bare["shape"] == list(base.shape)
        product = config.scale * float((layer.lora_B @ layer.lora_A).norm())
        assert bare["change"] == pytest.approx(product, rel=1e-4)
    assert alone["parameters"] == sum(
        row["parameters"] + (row["shape"][0] if config.dora else 0) for row in alone["layers"]
    )


def test_what_is_no_adapter_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no adapter_config\.json"):
        find_adapter(tmp_path)
    (tmp_path / "fledge_adapter.json").write_text('{"quantize_base": "int3"}')
    with pytest.raises(InputError, match="quantize_base = 'int3' is not known"):
        noted_base(tmp_path)


@torch.no_grad()
def test_a_difference_of_low_rank_is_found_whole(tmp_path: Path) -> None:
    """base + rank 3 = tuned: rank 3 gives tuned back, rank 1 is the best there is."""
    write_adapter(tmp_path, CONFIGS[0])
    merge_adapter(tmp_path / "base", tmp_path / "adapter", tmp_path / "tuned")
    found = extract_adapter(tmp_path / "base", tmp_path / "tuned", tmp_path / "three", 3)
    assert min(found["kept"].values()) > 0.9999
    assert found["left_out"] == []
    adapted, config = load_adapted(tmp_path / "base", tmp_path / "three")
    assert (config.rank, config.scale) == (3, 1)
    tuned, base = load_model(tmp_path / "tuned"), load_model(tmp_path / "base")
    assert (adapted(ids()) - tuned(ids())).abs().max() <= 1e-4
    one = extract_adapter(tmp_path / "base", tmp_path / "tuned", tmp_path / "one", 1)
    adapted, _ = load_adapted(tmp_path / "base", tmp_path / "one")
    for name, layer in lora_layers(adapted).items():
        change = tuned.get_parameter(f"{name}.weight") - base.get_parameter(f"{name}.weight")
        first = torch.linalg.svdvals(change)[0] / change.norm()
        assert one["kept"][name] == pytest.approx(float(first) ** 2, rel=1e-4)
        rest = change - (layer.merged() - layer.base.weight)
        assert float(rest.norm() / change.norm()) ** 2 == pytest.approx(
            1 - float(first) ** 2, abs=1e-4
        )


def test_what_an_adapter_cannot_say_is_named(tmp_path: Path) -> None:
    model = tiny_decoder()
    save_model(model, tmp_path / "base")
    with torch.no_grad():
        model.embed_tokens.weight.add_(1)
        model.norm.weight.mul_(2)
    save_model(model, tmp_path / "tuned")
    found = extract_adapter(tmp_path / "base", tmp_path / "tuned", tmp_path / "out", 60)
    assert found["left_out"] == ["embed_tokens.weight", "norm.weight"]
    assert set(found["kept"].values()) == {1.0}
    save_model(tiny_decoder(ffn=40), tmp_path / "other")
    with pytest.raises(InputError, match=r"differ in the shape of layers\.0\.mlp\.gate_proj"):
        extract_adapter(tmp_path / "base", tmp_path / "other", tmp_path / "no", 2)
