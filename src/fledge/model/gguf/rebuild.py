"""The ``tokenizer.*`` key-value pairs of a GGUF file in, tokenizer.json and its config out.

The result reads texts as llama.cpp does.  No torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers

from fledge.core.errors import InputError
from fledge.model.gguf.patterns import ALIASES, BEGINS, TAKES_WHOLE_WORDS, pre_tokenizer_of

_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED = range(1, 6)  # GGUF's token types


def from_vocabulary(
    fields: Mapping[str, Any], context: int, path: Path
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(tokenizer.json, tokenizer_config.json) of the file at ``path``.

    Raises InputError for a tokenizer that is missing, damaged or of a kind not supported.
    """
    kind = fields.get("tokenizer.ggml.model")
    if kind not in ("gpt2", "llama"):
        raise InputError(
            f"{path}: {'no tokenizer' if kind is None else f'tokenizer model {kind!r}'}",
            remedy="supported are gpt2 (byte-level BPE) and llama (SentencePiece)",
        )
    exact = fields.get("tokenizer.huggingface.json")
    if exact is None and kind == "gpt2" and pre_tokenizer_of(_pre(fields)) is None:
        raise InputError(
            f"{path}: pre-tokenizer {_pre(fields)!r} is not supported",
            remedy="import the model from its Hugging Face directory",
        )
    try:
        model = rebuild_tokenizer(fields) if exact is None else json.loads(exact)
        reader = tokenizers.Tokenizer.from_str(json.dumps(model))
    except Exception as error:  # damaged fields, or the library's bare Exception
        raise InputError(
            f"{path}: the tokenizer cannot be read: {error!r}", remedy="convert the model again"
        ) from None
    if exact is not None and not _agree(reader, fields["tokenizer.ggml.tokens"]):
        raise InputError(
            f"{path}: tokenizer.huggingface.json and tokenizer.ggml.tokens disagree",
            remedy="convert the model again",
        )
    return model, _config(fields, context)


def rebuild_tokenizer(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The tokenizer.json that reads as llama.cpp reads these fields."""
    tokens: list[str] = fields["tokenizer.ggml.tokens"]
    kinds: list[int] = fields.get("tokenizer.ggml.token_type") or [_NORMAL] * len(tokens)
    size = _used(tokens, kinds)
    added = [i for i in range(size) if kinds[i] in (_CONTROL, _USER_DEFINED, _UNKNOWN)]
    sentencepiece = fields["tokenizer.ggml.model"] == "llama"
    unknown = fields.get("tokenizer.ggml.unknown_token_id", 0 if sentencepiece else None)
    outside = set(_tail(added, size)) - {unknown}
    vocabulary = {tokens[i]: i for i in range(size) if i not in outside}
    parts = _sentencepiece(fields, vocabulary) if sentencepiece else _byte_level(fields)
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added(i, tokens[i], kinds[i]) for i in added],
        "normalizer": parts["normalizer"],
        "pre_tokenizer": parts["pre_tokenizer"],
        "post_processor": _frame(fields, tokens),
        "decoder": parts["decoder"],
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": tokens[unknown] if unknown is not None and unknown < size else None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": sentencepiece,
            "byte_fallback": sentencepiece,
            "ignore_merges": ALIASES.get(_pre(fields), _pre(fields)) in TAKES_WHOLE_WORDS
            and not sentencepiece,
            "vocab": vocabulary,
            "merges": parts["merges"],
        },
    }


def _pre(fields: Mapping[str, Any]) -> str:
    return str(fields.get("tokenizer.ggml.pre", "default"))


def _used(tokens: list[str], kinds: list[int]) -> int:
    """Tokens without the [PADn] that fill up the embedding."""
    size = len(tokens)
    while size and kinds[size - 1] == _UNUSED and tokens[size - 1] == f"[PAD{size - 1}]":
        size -= 1
    return size


def _tail(added: list[int], size: int) -> list[int]:
    """The added tokens after the last other one: they are no part of the BPE's vocabulary."""
    tail: list[int] = []
    for i in reversed(added):
        if i != size - 1 - len(tail):
            break
        tail.append(i)
    return tail


def _added(i: int, text: str, kind: int) -> dict[str, Any]:
    return {
        "id": i,
        "content": text,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": kind != _USER_DEFINED,
    }


def _byte_level(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "normalizer": None,
        "pre_tokenizer": pre_tokenizer_of(_pre(fields)),
        "decoder": {
            "type": "ByteLevel",
            "add_prefix_space": True,
            "trim_offsets": True,
            "use_regex": True,
        },
        "merges": [merge.split(" ", 1) for merge in fields.get("tokenizer.ggml.merges", [])],
    }


def _sentencepiece(fields: Mapping[str, Any], vocabulary: Mapping[str, int]) -> dict[str, Any]:
    prepends = fields.get("tokenizer.ggml.add_space_prefix", True)
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    before = [{"type": "Prepend", "prepend": "▁"}] if prepends else []
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if prepends else []
    return {
        "normalizer": {"type": "Sequence", "normalizers": [*before, replace]},
        "pre_tokenizer": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                *strip,
            ],
        },
        "merges": _merges(fields, vocabulary),
    }


def _merges(fields: Mapping[str, Any], vocabulary: Mapping[str, int]) -> list[list[str]]:
    """Every way to make a token of two others, the highest score first."""
    scores: list[float] = fields["tokenizer.ggml.scores"]
    kinds: list[int] = fields["tokenizer.ggml.token_type"]
    found: list[tuple[float, int, int, list[str]]] = []
    for token, i in vocabulary.items():
        if kinds[i] != _NORMAL:
            continue
        for cut in range(1, len(token)):
            left, right = token[:cut], token[cut:]
            if left in vocabulary and right in vocabulary:
                found.append((-scores[i], vocabulary[left], vocabulary[right], [left, right]))
    return [merge for *_, merge in sorted(found)]


def _frame(fields: Mapping[str, Any], tokens: list[str]) -> dict[str, Any] | None:
    """What is put around a text, as a TemplateProcessing."""
    before = _special(fields, tokens, "bos") if _begins(fields) else []
    after = _special(fields, tokens, "eos") if fields.get("tokenizer.ggml.add_eos_token") else []
    if not before and not after:
        return None
    pieces: list[Any] = []
    for type_id, name in enumerate("AB"):
        words = [{"SpecialToken": {"id": text, "type_id": type_id}} for _, text in before]
        ends = [{"SpecialToken": {"id": text, "type_id": type_id}} for _, text in after]
        pieces.append([*words, {"Sequence": {"id": name, "type_id": type_id}}, *ends])
    return {
        "type": "TemplateProcessing",
        "single": pieces[0],
        "pair": pieces[0] + pieces[1],
        "special_tokens": {
            text: {"id": text, "ids": [i], "tokens": [text]} for i, text in before + after
        },
    }


def _begins(fields: Mapping[str, Any]) -> bool:
    default = fields["tokenizer.ggml.model"] == "llama" or _pre(fields) in (
        *BEGINS,
        *(name for name, real in ALIASES.items() if real in BEGINS),
    )
    return bool(fields.get("tokenizer.ggml.add_bos_token", default))


def _special(fields: Mapping[str, Any], tokens: list[str], name: str) -> list[tuple[int, str]]:
    """(id, text) of a special token, or nothing when the file names none."""
    i = fields.get(f"tokenizer.ggml.{name}_token_id")
    return [(i, tokens[i])] if isinstance(i, int) and 0 <= i < len(tokens) else []


def _agree(reader: tokenizers.Tokenizer, tokens: list[str]) -> bool:
    """Whether every token of ``reader`` stands in ``tokens`` at its id."""
    vocabulary = reader.get_vocab(with_added_tokens=True)
    return all(i < len(tokens) and tokens[i] == text for text, i in vocabulary.items())


def _config(fields: Mapping[str, Any], context: int) -> dict[str, Any]:
    """``tokenizer_config.json`` as transformers reads it."""
    tokens: list[str] = fields["tokenizer.ggml.tokens"]
    names = {"bos": "bos", "eos": "eos", "pad": "padding", "unk": "unknown"}
    specials = {
        f"{ours}_token": next((text for _, text in _special(fields, tokens, theirs)), None)
        for ours, theirs in names.items()
    }
    template = fields.get("tokenizer.chat_template")
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **specials,
        "add_bos_token": _begins(fields),
        "add_eos_token": bool(fields.get("tokenizer.ggml.add_eos_token", False)),
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": context,
        **({"chat_template": template} if template else {}),
    }
