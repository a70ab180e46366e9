"""``fledge sft`` with LoRA and ``fledge lora``, as a user calls them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from fledge.cli.main import fledge as doors
from fledge.core.files import file_digest
from pico_model import write_pico_model


def call(*words: str) -> str:
    done = CliRunner().invoke(doors, list(words), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, and what ``fledge sft`` with LoRA makes of it."""
    folder = tmp_path_factory.mktemp("lora")
    write_pico_model(folder, stage="pretrain")
    rows = ({"instruction": f"{i} + 1?", "output": f"{i + 1}."} for i in range(20))
    (folder / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sets = ("lora.rank=4", "lora.alpha=8", "steps=6", "batch_rows=2", "compile=false")
    words = [part for one in sets for part in ("--set", one)]
    files = ("--model", str(folder / "pretrain"), "--conversations", str(folder / "c.jsonl"))
    [line] = call("sft", *files, "--out", str(folder / "sft"), *words, "--json").splitlines()
    assert json.loads(line)["counts"]["trainable"] > 0
    return folder


def test_the_stage_leaves_an_adapter_and_a_model(place: Path) -> None:
    manifest = json.loads((place / "sft" / "manifest.json").read_text())
    assert manifest["config"]["lora"]["rank"] == 4
    assert {"adapter/adapter_model.safetensors", "model/model.safetensors"} <= set(
        manifest["outputs"]
    )
    config = json.loads((place / "sft" / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(place / "pretrain" / "model")


def test_merge_gives_the_stages_model(place: Path, tmp_path: Path) -> None:
    files = ("--model", str(place / "pretrain"), "--adapter", str(place / "sft"))
    [line] = call("lora", "merge", *files, "--out", str(tmp_path / "m"), "--json").splitlines()
    assert json.loads(line) == {
        "out": str(tmp_path / "m"),
        "base": str(place / "pretrain" / "model"),
        "adapter": str(place / "sft" / "adapter"),
        "quantize_base": None,
        "rank": 4,
        "layers": 14,
        "parameters": json.loads(line)["parameters"],
        "type": "float32",
    }
    name = "model.safetensors"
    assert file_digest(tmp_path / "m" / name) == file_digest(place / "sft" / "model" / name)
    said = call("lora", "merge", *files, "--out", str(tmp_path / "m"), "--force")
    assert "14 layers of rank 4 merged" in said


def test_show(place: Path) -> None:
    [line] = call("lora", "show", str(place / "sft"), "--json").splitlines()
    found = json.loads(line)
    assert (found["rank"], found["scale"], len(found["layers"])) == (4, 2, 14)
    assert all(row["change"] > 0 for row in found["layers"])
    said = call("lora", "show", str(place / "sft"), "--model", str(place / "pretrain"))
    assert "rank           4, scale 2" in said
    assert sum("%" in row for row in said.splitlines()) == 14


def test_extract(place: Path, tmp_path: Path) -> None:
    models = ("--model", str(place / "pretrain"), "--tuned", str(place / "sft" / "model"))
    words = ("--rank", "4", "--out", str(tmp_path / "a"))
    [line] = call("lora", "extract", *models, *words, "--json").splitlines()
    found = json.loads(line)
    assert min(found["kept"].values()) > 0.999
    assert found["left_out"] == ["embed_tokens.weight"]  # the rows of turns, new to the base
    said = call("lora", "extract", *models, "--rank", "1", "--out", str(tmp_path / "b"))
    assert "of the change kept" in said


def test_dora_of_a_quantized_base_is_said(place: Path, tmp_path: Path) -> None:
    files = ("--model", str(place / "pretrain"), "--conversations", str(place / "c.jsonl"))
    sets = (
        *("lora.rank=2", "lora.dora=true", "quantize_base=nf4"),
        *("steps=2", "batch_rows=2", "compile=false"),
    )
    words = [part for one in sets for part in ("--set", one)]
    call("sft", *files, "--out", str(tmp_path / "q"), *words)
    said = call("lora", "show", str(tmp_path / "q"))
    assert "in nf4" in said
    assert ", dora" in said
    merge = ("--model", str(place / "pretrain"), "--adapter", str(tmp_path / "q"))
    assert "quantized to nf4" in call("lora", "merge", *merge, "--out", str(tmp_path / "m"))
