"""Where pretraining begins: from a checkpoint only when its numbers mean the same text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from fledge.core.errors import InputError
from fledge.core.files import file_digest
from fledge.core.protocols import Silent
from fledge.model.checkpoint import load_config, load_model, save_model
from fledge.model.config import ModelConfig
from fledge.model.decoder import Decoder
from fledge.train.config import PretrainConfig
from fledge.train.pretrain import dry_run, pretrain
from fledge.train.shards import TokenShards
from fledge.train.start import alphabet, starting_model, starting_shape
from pico_shards import ENDOFTEXT, VOCAB, pattern_shards

SHAPE = ModelConfig(
    vocab_size=VOCAB,
    width=32,
    depth=1,
    heads=1,
    kv_heads=1,
    ffn=48,
    context=32,
    bos_id=ENDOFTEXT,
    eos_ids=(ENDOFTEXT,),
)


def write_alphabet(folder: Path, pieces: list[str], **model: Any) -> Path:
    """A tokenizer.json of which only the vocabulary matters here; its last piece is special."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {piece: i for i, piece in enumerate(pieces[:-1])}
    added = [{"id": len(pieces) - 1, "content": pieces[-1], "special": True}]
    described = {"model": {"type": "BPE", "vocab": vocabulary, **model}, "added_tokens": added}
    (folder / "tokenizer.json").write_text(json.dumps(described))
    return folder


PIECES = [f"piece {i}" for i in range(VOCAB)]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Shards, their tokenizer and a checkpoint that has it too."""
    pattern_shards(tmp_path / "tokens")
    write_alphabet(tmp_path / "tokenizer", PIECES)
    write_alphabet(tmp_path / "base", PIECES)
    save_model(Decoder(SHAPE).initialize(0), tmp_path / "base")
    return tmp_path


def shape_of(place: Path, tokenizer: str = "tokenizer", **values: Any) -> ModelConfig:
    config = PretrainConfig.model_validate({"init": str(place / "base"), **values})
    return starting_shape(config, TokenShards(place / "tokens", "train"), place / tokenizer)


def test_one_alphabet_is_accepted_whatever_its_merges(place: Path) -> None:
    assert shape_of(place).vocab_size == VOCAB
    write_alphabet(place / "base", PIECES, merges=["a b"])
    assert shape_of(place).width == 32


def test_a_new_model_stops_where_its_documents_end(place: Path) -> None:
    path = place / "tokens" / "index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "end_id": 9}))
    shape = shape_of(place, init=None)
    assert (shape.bos_id, shape.eos_ids) == (ENDOFTEXT, (9,))


def test_one_token_that_means_something_else_is_refused(place: Path) -> None:
    other = [*PIECES[:7], "other", *PIECES[8:]]
    write_alphabet(place / "base", other)
    with pytest.raises(InputError, match=r"'other' by token 7, .*'piece 7' \(1 of 64 tokens"):
        shape_of(place)
    config = PretrainConfig(init=str(place / "base"))
    with pytest.raises(InputError, match="means 'other' by token 7"):
        pretrain(config, place / "tokens", place / "tokenizer", place / "out", Silent())
    assert not (place / "out").exists()


def test_a_checkpoint_may_know_more_tokens_than_the_shards_use(place: Path) -> None:
    padded = SHAPE.model_copy(update={"vocab_size": VOCAB + 8})
    save_model(Decoder(padded).initialize(0), place / "base")
    assert shape_of(place).vocab_size == VOCAB + 8


def test_shards_of_another_tokenizer_are_refused(place: Path) -> None:
    write_alphabet(place / "short", PIECES[:-1])
    with pytest.raises(InputError, match=r"written with 64 tokens, .*short.* has 63"):
        shape_of(place, "short")
    with pytest.raises(InputError, match=r"written with 64 tokens"):
        dry_run(PretrainConfig(), place / "tokens", place / "short")


def test_shards_of_another_tokenizer_of_the_same_size_are_refused(place: Path) -> None:
    """It would train, on noise, and bear the wrong tokenizer."""
    path = place / "tokens" / "index.json"
    digest = file_digest(place / "tokenizer" / "tokenizer.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "tokenizer": digest}))
    assert shape_of(place).vocab_size == VOCAB
    write_alphabet(place / "other", PIECES[::-1])
    with pytest.raises(InputError, match=r"another tokenizer than .*other.*, of as many tokens"):
        dry_run(PretrainConfig(), place / "tokens", place / "other")


def test_without_a_tokenizer_the_end_of_text_must_agree(place: Path) -> None:
    (place / "base" / "tokenizer.json").unlink()
    assert shape_of(place).vocab_size == VOCAB
    foreign = SHAPE.model_copy(update={"bos_id": 1, "eos_ids": (2,)})
    save_model(Decoder(foreign).initialize(0), place / "base")
    with pytest.raises(InputError, match=r"begins documents with token 1 .* separates them by 0"):
        shape_of(place)


@pytest.mark.parametrize("broken", ["[]", '{"model": 3}', '{"added_tokens": [{"id": "x"}]}', "{"])
def test_a_broken_tokenizer_is_named(place: Path, broken: str) -> None:
    (place / "base" / "tokenizer.json").write_text(broken)
    with pytest.raises(InputError, match=r"base.*tokenizer\.json"):
        shape_of(place)


def test_unigram_vocabularies_are_read_too(tmp_path: Path) -> None:
    described = {"model": {"type": "Unigram", "vocab": [["a", -1.5], ["b", -2.0]]}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(described))
    assert alphabet(tmp_path) == {0: "a", 1: "b"}
    assert alphabet(tmp_path / "nowhere") == {}


def continued(place: Path, **values: Any) -> tuple[Path, list[str]]:
    lines: list[str] = []

    class Listening(Silent):
        def say(self, line: str) -> None:
            lines.append(line)

    config = PretrainConfig.model_validate(
        {"init": str(place / "base"), "steps": 2, "batch_rows": 2, "compile": False, **values}
    )
    pretrain(config, place / "tokens", place / "tokenizer", place / "out", Listening())
    return place / "out", lines


def test_in_shorter_rows_a_model_keeps_its_context(place: Path) -> None:
    out, lines = continued(place, context=8)
    assert load_config(out).context == 32
    assert [line for line in lines if "rows of 8 tokens; the model keeps its 32" in line]


def test_in_longer_rows_a_model_reaches_further(place: Path) -> None:
    out, lines = continued(place, context=64)
    assert load_config(out).context == 64
    assert [line for line in lines if "trained on 32 tokens" in line and "up to 64" in line]
    config = PretrainConfig(init=str(place / "base"), context=64)
    model = starting_model(config, shape_of(place, context=64), Silent())
    ids = torch.arange(1, 33)[None]
    with torch.no_grad():  # where it could look before it sees the same
        torch.testing.assert_close(model(ids), load_model(place / "base")(ids))


def test_the_plan_is_shown_and_kept(place: Path) -> None:
    out, lines = continued(place, context=8)
    record = json.loads((out / "plan.json").read_text())
    assert record["steps"] == {"value": 2, "rule": "given"}
    assert record["width"] == {"value": 32, "rule": "of the checkpoint"}
    for name in record:
        assert [line for line in lines if line.split()[:1] == [name]]


def test_the_average_is_validated_and_saved(place: Path) -> None:
    """What is saved lags behind the last weights of the same run, and is what was measured."""
    flat = {"schedule": "constant", "steps": 6}
    out, _ = continued(place, ema=0.9, **flat)
    slow = load_model(out)
    (place / "out").rename(place / "averaged")
    out, _ = continued(place, **flat)
    fast, start = load_model(out), load_model(place / "base")

    def moved(model: Decoder) -> float:
        pairs = zip(model.parameters(), start.parameters(), strict=True)
        return sum(float((a - b).detach().square().sum()) for a, b in pairs)

    assert 0 < moved(slow) < 0.8 * moved(fast)
    curve = [
        json.loads(line)
        for line in (place / "averaged" / "validation.jsonl").read_text().splitlines()
    ]
    plain = [
        json.loads(line) for line in (place / "out" / "validation.jsonl").read_text().splitlines()
    ]
    assert curve[-1]["bits_per_byte"] != plain[-1]["bits_per_byte"]
