"""A checkpoint from anywhere in: what it is, its weights, its tokenizer, its other files out."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from torch import Tensor, nn

from fledge.core.files import read_json, write_json, write_text
from fledge.core.protocols import Progress
from fledge.model.checkpoint import load_model
from fledge.model.encoder_checkpoint import (
    encoder_folder,
    load_classifier,
    load_encoder,
    load_masked_lm,
    unused_tensors,
)
from fledge.model.gguf.magic import is_gguf
from fledge.model.gguf.read import GgufFile
from fledge.model.gguf.vocabulary import TokenizerFiles
from fledge.model.locate import find_checkpoint
from fledge.model.sentence_folder import MODULES, transformer_folder
from fledge.model.stored import DTYPES as STORED_DTYPES
from fledge.model.stored import StoredTensors
from fledge.model.weights import DTYPES
from fledge.tokenizer.tokenizer import CONFIG_FILE, MODEL_FILE

ENCODERS = {
    "BertModel": load_encoder,
    "BertForSequenceClassification": load_classifier,
    "BertForMaskedLM": load_masked_lm,
    "BertForPreTraining": load_masked_lm,
}
"""Architecture -> how it is loaded; every other one is a decoder's business."""

TYPES = {**STORED_DTYPES, "Q8_0": torch.float32}
"""safetensors' and GGUF's words for types -> the narrowest of torch's that holds them."""

NAMES = {dtype: name for name, dtype in DTYPES.items()}

TOKENIZER_FILES = (
    MODEL_FILE,
    CONFIG_FILE,
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "vocab.txt",
)
"""What a tokenizer leaves in a Hugging Face directory."""

KEPT = ("LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*")
"""What has to travel with the weights."""


@dataclass(frozen=True)
class Source:
    """A checkpoint that was found, not yet read."""

    kind: str
    """ "gguf", "decoder" or "encoder"."""
    path: Path
    """The file, or the folder with config.json and the weights."""
    top: Path
    """The folder with what is not weights (above ``path`` in some sentence-transformers ones)."""
    architecture: str
    """As the checkpoint calls it."""
    stored: dict[str, int]
    """Type as stored -> number of weights."""

    @property
    def dtype(self) -> str:
        """The type that holds most weights as they are: "float32", "float16" or "bfloat16"."""
        most = max(self.stored, key=lambda name: self.stored[name], default="F32")
        return NAMES.get(TYPES[most], "float32")

    def files(self) -> list[Path]:
        """Every file that decides what is imported."""
        if self.kind == "gguf":
            return [self.path]
        folders = {self.path, self.top}
        if (self.top / MODULES).is_file():  # how a sentence-transformers folder pools
            folders |= {file.parent for file in self.top.glob("*/config.json")}
        names = ("*.json", "*.safetensors", "*.jinja", "*.txt", *KEPT)
        found = {file for folder in folders for name in names for file in folder.glob(name)}
        return sorted(file for file in found if file.is_file())

    def load(self, dtype: str, progress: Progress) -> nn.Module:
        """The model, holding its weights in ``dtype``; raises InputError for a broken one."""
        if self.kind == "gguf":
            return GgufFile(self.path).decoder(dtype, progress=progress)
        if self.kind == "encoder":
            return ENCODERS[self.architecture](self.top, dtype=dtype)
        return load_model(self.path, dtype=dtype)

    def rounded_to(self, dtype: str) -> list[str]:
        """The types as stored of weights that ``dtype`` cannot hold exactly, sorted."""
        wanted = DTYPES[dtype]
        doubtful = [k for k in self.stored if torch.promote_types(TYPES[k], wanted) != wanted]
        return sorted(
            kind
            for kind in doubtful
            if any(not torch.equal(t.to(wanted).to(t.dtype), t) for t in self._tensors(kind))
        )

    def left_out(self, model: nn.Module) -> list[str]:
        """Stored tensors that have no place in an encoder ``model``; decoders leave none out."""
        return unused_tensors(self.path, model) if self.kind == "encoder" else []

    def _tensors(self, kind: str) -> Iterator[Tensor]:
        """The weights stored as ``kind``, one by one."""
        if self.kind == "gguf":
            yield from (tensor for _, tensor in GgufFile(self.path).tensors([kind]))
            return
        with StoredTensors(self.path) as stored:
            yield from (stored.read(name) for name in stored.names if stored.kind(name) == kind)

    def tokenizer(self) -> TokenizerFiles:
        """Its tokenizer; raises InputError when there is none."""
        if self.kind == "gguf":
            model, config = GgufFile(self.path).tokenizer_files()
            return TokenizerFiles(self.path, model, config)
        return TokenizerFiles.load(self._tokenizer_folder())

    def copy_rest(self, folder: Path) -> None:
        """Write what is neither weights nor config: tokenizer, generation config, licence."""
        if self.kind == "gguf":
            files = self.tokenizer()
            write_text(folder / MODEL_FILE, json.dumps(files.model, ensure_ascii=False, indent=2))
            write_json(folder / CONFIG_FILE, files.config)
            return
        place = self._tokenizer_folder()
        for name in TOKENIZER_FILES:
            if (place / name).is_file():
                shutil.copyfile(place / name, folder / name)
        if (self.path / "generation_config.json").is_file():
            read_json(self.path / "generation_config.json")  # a broken one is not passed on
            shutil.copyfile(self.path / "generation_config.json", folder / "generation_config.json")
        for pattern in KEPT:
            for file in self.top.glob(pattern):
                shutil.copyfile(file, folder / file.name)

    def _tokenizer_folder(self) -> Path:
        return self.path if (self.path / MODEL_FILE).is_file() else self.top


def open_source(path: Path | str) -> Source:
    """What ``path`` is: a GGUF file, or a Hugging Face, stage or run directory.

    Raises InputError when there is no checkpoint or one whose header is broken.
    """
    path = Path(path)
    if is_gguf(path):
        file = GgufFile(path)
        architecture = str(file.fields.get("general.architecture"))
        return Source("gguf", path, path.parent, architecture, file.stored)
    top = encoder_folder(path)
    folder = find_checkpoint(transformer_folder(top))
    values = read_json(folder / "config.json")
    named = values.get("architectures") if isinstance(values, dict) else None
    architecture = str(named[0]) if isinstance(named, list) and named else "none"
    kind = "encoder" if architecture in ENCODERS else "decoder"
    return Source(kind, folder, top, architecture, stored_types(folder))


def stored_types(folder: Path) -> dict[str, int]:
    """Type -> number of weights, from the headers of the safetensors files of ``folder``."""
    counts: Counter[str] = Counter()
    with StoredTensors(folder) as stored:
        for name in stored.names:
            counts[stored.kind(name)] += prod(stored.shape(name))
    return {kind: count for kind, count in counts.items() if kind in TYPES}
