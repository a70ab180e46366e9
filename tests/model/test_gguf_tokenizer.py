"""Tokenizers through GGUF and back: the same ids for any text, templates, special tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, trainers

from fledge.core.errors import InputError
from fledge.model.gguf.patterns import PATTERNS, pattern_name, pre_tokenizer_of
from fledge.model.gguf.rebuild import from_vocabulary, rebuild_tokenizer
from fledge.model.gguf.vocabulary import (
    EXACT_KEY,
    PROBES,
    Kind,
    TokenizerFiles,
    first_difference,
    to_vocabulary,
)
from fledge.tokenizer.config import TokenizerConfig
from fledge.tokenizer.tokenizer import Tokenizer
from fledge.tokenizer.train import QWEN2_PATTERN, train_tokenizer
from pico_model import pico_texts

TEXTS = [text for _, text in pico_texts()] + list(PROBES)

TEMPLATE = "{% for m in messages %}<s>{{ m.role }}: {{ m.content }}</s>{% endfor %}"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    train_tokenizer(TokenizerConfig(vocab_size=500), pico_texts, pico_texts, folder)
    return folder


def byte_level(pre: str, **changes: Any) -> tokenizers.Tokenizer:
    """A trained byte-level BPE with the pre-tokenizer of a llama.cpp name."""
    model = tokenizers.Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=480,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    spec = json.loads(model.to_str()) | {"pre_tokenizer": pre_tokenizer_of(pre)}
    model = tokenizers.Tokenizer.from_str(json.dumps(spec))
    model.train_from_iterator(TEXTS, trainer)
    model.decoder = decoders.ByteLevel()
    model.add_special_tokens([AddedToken("<|end|>", special=True)])
    model.add_tokens([AddedToken("<tool>", normalized=False)])
    spec = json.loads(model.to_str())
    spec["model"] |= {"ignore_merges": pre in ("llama-bpe", "tekken")} | changes
    return tokenizers.Tokenizer.from_str(json.dumps(spec))


def sentencepiece(prepend: bool, merges: list[str] | None = None) -> tokenizers.Tokenizer:
    """A BPE over ▁ with byte tokens, as Llama 2 and Mistral have: each token made in one way."""
    steps = [normalizers.Prepend("▁")] if prepend else []
    base = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    letters = ["▁", *"abcdefghilmnoprstuvwy.,", "桥", "米"]
    merges = merges or ["▁ t", "h e", "▁ a", "▁t he", "i n", "e r", "▁ 桥", "o u", "in g", "▁ ▁"]
    made = ["".join(merge.split(" ")) for merge in merges]
    vocabulary = {token: i for i, token in enumerate([*base, *letters, *made])}
    model = tokenizers.Tokenizer(
        models.BPE(
            vocabulary,
            [tuple(merge.split(" ")) for merge in merges],
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    model.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", "▁")])
    model.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
        + ([decoders.Strip(" ", 1, 0)] if prepend else [])
    )
    model.add_special_tokens([AddedToken(t, special=True) for t in ("<unk>", "<s>", "</s>")])
    model.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    return model


def files(model: tokenizers.Tokenizer, **config: Any) -> TokenizerFiles:
    return TokenizerFiles(Path("x"), json.loads(model.to_str()), config)


def there_and_back(
    found: TokenizerFiles, room: int = 7, pre: str | None = None
) -> tuple[tokenizers.Tokenizer, dict[str, Any], dict[str, Any], list[str]]:
    """(the tokenizer read back, its config, the fields, notes) with ``room`` rows to spare."""
    fields, notes = to_vocabulary(found, max(found.token_ids().values()) + 1 + room, pre)
    model, config = from_vocabulary(fields, 128, Path("y"))
    return tokenizers.Tokenizer.from_str(json.dumps(model)), config, fields, notes


def same(
    one: tokenizers.Tokenizer, other: tokenizers.Tokenizer, text: str, *, back: bool = True
) -> bool:
    """Whether both give the same ids, framed or not, special tokens read or not, and text back."""
    for specials in (False, True):
        for plain in (False, True):
            rows = []
            for reader in (one, other):
                reader.encode_special_tokens = plain
                rows.append(reader.encode(text, add_special_tokens=specials).ids)
            if rows[0] != rows[1] or (back and one.decode(rows[0]) != other.decode(rows[0])):
                return False
    return True


def test_our_tokenizer_is_qwen2_for_llama_cpp(own: Path) -> None:
    found = TokenizerFiles.load(own)
    again, config, fields, notes = there_and_back(found)
    assert notes == []
    assert EXACT_KEY not in fields
    assert fields["tokenizer.ggml.pre"] == "qwen2"
    assert fields["tokenizer.ggml.tokens"][0] == "<|endoftext|>"
    assert fields["tokenizer.ggml.token_type"][:9] == [Kind.CONTROL] * 9
    assert fields["tokenizer.ggml.token_type"][-7:] == [Kind.UNUSED] * 7
    assert config["chat_template"] == Tokenizer.load(own).chat_template
    assert (config["eos_token"], config["add_bos_token"]) == ("<|im_end|>", False)
    before, after = Tokenizer.load(own), Tokenizer(again, config)
    assert after.vocab_size == before.vocab_size
    talk = [{"role": "user", "content": "Which bridge? <|im_end|> 桥"}]
    assert before.encode_chat(talk, add_generation_prompt=True) == after.encode_chat(
        talk, add_generation_prompt=True
    )


@given(text=st.text(max_size=60))
@example(text="<|im_start|>user\nI'LL <think>桥 🙂</think>  \r\n\t 12345")
@settings(max_examples=150, deadline=None)
def test_our_tokenizer_reads_any_text_alike(text: str, own: Path) -> None:
    found = TokenizerFiles.load(own)
    if "again" not in _CACHE:
        _CACHE["again"] = (found.reader(), there_and_back(found)[0])
    one, other = _CACHE["again"]
    assert same(one, other, text)


_CACHE: dict[str, tuple[tokenizers.Tokenizer, tokenizers.Tokenizer]] = {}


@pytest.mark.parametrize("pre", PATTERNS)
def test_every_known_pattern_comes_back(pre: str) -> None:
    model = byte_level(pre)
    again, _, fields, notes = there_and_back(files(model))
    assert fields["tokenizer.ggml.pre"] == pre
    assert notes == []
    assert EXACT_KEY not in fields
    assert fields["tokenizer.ggml.token_type"][-9:-7] == [Kind.CONTROL, Kind.USER_DEFINED]
    for text in [*TEXTS, "a <tool> b<|end|>c"]:
        assert same(model, again, text), text


def test_patterns_are_told_apart() -> None:
    assert pattern_name(pre_tokenizer_of("qwen2")) == "qwen2"
    split = pre_tokenizers.Split(Regex(QWEN2_PATTERN), behavior="isolated")
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    for steps, expected in (
        ([split, to_bytes], "qwen2"),
        ([pre_tokenizers.Split(Regex(QWEN2_PATTERN), behavior="removed"), to_bytes], None),
        ([split, pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=False)], None),
        ([pre_tokenizers.Whitespace(), to_bytes], None),
    ):
        model = tokenizers.Tokenizer(models.BPE())
        model.pre_tokenizer = pre_tokenizers.Sequence(steps)
        assert pattern_name(json.loads(model.to_str())["pre_tokenizer"]) == expected
    assert pattern_name(None) is None


def test_an_unknown_pattern_is_refused_unless_named() -> None:
    model = byte_level("qwen2")
    model.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\p{L}+|\s+|."), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    with pytest.raises(InputError, match="--tokenizer-pre NAME"):
        there_and_back(files(model))
    again, _, fields, notes = there_and_back(files(model), pre="chatglm-bpe")
    assert fields["tokenizer.ggml.pre"] == "chatglm-bpe"
    assert "not checked" in notes[0]
    assert EXACT_KEY in fields  # the only way to read it back
    assert all(same(model, again, text) for text in TEXTS)
    # Named wrongly: what llama.cpp would read otherwise is said, we still read it right.
    again, _, fields, notes = there_and_back(files(model), pre="qwen2")
    assert "will read some texts into other tokens" in notes[0]
    assert all(same(model, again, text) for text in TEXTS)


def test_whole_word_tokens_want_a_pattern_that_has_them() -> None:
    with pytest.raises(InputError, match="how this tokenizer splits"):
        there_and_back(files(byte_level("qwen2", ignore_merges=True)))


def test_a_normaliser_that_llama_cpp_lacks_is_said_and_kept() -> None:
    model = byte_level("qwen2")
    model.normalizer = normalizers.NFC()
    again, _, fields, notes = there_and_back(files(model))
    assert "cafe\u0301" in notes[0]
    assert EXACT_KEY in fields
    assert all(same(model, again, text) for text in TEXTS)


@pytest.mark.parametrize("prepend", [True, False])
def test_a_sentencepiece_like_bpe_comes_back(prepend: bool) -> None:
    model = sentencepiece(prepend)
    again, config, fields, notes = there_and_back(files(model, bos_token="<s>", eos_token="</s>"))
    assert notes == []
    assert EXACT_KEY not in fields
    assert fields["tokenizer.ggml.model"] == "llama"
    assert fields["tokenizer.ggml.add_space_prefix"] is prepend
    assert fields["tokenizer.ggml.token_type"][:4] == [2, 3, 3, 6]
    scores = dict(
        zip(fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.scores"], strict=True)
    )
    assert scores["▁t"] > scores["he"] > scores["▁the"]
    assert (config["bos_token"], config["add_bos_token"]) == ("<s>", True)
    for text in [*TEXTS, "the thing, the other thing", "  桥 桥桥", "<s>the</s>"]:
        assert same(model, again, text), text


@pytest.mark.parametrize("swallows", [False, True])
def test_special_tokens_that_swallow_spaces_are_noticed(swallows: bool) -> None:
    model = byte_level("qwen2")
    model.add_special_tokens([AddedToken("<|sep|>", rstrip=swallows, normalized=False)])
    again, _, fields, notes = there_and_back(files(model))
    assert (EXACT_KEY in fields, len(notes)) == (swallows, int(swallows))
    assert model.encode("a <|sep|> b").ids == again.encode("a <|sep|> b").ids


def test_merges_that_scores_cannot_order_are_noticed() -> None:
    # "the" is made of "▁th"+"e" only where merges say so; scores would make it of "t"+"he" too.
    merges = ["h e", "▁ t", "▁t h", "▁th e", "▁ w", "▁ a", "i n", "▁t he"][:4]
    merges += ["n g", "i ng", "t h", "in g"]
    model = sentencepiece(True, [*merges[:4], "s t", "e s", "es t", "▁ s"])
    spec = json.loads(model.to_str())
    spec["model"]["merges"].remove(["es", "t"])  # "est" stays a token that nothing makes
    model = tokenizers.Tokenizer.from_str(json.dumps(spec))
    again, _, fields, notes = there_and_back(files(model))
    exact = EXACT_KEY in fields
    assert exact == bool(notes)
    rebuilt = tokenizers.Tokenizer.from_str(json.dumps(rebuild_tokenizer(fields)))
    assert exact == (first_difference(model, rebuilt) is not None)
    assert all(same(model, again, text) for text in PROBES)


def test_files_of_others_need_no_key_of_ours() -> None:
    fields, _ = to_vocabulary(files(sentencepiece(True)), 400)
    for key in ("tokenizer.ggml.add_space_prefix", "tokenizer.ggml.add_bos_token"):
        fields.pop(key, None)  # llama.cpp's defaults: yes and yes
    fields |= {"tokenizer.ggml.bos_token_id": 1}
    model, config = from_vocabulary(fields, 128, Path("y"))
    again = tokenizers.Tokenizer.from_str(json.dumps(model))
    assert all(same(sentencepiece(True), again, text) for text in TEXTS)
    assert config["add_bos_token"] is True
    llama3, _ = to_vocabulary(files(byte_level("llama-bpe")), 600)
    llama3.pop("tokenizer.ggml.add_bos_token")
    llama3 |= {"tokenizer.ggml.bos_token_id": 480, "tokenizer.ggml.pre": "llama3"}
    model, config = from_vocabulary(llama3, 128, Path("y"))
    assert config["add_bos_token"] is True
    assert model["post_processor"]["single"][0]["SpecialToken"]["id"] == "<|end|>"


def test_the_chat_template_travels_in_all_its_places(own: Path, tmp_path: Path) -> None:
    found = TokenizerFiles.load(own)
    named = [{"name": "tool_use", "template": "x"}, {"name": "default", "template": TEMPLATE}]
    for config in ({"chat_template": TEMPLATE}, {"chat_template": named}):
        changed = TokenizerFiles(own, found.model, config)
        assert there_and_back(changed)[1]["chat_template"] == TEMPLATE
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((own / name).read_bytes())
    (tmp_path / "chat_template.jinja").write_text(TEMPLATE)
    assert there_and_back(TokenizerFiles.load(tmp_path))[1]["chat_template"] == TEMPLATE
    bare = TokenizerFiles(own, found.model, {})
    assert "chat_template" not in there_and_back(bare)[1]


def test_what_cannot_be_a_gguf_tokenizer_is_refused(own: Path, tmp_path: Path) -> None:
    found = TokenizerFiles.load(own)
    size = len(found.token_ids())
    with pytest.raises(InputError, match=f"ids up to {size - 1}.* {size - 1} rows"):
        to_vocabulary(found, size - 1)
    unigram = tokenizers.Tokenizer(models.Unigram([("a", -1.0)], unk_id=0))
    with pytest.raises(InputError, match="not Unigram"):
        there_and_back(files(unigram))
    with pytest.raises(InputError, match="end_of_word_suffix = '</w>'"):
        there_and_back(files(byte_level("qwen2", end_of_word_suffix="</w>")))
    (tmp_path / "tokenizer.model").write_bytes(b"x")
    with pytest.raises(InputError, match=r"no tokenizer.json, only tokenizer.model"):
        TokenizerFiles.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"model": 3}')
    with pytest.raises(InputError, match="cannot be read"):
        TokenizerFiles.load(tmp_path)


def test_fields_that_contradict_each_other_are_refused(own: Path) -> None:
    fields, _ = to_vocabulary(TokenizerFiles.load(own), 600)
    other = json.dumps(TokenizerFiles.load(own).model).replace("<|im_end|>", "<|im_over|>")
    with pytest.raises(InputError, match="disagree"):
        from_vocabulary(fields | {EXACT_KEY: other}, 128, Path("y"))
    with pytest.raises(InputError, match="cannot be read"):
        from_vocabulary(fields | {"tokenizer.ggml.merges": ["zz yy"]}, 128, Path("y"))
    with pytest.raises(InputError, match="cannot be read"):
        from_vocabulary(fields | {"tokenizer.ggml.token_type": [1]}, 128, Path("y"))


@pytest.mark.shared
def test_tinystories_tokenizer_comes_back(fledge_data: Path) -> None:
    folder = fledge_data / "checkpoints" / "tinystories-656k"
    found = TokenizerFiles.load(folder)
    again, config, fields, notes = there_and_back(found, room=0)
    assert fields["tokenizer.ggml.model"] == "llama"
    assert any("no byte tokens" in note for note in notes)
    assert config["bos_token"] == "<|start_story|>"
    for text in [*TEXTS, "Once upon a time, there was a little girl named Lily."]:
        # Its special tokens are "normalized", so that they come back as "▁<unk>": GGUF has no
        # word for that.
        assert same(found.reader(), again, text, back=False), text
