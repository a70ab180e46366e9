"""Texts in, vectors (or scores of pairs) out: an encoder together with its tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
from numpy.typing import NDArray
from torch import Tensor

from fledge.core.config import nearest
from fledge.core.errors import InputError
from fledge.core.files import read_json, write_json
from fledge.model.encoder import Encoder
from fledge.model.encoder_checkpoint import (
    encoder_folder,
    load_classifier,
    load_encoder,
    save_encoder,
)
from fledge.model.encoder_config import TextSettings
from fledge.model.encoder_heads import Classifier
from fledge.model.pooling import pool
from fledge.model.sentence_folder import transformer_folder

Vectors = NDArray[np.float32]


class TextEncoder:
    """Texts to vectors of ``dimensions`` float32 numbers, unit length if the settings say so.

    Texts longer than ``settings.max_tokens`` are cut at their end, or refused when asked.
    """

    def __init__(
        self,
        model: Encoder,
        tokenizer: tokenizers.Tokenizer,
        settings: TextSettings,
        *,
        name: str = "encoder",
        tokenizer_config: dict[str, Any] | None = None,
    ) -> None:
        if settings.max_tokens > model.config.context:
            raise InputError(
                f"max_tokens = {settings.max_tokens} exceeds the model's positions",
                remedy=f"at most {model.config.context}",
            )
        self.name, self.dimensions = name, model.config.width
        self.model, self.settings = model.eval(), settings
        self.tokenizer_config = tokenizer_config or {}
        self._tokenizer = _ready(tokenizer, model.config.vocab_size, name)

    @classmethod
    def load(
        cls,
        path: Path | str,
        *,
        settings: TextSettings | None = None,
        dtype: str = "float32",
        device: torch.device | str = "cpu",
    ) -> TextEncoder:
        """The encoder and ``tokenizer.json`` at ``path``.

        ``settings`` are needed when ``path`` is no sentence-transformers folder, since nothing
        else says how vectors are made.  Raises InputError naming what is missing or wrong.
        """
        model = load_encoder(path, dtype=dtype, device=device)
        settings = settings or model.text_settings
        if settings is None:
            raise InputError(
                f"{path} does not say how to pool (it has no modules.json)",
                remedy="give settings=TextSettings(pooling=Pooling(how=…), max_tokens=…)",
            )
        tokenizer, config = _read_tokenizer(path)
        return cls(model, tokenizer, settings, name=Path(path).name, tokenizer_config=config)

    def save(self, folder: Path, *, dtype: str = "float32") -> None:
        """Write a folder that ``load``, transformers and sentence-transformers open."""
        self.model.text_settings = self.settings
        save_encoder(self.model, folder, dtype=dtype)
        self._tokenizer.save(str(folder / "tokenizer.json"))
        fallback = {"tokenizer_class": "PreTrainedTokenizerFast"}
        length = {"model_max_length": self.settings.max_tokens}
        write_json(
            folder / "tokenizer_config.json", {**fallback, **self.tokenizer_config, **length}
        )

    def count_tokens(self, texts: Sequence[str], *, prompt: str | None = None) -> list[int]:
        """Tokens of each text before any cut, special ones included."""
        return [len(encoding.ids) for encoding in self._encode(texts, prompt)]

    def vectors(
        self,
        texts: Sequence[str],
        *,
        prompt: str | None = None,
        truncate: bool = True,
        batch: int = 32,
    ) -> Vectors:
        """One vector a text, in the order given: (N, dimensions).

        Texts of like length share a batch.  ``prompt`` names one of ``settings.prompts``.
        Raises InputError for an unknown prompt and, without ``truncate``, for a text too long.
        """
        encodings = self._encode(texts, prompt)
        limit = self.settings.max_tokens
        for number, encoding in enumerate(encodings):
            if len(encoding.ids) > limit:
                if not truncate:
                    raise InputError(
                        f"text {number} has {len(encoding.ids)} tokens, the limit is {limit}",
                        remedy="split it, or allow truncation",
                    )
                # Cut by the library, so that the last token is still the special one.
                encodings[number] = self._cut(self._prepared(texts[number], prompt))
        pooling = self.settings.pooling

        def embed(ids: Tensor, mask: Tensor, types: Tensor) -> Tensor:
            return pool(self.model(ids, mask, types), mask, pooling.how, pooling.normalize)

        return _in_batches(encodings, embed, self.model, self.dimensions, batch)

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """One vector a text, as plain lists (the protocol ``Embedder``)."""
        rows: list[list[float]] = self.vectors(texts).tolist()
        return rows

    def token_ids(self, texts: Sequence[str], *, limit: int | None = None) -> list[list[int]]:
        """Token ids of each text, special ones included; texts beyond ``limit`` lose their end."""
        limit = min(limit or self.settings.max_tokens, self.settings.max_tokens)
        found = [list(encoding.ids) for encoding in self._encode(texts, None)]
        return [
            ids if len(ids) <= limit else list(self._cut(self._prepared(text, None), limit).ids)
            for ids, text in zip(found, texts, strict=True)
        ]

    def _encode(self, texts: Sequence[str], prompt: str | None) -> list[tokenizers.Encoding]:
        prepared = [self._prepared(text, prompt) for text in texts]
        found: list[tokenizers.Encoding] = self._tokenizer.encode_batch(prepared)
        return found

    def _prepared(self, text: str, prompt: str | None) -> str:
        name = self.settings.default_prompt if prompt is None else prompt
        if name is not None and name not in self.settings.prompts:
            raise InputError(
                f"prompt {name!r} is not known", remedy=nearest(name, list(self.settings.prompts))
            )
        text = text if name is None else self.settings.prompts[name] + text
        return text.lower() if self.settings.lowercase else text

    def _cut(self, text: str, limit: int | None = None) -> tokenizers.Encoding:
        self._tokenizer.enable_truncation(limit or self.settings.max_tokens)
        try:
            return self._tokenizer.encode(text)
        finally:
            self._tokenizer.no_truncation()


class PairScorer:
    """Pairs of texts to logits: a reranker (one class), or a judge of how two texts relate."""

    def __init__(self, model: Classifier, tokenizer: tokenizers.Tokenizer) -> None:
        config = model.encoder.config
        self.model, self.labels = model.eval(), model.labels
        self._tokenizer = _ready(tokenizer, config.vocab_size, "classifier")
        self._tokenizer.enable_truncation(config.context, strategy="longest_first")

    @classmethod
    def load(
        cls, path: Path | str, *, dtype: str = "float32", device: torch.device | str = "cpu"
    ) -> PairScorer:
        """The classifier and ``tokenizer.json`` at ``path``."""
        model = load_classifier(path, dtype=dtype, device=device)
        return cls(model, _read_tokenizer(path)[0])

    def logits(self, pairs: Sequence[tuple[str, str]], *, batch: int = 32) -> Vectors:
        """(N, classes); the longer text of a pair beyond the model's positions loses its end."""
        encodings = self._tokenizer.encode_batch(list(pairs))
        return _in_batches(encodings, self.model, self.model.encoder, len(self.labels), batch)


def _ready(tokenizer: tokenizers.Tokenizer, vocab_size: int, name: str) -> tokenizers.Tokenizer:
    """A copy that neither pads nor cuts; raises InputError when it has more tokens than V."""
    known = tokenizer.get_vocab_size(with_added_tokens=True)
    if known > vocab_size:
        raise InputError(
            f"{name}: the tokenizer has {known} tokens, the model {vocab_size}",
            remedy="use the tokenizer the model was trained with",
        )
    copy = tokenizers.Tokenizer.from_str(tokenizer.to_str())
    copy.no_padding()
    copy.no_truncation()
    return copy


def _read_tokenizer(path: Path | str) -> tuple[tokenizers.Tokenizer, dict[str, Any]]:
    folder = transformer_folder(encoder_folder(path))
    file, config = folder / "tokenizer.json", folder / "tokenizer_config.json"
    if not file.is_file():
        raise InputError(f"{folder} has no tokenizer.json", remedy="copy it beside the weights")
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises bare Exception
        raise InputError(f"{file} cannot be read: {error}", remedy="copy it again") from None
    return tokenizer, read_json(config) if config.is_file() else {}


@torch.inference_mode()
def _in_batches(
    encodings: Sequence[tokenizers.Encoding],
    compute: Callable[[Tensor, Tensor, Tensor], Tensor],
    model: Encoder,
    width: int,
    batch: int,
) -> Vectors:
    """Rows of ``compute(ids, mask, types)`` for each encoding, longest first: (N, width)."""
    out = np.zeros((len(encodings), width), dtype=np.float32)
    order = sorted(range(len(encodings)), key=lambda number: -len(encodings[number].ids))
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        longest = len(encodings[rows[0]].ids)
        ids = torch.full((len(rows), longest), model.config.pad_id or 0)
        mask, types = torch.zeros_like(ids), torch.zeros_like(ids)
        for row, number in enumerate(rows):
            length = len(encodings[number].ids)
            ids[row, :length] = torch.tensor(encodings[number].ids)
            types[row, :length] = torch.tensor(encodings[number].type_ids)
            mask[row, :length] = 1
        result = compute(*(part.to(model.device) for part in (ids, mask, types)))
        out[rows] = result.float().cpu().numpy()
    return out
