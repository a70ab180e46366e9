"""A tokenizer.json folder in; text to token ids, ids to text, conversations to text out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers

from fledge.core.errors import InputError
from fledge.core.files import read_json, value_digest, write_json
from fledge.tokenizer.template import (
    CHAT_TEMPLATE,
    ENDOFTEXT,
    GENERATION,
    IM_END,
    IM_START,
    MARKS,
    render,
)

MODEL_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"


def _byte_alphabet() -> dict[str, int]:
    """Byte-level BPE writes each byte as one printable character: that character -> the byte."""
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in set(plain)]
    alphabet = {chr(byte): byte for byte in plain}
    return alphabet | {chr(256 + i): byte for i, byte in enumerate(rest)}


def _sentencepiece_bytes(token: str) -> bytes:
    """The bytes of a token in SentencePiece's notation: ``<0x0A>``, or text with \u2581 = space."""
    if re.fullmatch("<0x[0-9A-F]{2}>", token):
        return bytes([int(token[3:5], 16)])
    return token.replace("\u2581", " ").encode()


def _drop_prefix(described: dict[str, Any]) -> bool:
    """Change a described tokenizer so that it puts no space before a text; whether it did."""
    changed = False
    for part in ("normalizer", "pre_tokenizer"):
        outer = described.get(part) or {}
        steps = outer.get("normalizers") or outer.get("pretokenizers") or [outer]
        for step in steps:
            if step.get("type") == "Prepend":
                step["prepend"], changed = "", True
            if step.get("type") == "Metaspace" and step.get("prepend_scheme") != "never":
                step["prepend_scheme"], changed = "never", True
            if step.get("add_prefix_space"):
                step["add_prefix_space"], changed = False, True
    return changed


class Tokenizer:
    """Text <-> token ids.  Lossless: ``decode(encode(text)) == text`` for any text in UTF-8.

    ``encode`` reads special tokens in a text as plain characters, so that a document or a user
    cannot forge a turn; ``encode_with_specials`` is for text that the chat template rendered.
    """

    def __init__(self, model: tokenizers.Tokenizer, config: Mapping[str, Any]) -> None:
        self._aware = model
        self._plain = tokenizers.Tokenizer.from_str(model.to_str())
        self._plain.encode_special_tokens = True
        self.config = dict(config)
        self.has_template = bool(self.config.get("chat_template"))
        self.chat_template: str = _template_text(self.config.get("chat_template"))

    @classmethod
    def load(cls, folder: str | Path) -> Tokenizer:
        """The tokenizer in ``folder``; raises InputError when its files are missing or broken."""
        path = Path(folder) / MODEL_FILE
        if not path.is_file():
            raise InputError(
                f"{folder} has no {MODEL_FILE}", remedy="name a folder with a tokenizer or a model"
            )
        try:
            model = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception
            raise InputError(f"{path} cannot be read: {error}", remedy="train it again") from None
        config_path = Path(folder) / CONFIG_FILE
        config = read_json(config_path) if config_path.is_file() else {}
        separate = Path(folder) / "chat_template.jinja"
        if separate.is_file():
            config = {**config, "chat_template": separate.read_text(encoding="utf-8")}
        return cls(model, config)

    def save(self, folder: Path) -> None:
        """Write ``tokenizer.json`` and ``tokenizer_config.json``."""
        folder.mkdir(parents=True, exist_ok=True)
        self._aware.save(str(folder / MODEL_FILE))
        write_json(folder / CONFIG_FILE, {**self.config, "chat_template": self.chat_template})

    def extended(self, tokens: Sequence[str]) -> Tokenizer:
        """This tokenizer with special ``tokens`` added behind its vocabulary, for ChatML.

        <|im_end|> becomes the end token.  Ids that were there before stay what they were.
        """
        model = tokenizers.Tokenizer.from_str(self._aware.to_str())
        model.add_special_tokens(
            [tokenizers.AddedToken(token, special=True, normalized=False) for token in tokens]
        )
        config = {key: value for key, value in self.config.items() if key != "added_tokens_decoder"}
        return Tokenizer(model, {**config, "eos_token": IM_END, "chat_template": CHAT_TEMPLATE})

    def has_token(self, token: str) -> bool:
        """Whether the text of a token is one."""
        return self._aware.token_to_id(token) is not None

    def is_special(self, token: int) -> bool:
        """Whether an id stands for a special token."""
        return token in self._special_ids

    @property
    def vocab_size(self) -> int:
        """Number of token ids, special ones included."""
        return int(self._aware.get_vocab_size(with_added_tokens=True))

    @cached_property
    def endoftext_id(self) -> int:
        """The id that begins a document: <|endoftext|>, or what a foreign tokenizer begins with.

        That is its ``bos_token``, or its end token where it has none, as Qwen's.
        """
        for name in (ENDOFTEXT, self._named("bos_token", ""), self._named("eos_token", "")):
            if name and self.has_token(name):
                return self.token_id(name)
        return self.token_id(ENDOFTEXT)

    @cached_property
    def end_id(self) -> int:
        """The id that ends a document: <|endoftext|>, or a foreign tokenizer's end token."""
        if self.has_token(ENDOFTEXT) or self.eos_id is None:
            return self.endoftext_id
        return self.eos_id

    @cached_property
    def im_start_id(self) -> int:
        return self.token_id(IM_START)

    @cached_property
    def im_end_id(self) -> int:
        """The id that ends a turn: where a chat answer stops."""
        return self.token_id(IM_END)

    def token_id(self, token: str) -> int:
        """The id of a token by its text; raises InputError when there is none."""
        found = self._aware.token_to_id(token)
        if found is None:
            raise InputError(
                f"the tokenizer has no token {token}", remedy="use one trained by fledge"
            )
        return int(found)

    def encode(self, text: str) -> list[int]:
        """Ids of plain text; special tokens in it are read as characters."""
        return list(self._plain.encode(text, add_special_tokens=False).ids)

    def encode_continuing(self, text: str) -> list[int]:
        """``encode`` of a text that goes on where another ended: no space is put before it."""
        return list(self._continuing.encode(text, add_special_tokens=False).ids)

    @cached_property
    def _continuing(self) -> tokenizers.Tokenizer:
        described = json.loads(self._aware.to_str())
        if not _drop_prefix(described):
            return self._plain
        model = tokenizers.Tokenizer.from_str(json.dumps(described))
        model.encode_special_tokens = True
        return model

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """``encode`` of many texts, on all cores."""
        batch = self._plain.encode_batch_fast(list(texts), add_special_tokens=False)
        return [list(encoding.ids) for encoding in batch]

    def encode_with_specials(self, text: str) -> list[int]:
        """Ids of text whose special tokens count as such (a rendered chat template)."""
        return list(self._aware.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Iterable[int], *, specials: bool = False) -> str:
        """Text of ids; broken UTF-8 becomes U+FFFD; special tokens are left out or written."""
        return b"".join(self.token_bytes(i, specials=specials) for i in ids).decode(
            "utf-8", "replace"
        )

    def token_bytes(self, token: int, *, specials: bool = False) -> bytes:
        """The bytes a token stands for; a special token: none, or its name when asked."""
        if token in self._special_ids:
            return self._special_ids[token].encode() if specials else b""
        return self._bytes[token] if 0 <= token < len(self._bytes) else b""

    def tokens(self, text: str) -> list[tuple[int, int, int]]:
        """(id, start, end) of each token, in code points of ``text``, for showing it."""
        encoding = self._plain.encode(text, add_special_tokens=False)
        return [(i, *offset) for i, offset in zip(encoding.ids, encoding.offsets, strict=True)]

    def apply_chat_template(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        *,
        add_generation_prompt: bool = False,
        mark_answers: bool = False,
    ) -> str:
        """OpenAI-style messages as the text the model reads."""
        return render(
            self.chat_template,
            messages,
            tools,
            add_generation_prompt,
            mark_answers=mark_answers,
            bos_token=self._named("bos_token", ""),
            eos_token=self._named("eos_token", IM_END),
        )

    def _named(self, name: str, otherwise: str) -> str:
        """The text of a token that ``tokenizer_config.json`` names."""
        value = self.config.get(name)
        text = value.get("content") if isinstance(value, Mapping) else value
        return text if isinstance(text, str) else otherwise

    @cached_property
    def eos_id(self) -> int | None:
        """The id of the end token that ``tokenizer_config.json`` names, if there is one."""
        found = self._aware.token_to_id(self._named("eos_token", ""))
        return None if found is None else int(found)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the vocabulary and its ids: equal for tokenizers whose ids agree."""
        return value_digest(self._aware.get_vocab(with_added_tokens=True))

    @property
    def padding_id(self) -> int:
        """An id to fill rows with, never learnt: <|endoftext|>, the end token or 0."""
        if self.has_token(ENDOFTEXT):
            return self.endoftext_id
        return self.eos_id or 0

    @cached_property
    def unknown_id(self) -> int | None:
        """The id that stands for what the vocabulary cannot write, if there is one."""
        token = json.loads(self._aware.to_str())["model"].get("unk_token")
        return self._aware.token_to_id(token) if token else None

    @property
    def marks_answers(self) -> bool:
        """Whether the chat template says what the assistant writes (``{% generation %}``)."""
        return GENERATION.search(self.chat_template) is not None

    def encode_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        *,
        add_generation_prompt: bool = False,
    ) -> list[int]:
        """Ids of a conversation; special tokens inside its contents are read as characters."""
        shielded, marks = self._shield(messages)
        text = self.apply_chat_template(
            shielded, tools, add_generation_prompt=add_generation_prompt
        )
        return self._encode_shielded(text, marks)

    def encode_marked_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
    ) -> list[tuple[list[int], bool]]:
        """``encode_chat`` in parts; True for those the template says the assistant writes."""
        shielded, marks = self._shield(messages)
        text = self.apply_chat_template(shielded, tools, mark_answers=True)
        parts = []
        for number, part in enumerate(re.split("|".join(MARKS), text)):
            parts.append((self._encode_shielded(part, marks), number % 2 == 1))
        return parts

    def _encode_shielded(self, text: str, marks: Mapping[str, str]) -> list[int]:
        if not marks:
            return self.encode_with_specials(text)
        ids: list[int] = []
        rest = text
        while rest:
            found = [(rest.find(mark), mark) for mark in marks if mark in rest]
            if not found:
                return ids + self.encode_with_specials(rest)
            position, mark = min(found)
            ids += self.encode_with_specials(rest[:position])
            ids += self.encode_continuing(marks[mark])
            rest = rest[position + len(mark) :]
        return ids

    def _shield(
        self, messages: Sequence[Mapping[str, Any]]
    ) -> tuple[list[dict[str, Any]], dict[str, str]]:
        """Messages whose contents hold a special token, with those contents replaced by marks."""
        marks: dict[str, str] = {}
        shielded = []
        for number, message in enumerate(messages):
            copy = dict(message)
            content = copy.get("content")
            if isinstance(content, str) and self._needs_shield.search(content):
                mark = f"\ue000{number}\ue001"  # private use: no tokenizer or template treats it
                marks[mark] = content
                copy["content"] = mark
            shielded.append(copy)
        return shielded, marks

    @cached_property
    def _needs_shield(self) -> re.Pattern[str]:
        """What in a content could be read as a special token, or as one of our marks."""
        own = (re.escape(token) for token in self._special_ids.values() if token)
        return re.compile("|".join(["<[|/t]", "[\ue000-\ue003]", *own]))

    @cached_property
    def _special_ids(self) -> dict[int, str]:
        added = self._aware.get_added_tokens_decoder()
        return {int(i): token.content for i, token in added.items()}

    @cached_property
    def _bytes(self) -> list[bytes]:
        alphabet = _byte_alphabet()
        vocabulary = self._aware.get_vocab(with_added_tokens=True)
        table = [b""] * (max(vocabulary.values()) + 1)
        for token, i in vocabulary.items():
            if i not in self._special_ids:
                table[i] = (
                    bytes(alphabet[c] for c in token)
                    if self._is_byte_level
                    else _sentencepiece_bytes(token)
                )
        return table

    @cached_property
    def _is_byte_level(self) -> bool:
        """Whether tokens are written in the byte alphabet, else with \u2581 for a space."""
        return '"ByteLevel"' in json.dumps(json.loads(self._aware.to_str()).get("decoder"))


def _template_text(value: Any) -> str:
    """The chat template: a text, or of a list of named ones the default; ChatML without."""
    if isinstance(value, list):
        named = {one.get("name"): one.get("template") for one in value if isinstance(one, dict)}
        value = named.get("default") or next(iter(named.values()), None)
    return value if isinstance(value, str) and value else CHAT_TEMPLATE
