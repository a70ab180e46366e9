"""A folder's tokenizer in, the ``tokenizer.*`` key-value pairs of a GGUF file out.  No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import tokenizers

from fledge.core.errors import InputError
from fledge.core.files import read_json
from fledge.model.gguf.patterns import PATTERNS, TAKES_WHOLE_WORDS, pattern_name
from fledge.model.gguf.rebuild import rebuild_tokenizer
from fledge.tokenizer.tokenizer import CONFIG_FILE, MODEL_FILE

EXACT_KEY = "tokenizer.huggingface.json"
"""Of the GGUF specification: the whole tokenizer.json, for those that read it."""

SPECIALS = tuple(f"{name}_token" for name in ("bos", "eos", "unk", "pad", "sep", "cls", "mask"))
"""Keys of tokenizer_config.json that name a token."""

UNREACHED = -1e6
"""Score of a token that no merge makes."""

PROBES = (
    "Hello, world! It's 2026 — I'LL say: 'tis 3.14159.",
    "  two spaces, a tab\tand\n\n  three lines\r\n\r\n   ",
    "金门大桥于1937年建成，主跨1280米。繁體字與简体字、「引號」……",
    "def f(x: int) -> dict[str, int]:\n\treturn {'a_b': x ** 2}  # naïve\n",
    "🙂👩‍👩‍👧‍👦🇨🇳 café cafe\u0301 Straße ﬁ ½ ² ٣ Привет שלום สวัสดี こんにちは",
    " leading, trailing ",
    "http://example.org/?q=1&r=%20#top <b>bold</b> <|not_special|> $1,000,000.00 ~100%",
    "a",
    "",
)
"""Texts on which two readings of a tokenizer are compared."""


class Kind(IntEnum):
    """What a token is, in GGUF's numbers."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True)
class TokenizerFiles:
    """The parsed ``tokenizer.json`` and ``tokenizer_config.json`` of a folder."""

    folder: Path
    model: dict[str, Any]
    config: dict[str, Any]

    @classmethod
    def load(cls, folder: Path) -> TokenizerFiles:
        """Raises InputError when there is none, or a broken one."""
        path = folder / MODEL_FILE
        if not path.is_file():
            others = [n for n in ("tokenizer.model", "vocab.txt") if (folder / n).is_file()]
            raise InputError(
                f"{folder} has no {MODEL_FILE}{f', only {others[0]}' if others else ''}",
                remedy="load it with transformers' AutoTokenizer and save it there",
            )
        model = read_json(path)
        try:
            tokenizers.Tokenizer.from_str(json.dumps(model))
        except Exception as error:  # the library raises bare Exception
            raise InputError(f"{path} cannot be read: {error}", remedy="copy it again") from None
        model.setdefault("added_tokens", [])
        config_path = folder / CONFIG_FILE
        config = read_json(config_path) if config_path.is_file() else {}
        _check_config(config, config_path)
        separate = folder / "chat_template.jinja"
        if separate.is_file():
            config = {**config, "chat_template": _read_text(separate)}
        return cls(folder, model, config)

    @property
    def chat_template(self) -> str | None:
        """The template that travels with the model; of several, the one named "default"."""
        template = self.config.get("chat_template")
        if isinstance(template, list):
            named = {entry["name"]: entry["template"] for entry in template}
            template = named.get("default")
        return template or None

    def reader(self) -> tokenizers.Tokenizer:
        """The tokenizer itself."""
        return tokenizers.Tokenizer.from_str(json.dumps(self.model))

    def special_probes(self) -> list[str]:
        """A text for each added token: some of them swallow the spaces around them."""
        return [f"a {token['content']} b" for token in self.model["added_tokens"]]

    def token_ids(self) -> dict[str, int]:
        """Text -> id of every token, added ones included."""
        added = {token["content"]: int(token["id"]) for token in self.model["added_tokens"]}
        vocabulary: Any = self.model["model"]["vocab"]
        if isinstance(vocabulary, list):  # Unigram: (text, score) pairs in the order of their ids
            vocabulary = {text: i for i, (text, _) in enumerate(vocabulary)}
        return {**vocabulary, **added}


def token_text(token: Any) -> str | None:
    """tokenizer_config.json writes a token as its text or as an object."""
    return token.get("content") if isinstance(token, dict) else token


def _check_config(config: Any, path: Path) -> None:
    """Raises InputError for what no tokenizer_config.json holds."""
    if not isinstance(config, dict):
        raise InputError(f"{path}: not an object", remedy="mend the file")
    template = config.get("chat_template")
    named = template if isinstance(template, list) else []
    wrong = [name for name in SPECIALS if not isinstance(token_text(config.get(name)), str | None)]
    if not isinstance(template, str | list | None) or not all(
        isinstance(entry, dict) and {"name", "template"} <= entry.keys() for entry in named
    ):
        wrong.append("chat_template")
    if wrong:
        raise InputError(
            f"{path}: {wrong[0]} = {config[wrong[0]]!r} is not valid", remedy="mend the file"
        )


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8: {error}", remedy="re-encode the file") from None


def to_vocabulary(
    files: TokenizerFiles, vocab_size: int, pre: str | None = None
) -> tuple[dict[str, Any], list[str]]:
    """(the ``tokenizer.*`` pairs, notes) for an embedding of ``vocab_size`` rows.

    ``pre`` names the pre-tokenizer for llama.cpp when its pattern is none we know.  Raises
    InputError for a tokenizer that GGUF cannot hold or that has more tokens than the embedding.
    """
    model = files.model["model"]
    _check_model(files, model)
    if _is_sentencepiece(files):
        fields: dict[str, Any] = {"tokenizer.ggml.model": "llama", "tokenizer.ggml.pre": "default"}
        fields |= {"tokenizer.ggml.add_space_prefix": _prepends_space(files)}
    else:
        name = pre or _pattern(files)
        fields = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": name}
    fields |= _tokens(files, vocab_size)
    if fields["tokenizer.ggml.model"] == "llama":
        fields["tokenizer.ggml.scores"] = _scores(fields["tokenizer.ggml.tokens"], model["merges"])
    elif model["merges"]:
        fields["tokenizer.ggml.merges"] = [" ".join(_pair(merge)) for merge in model["merges"]]
    fields |= _begin_and_end(files)
    if files.chat_template:
        fields["tokenizer.chat_template"] = files.chat_template
    return _with_exact(files, fields)


def _with_exact(files: TokenizerFiles, fields: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The fields; with the whole tokenizer.json, and a note, where they alone read otherwise."""
    notes: list[str] = []
    if _lacks_bytes(fields):
        notes.append("the tokenizer has no byte tokens: llama.cpp aborts at unknown characters")
    pre = fields["tokenizer.ggml.pre"]
    if fields["tokenizer.ggml.model"] == "gpt2" and pre not in PATTERNS:
        notes.append(f"whether llama.cpp's pre-tokenizer {pre!r} reads as this one is not checked")
    else:
        rebuilt = tokenizers.Tokenizer.from_str(json.dumps(rebuild_tokenizer(fields)))
        text = first_difference(files.reader(), rebuilt, files.special_probes())
        if text is None:
            return fields, notes
        notes.append(
            f"llama.cpp will read some texts into other tokens than this tokenizer, such as"
            f" {text!r}; fledge reads the exact one, which travels in the file"
        )
    return fields | {EXACT_KEY: json.dumps(files.model, ensure_ascii=False)}, notes


def first_difference(
    one: tokenizers.Tokenizer, other: tokenizers.Tokenizer, more: Sequence[str] = ()
) -> str | None:
    """The first probe, or text of ``more``, that the two read into different ids, or None."""
    for specials in (False, True):
        for text in (*PROBES, *more):
            ids = [t.encode(text, add_special_tokens=specials).ids for t in (one, other)]
            if ids[0] != ids[1]:
                return text
    return None


def _check_model(files: TokenizerFiles, model: Mapping[str, Any]) -> None:
    path = files.folder / MODEL_FILE
    if model.get("type") != "BPE":
        raise InputError(
            f"{path}: GGUF export knows byte-level and SentencePiece-like BPE, not"
            f" {model.get('type')}",
            remedy="use --format hf",
        )
    for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(key):
            raise InputError(
                f"{path}: {key} = {model[key]!r} has no place in GGUF", remedy="use --format hf"
            )


def _is_sentencepiece(files: TokenizerFiles) -> bool:
    """Whether spaces are written as ▁ and what is unknown as bytes."""
    parts = json.dumps([files.model.get("normalizer"), files.model.get("pre_tokenizer")])
    return bool(files.model["model"].get("byte_fallback")) and json.dumps("▁")[1:-1] in parts


def _prepends_space(files: TokenizerFiles) -> bool:
    """Whether a text is read as if a space stood before it."""
    normalizer = files.model.get("normalizer") or {}
    steps = normalizer.get("normalizers", [normalizer])
    metaspace = files.model.get("pre_tokenizer") or {}
    return any(step.get("type") == "Prepend" for step in steps) or (
        metaspace.get("type") == "Metaspace" and metaspace.get("prepend_scheme") != "never"
    )


def _pattern(files: TokenizerFiles) -> str:
    name = pattern_name(files.model.get("pre_tokenizer"))
    if name is None or bool(files.model["model"].get("ignore_merges")) != (
        name in TAKES_WHOLE_WORDS
    ):
        raise InputError(
            f"{files.folder / MODEL_FILE}: how this tokenizer splits words has no name in"
            " llama.cpp that fledge knows",
            remedy="if you know it, give --tokenizer-pre NAME; or use --format hf",
        )
    return name


def _tokens(files: TokenizerFiles, vocab_size: int) -> dict[str, Any]:
    """Texts and kinds of ``vocab_size`` tokens; unused ids are called [PADn]."""
    ids = files.token_ids()
    top = max(ids.values())
    if top >= vocab_size:
        raise InputError(
            f"{files.folder / MODEL_FILE}: the tokenizer has ids up to {top}, the model's embedding"
            f" {vocab_size} rows",
            remedy="put the model's own tokenizer beside it",
        )
    texts = [f"[PAD{i}]" for i in range(vocab_size)]
    kinds = [int(Kind.UNUSED)] * vocab_size
    unknown = files.model["model"].get("unk_token")
    for text, i in files.model["model"]["vocab"].items():
        texts[i] = text
        is_byte = len(text) == 6 and text.startswith("<0x") and text.endswith(">")
        kinds[i] = Kind.BYTE if is_byte else Kind.UNKNOWN if text == unknown else Kind.NORMAL
    for token in files.model["added_tokens"]:
        texts[token["id"]] = token["content"]
        if kinds[token["id"]] != Kind.UNKNOWN:
            kinds[token["id"]] = Kind.CONTROL if token["special"] else Kind.USER_DEFINED
    fields = {
        "tokenizer.ggml.tokens": texts,
        "tokenizer.ggml.token_type": [int(kind) for kind in kinds],
    }
    if unknown in ids:
        fields["tokenizer.ggml.unknown_token_id"] = ids[unknown]
    return fields


def _pair(merge: str | list[str]) -> tuple[str, str]:
    """tokenizer.json writes a merge as "a b" or ["a", "b"]."""
    left, right = merge.split(" ", 1) if isinstance(merge, str) else merge
    return left, right


def _scores(tokens: list[str], merges: list[Any]) -> list[float]:
    """SentencePiece merges the pair whose token scores highest: minus the rank of its merge."""
    ranks: dict[str, int] = {}
    for rank, merge in enumerate(merges):
        ranks.setdefault("".join(_pair(merge)), rank)
    return [
        -float(ranks[token]) if token in ranks else UNREACHED if len(token) > 1 else 0.0
        for token in tokens
    ]


def _begin_and_end(files: TokenizerFiles) -> dict[str, Any]:
    """Which tokens are put around a text."""
    reader = files.reader()
    plain = reader.encode("a", add_special_tokens=False).ids
    framed = reader.encode("a", add_special_tokens=True).ids
    at = next((i for i in range(len(framed)) if framed[i : i + len(plain)] == plain), 0)
    before, after = framed[:at], framed[at + len(plain) :]
    begins = bool(before) or (files.model.get("post_processor") is None and _flag(files, "bos"))
    fields: dict[str, Any] = {
        "tokenizer.ggml.add_bos_token": begins,
        "tokenizer.ggml.add_eos_token": bool(after),
    }
    ids = files.token_ids()
    for name, framing in (("bos", before), ("eos", after)):
        text = token_text(files.config.get(f"{name}_token"))
        token = framing[0] if framing else ids.get(text) if text else None
        if token is not None:
            fields[f"tokenizer.ggml.{name}_token_id"] = token
    return fields


def _flag(files: TokenizerFiles, name: str) -> bool:
    return bool(files.config.get(f"add_{name}_token")) and bool(files.config.get(f"{name}_token"))


def _lacks_bytes(fields: Mapping[str, Any]) -> bool:
    kinds = fields["tokenizer.ggml.token_type"]
    return fields["tokenizer.ggml.model"] == "llama" and Kind.BYTE not in kinds
