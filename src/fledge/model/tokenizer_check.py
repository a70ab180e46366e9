"""A tokenizer and the model it came with in; what was found and what is doubtful out.  No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fledge.core.errors import InputError
from fledge.model.gguf.vocabulary import PROBES, SPECIALS, TokenizerFiles, token_text
from fledge.tokenizer.template import render
from fledge.tokenizer.tokenizer import CONFIG_FILE, MODEL_FILE

CONVERSATION = (
    {"role": "user", "content": "Hello?"},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "你好？"},
)


def check_tokenizer(
    files: TokenizerFiles, vocab_size: int, special_ids: Mapping[str, int]
) -> tuple[dict[str, Any], list[str]]:
    """(what it is, warnings).  ``special_ids`` are those that the model's config names.

    Raises InputError when ids of the tokenizer or of the config lie outside the embedding, since
    such a model cannot be run.
    """
    ids = files.token_ids()
    top = max(ids.values(), default=-1)
    if top >= vocab_size:
        raise InputError(
            f"{files.folder / MODEL_FILE}: the tokenizer has ids up to {top}, the embedding of the"
            f" model {vocab_size} rows",
            remedy="put the model's own tokenizer beside it",
        )
    for name, token in special_ids.items():
        if not 0 <= token < vocab_size:
            raise InputError(
                f"{files.folder}: {name} is {token}, the model's embedding has {vocab_size} rows",
                remedy="mend config.json",
            )
    warnings = [
        f"{name} of the config is {token}, which the tokenizer does not have"
        for name, token in special_ids.items()
        if token not in ids.values()
    ]
    for name in SPECIALS:
        text = token_text(files.config.get(name))
        if text is not None and text not in ids:
            warnings.append(f"{CONFIG_FILE}: {name} {text!r} is no token of the tokenizer")
    kind = kind_of(files)
    lost = None if kind == "WordPiece" else lossy_text(files)
    if lost is not None:
        warnings.append(f"the tokenizer does not give back every text, such as {lost!r}")
    warnings += _template_warnings(files)
    return {
        "kind": kind,
        "vocab_size": len(ids),
        "lossless": kind != "WordPiece" and lost is None,
        "chat_template": files.chat_template is not None,
    }, warnings


def kind_of(files: TokenizerFiles) -> str:
    """ "byte-level BPE", "SentencePiece-like BPE", "WordPiece", "Unigram", …"""
    kind = str(files.model["model"].get("type"))
    if kind != "BPE":
        return kind
    return "SentencePiece-like BPE" if "▁" in str(files.model.get("decoder")) else "byte-level BPE"


def lossy_text(files: TokenizerFiles) -> str | None:
    """The first probe that does not come back from its ids, or None."""
    reader = files.reader()
    for text in PROBES:
        ids = reader.encode(text, add_special_tokens=False).ids
        if reader.decode(ids, skip_special_tokens=False) != text:
            return text
    return None


def _template_warnings(files: TokenizerFiles) -> list[str]:
    """Whether the chat template can be rendered; some refuse what they do not know."""
    source = files.chat_template
    if source is None:
        return []
    begin, end = (token_text(files.config.get(name)) or "" for name in ("bos_token", "eos_token"))
    try:
        text = render(source, CONVERSATION, None, True, bos_token=begin, eos_token=end)
    except InputError as error:
        return [f"the chat template cannot be rendered: {error.message}"]
    missing = [turn["content"] for turn in CONVERSATION if turn["content"] not in text]
    return [f"the chat template leaves {missing[0]!r} out of a conversation"] if missing else []
