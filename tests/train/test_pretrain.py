"""Pretraining as a stage: it learns, and says what it read and where it began."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from fledge.core.errors import InputError
from fledge.data.config import TokensConfig
from fledge.data.shards import DOCUMENTS, write_rows
from fledge.data.tokens import write_tokens
from fledge.model.checkpoint import load_model
from fledge.train.shards import TokenShards
from pico_runs import rows, run
from pico_shards import VOCAB, write_shards, write_tokenizer


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
    by_default = run(folders, tmp_path / "default", steps=None)  # 20 a parameter would be more
    assert by_default.counts["tokens"] == 4 * TokenShards(folders[0], "train").tokens
    by_tokens = run(folders, tmp_path / "tokens", steps=None, tokens=1000)
    assert by_tokens.counts["steps"] == math.ceil(1000 / (8 * 16))


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
        vocab_size, endoftext_id, end_id = 257, 256, 256

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
