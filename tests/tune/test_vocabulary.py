"""A base model that knows no turns gets them; one that does stays as it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer as Model
from tokenizers import decoders, models, normalizers

from fledge.core.errors import InputError
from fledge.core.protocols import Silent
from fledge.model.checkpoint import load_model, save_model
from fledge.model.config import derive
from fledge.model.decoder import Decoder
from fledge.model.token_rows import grow_vocabulary
from fledge.tokenizer.template import IM_END
from fledge.tokenizer.tokenizer import Tokenizer
from fledge.tune.config import SftConfig
from fledge.tune.sft import sft
from fledge.tune.vocabulary import teach_turns
from pico_model import write_pico_model


def plain_base(folder: Path) -> Path:
    """A SentencePiece-like base model of characters: no turns, no <|endoftext|>, no template."""
    letters = ["<unk>", "<s>", "</s>", "\u2581", "\n", *"abcdefghijklmnopqrstuvwxyz.?,019AI"]
    vocabulary = {letter: number for number, letter in enumerate(letters)}
    model = Model(models.BPE(vocabulary, [], unk_token="<unk>", fuse_unk=True))
    model.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    model.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.Fuse()])
    model.add_special_tokens(["<unk>", "<s>", "</s>"])
    tokenizer = Tokenizer(model, {"bos_token": "<s>", "eos_token": "</s>"})
    config = derive(2, tokenizer.vocab_size, 96, width=64, heads=2, kv_heads=1)
    decoder = Decoder(config.model_copy(update={"bos_id": 1, "eos_ids": (2,)})).initialize(3)
    save_model(decoder, folder)
    model.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"bos_token": "<s>", "eos_token": "</s>"}')
    return folder


@pytest.mark.parametrize("tied", [True, False])
def test_new_rows_are_the_mean_and_old_logits_stay(tied: bool) -> None:
    config = derive(2, 50, 16, width=64, heads=2, tied=tied)
    model = Decoder(config).initialize(0)
    ids = torch.randint(0, 50, (2, 9))
    with torch.no_grad():
        before = model(ids)
        grow_vocabulary(model, 56)
        after = model(ids)
    assert model.config.vocab_size == model.embed_tokens.num_embeddings == 56
    assert all(weight.requires_grad for weight in model.parameters())
    torch.testing.assert_close(after[..., :50], before)
    mean = before.mean(-1, keepdim=True).expand(-1, -1, 6)
    torch.testing.assert_close(after[..., 50:], mean, atol=1e-5, rtol=1e-4)
    weights = model.state_dict()
    grow_vocabulary(model, 50)
    assert model.state_dict().keys() == weights.keys()
    assert model.config.vocab_size == 56


def test_a_model_that_knows_turns_stays_as_it_is(tmp_path: Path) -> None:
    stage = write_pico_model(tmp_path)
    model, tokenizer = load_model(stage), Tokenizer.load(stage / "model")
    speaker = teach_turns(model, tokenizer, Silent())
    assert speaker.model is model
    assert speaker.tokenizer is tokenizer
    small = Decoder(derive(1, tokenizer.vocab_size - 1, 16))
    with pytest.raises(InputError, match=r"tokenizer has \d+ tokens, the model knows \d+"):
        teach_turns(small, tokenizer, Silent())


def test_a_base_without_turns_learns_them(tmp_path: Path) -> None:
    """Fine-tuned, saved and loaded, it answers and stops; the vocabulary grew by what it lacked."""
    base = plain_base(tmp_path / "base")
    rows = '{"instruction": "who?", "output": "it is I."}\n' * 8
    (tmp_path / "c.jsonl").write_text(rows)
    config = SftConfig.model_validate(
        {
            "steps": 60,
            "batch_rows": 4,
            "compile": False,
            "learning_rate": 0.02,
            "embedding_learning_rate": 0.02,
            "held_out": 0.25,
            "precision": "fp32",
        }
    )
    said: list[str] = []

    class Listening(Silent):
        def say(self, line: str) -> None:
            said.append(line)

    outcome = sft(config, base, [tmp_path / "c.jsonl"], tmp_path / "out", Listening())
    assert any("ChatML is used, with 6 new tokens (<|im_start|>, <|im_end|>" in s for s in said)
    assert outcome.counts["new_tokens"] == 6
    assert outcome.figures["sft.loss"] < 0.2 < outcome.figures["sft.loss_before"]
    model = load_model(tmp_path / "out")
    tokenizer = Tokenizer.load(tmp_path / "out" / "model")
    assert tokenizer.has_template
    assert model.config.vocab_size == tokenizer.vocab_size == Tokenizer.load(base).vocab_size + 6
    assert model.config.eos_ids == (tokenizer.im_end_id, 2)
    assert tokenizer.config["eos_token"] == IM_END
    prompt = tokenizer.encode_chat(
        [{"role": "user", "content": "who?"}], add_generation_prompt=True
    )
    ids = list(prompt)
    with torch.no_grad():
        while len(ids) < len(prompt) + 30 and ids[-1] not in model.config.eos_ids:
            ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    assert tokenizer.decode(ids[len(prompt) :], specials=True) == "it is I.<|im_end|>"
