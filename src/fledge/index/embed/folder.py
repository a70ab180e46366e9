"""A folder with an encoder in, an embedder out: many texts by PyTorch, few without it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fledge.index.embed.numpy_encoder import NumpyEncoder
from fledge.index.embed.protocol import Vectors
from fledge.index.embed.revision import folder_revision
from fledge.index.embed.trust import GATE, read_languages, trust

if TYPE_CHECKING:
    from fledge.model.text_encoder import TextEncoder

BATCH_TOKENS = {"cpu": 2048, "cuda": 65_536}
"""The most of a batch, padding included.  On a CPU more leaves the caches: MiniLM took two thirds
longer a text with 8,192, in bfloat16 with AMX."""
FEW = 8
"""So many texts at most, a query or what changed in a page, are embedded without PyTorch."""
READS = {
    "en": "The bridge across the river was opened to traffic in the spring of that year.",
    "zh-Hans": "这座大桥横跨长江，于那年春天建成通车，是当时世界上最长的桥梁。",
    "zh-Hant": "這座大橋橫跨長江，於那年春天建成通車，是當時世界上最長的橋樑。",
}
"""What an embedder that was never measured must at least have tokens for."""


class FolderEmbedder:
    """An encoder of the BERT family, in any folder that ``TextEncoder`` opens.

    ``measured``: mean reciprocal rank per language (``measure_languages``); None: what the folder
    says, else full trust in each of ``READS`` that its tokenizer can read.
    """

    def __init__(
        self, folder: Path, name: str = "", measured: dict[str, float] | None = None
    ) -> None:
        self.folder, self.name = folder, name or folder.resolve().name
        self._few = NumpyEncoder(folder)
        self.dimensions = self._few.dimensions
        known = measured if measured is not None else read_languages(folder)
        self.measured = known is not None
        self._trust = known if known is not None else self._readable()
        self.languages = tuple(sorted(key for key, value in self._trust.items() if value >= GATE))

    @cached_property
    def revision(self) -> str:
        """Of weights, tokenizer and settings."""
        return folder_revision(self.folder)

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Vectors of passages: (N, D) float32."""
        return self._vectors(texts, self._prompt("passage", "document"))

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Vectors of queries: (N, D) float32."""
        return self._vectors(texts, self._prompt("query"))

    def _vectors(self, texts: Sequence[str], prompt: str | None) -> Vectors:
        if len(texts) <= FEW:
            return self._few.vectors(texts, prompt=prompt)
        out = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        lengths = self._encoder.count_tokens(texts, prompt=prompt)
        most = self._encoder.settings.max_tokens
        room = BATCH_TOKENS[self._encoder.model.device.type]
        for rows in batches([min(length, most) for length in lengths], room):
            part = [texts[row] for row in rows]
            out[rows] = self._encoder.vectors(part, prompt=prompt, batch=len(rows))
        return out

    def serves(self, language: str) -> float:
        """The measured figure of a language, or 1 where only reading could be tested."""
        return trust(self._trust, language)

    def close(self) -> None:
        """Nothing to let go of."""

    @cached_property
    def _encoder(self) -> TextEncoder:
        from fledge.model.text_encoder import TextEncoder

        dtype, device = _arithmetic()
        return TextEncoder.load(self.folder, dtype=dtype, device=device)

    def _prompt(self, *names: str) -> str | None:
        known = self._few.settings.prompts
        return next((name for name in names if name in known), None)

    def _readable(self) -> dict[str, float]:
        return {lang: float(self._few.knows(text)) for lang, text in READS.items()}


def batches(lengths: Sequence[int], most: int) -> Iterator[list[int]]:
    """Numbers of texts that share a batch of ``most`` tokens, longest first, so little padding."""
    order = sorted(range(len(lengths)), key=lambda number: -lengths[number])
    start = 0
    while start < len(order):
        rows = max(1, most // max(1, lengths[order[start]]))
        yield order[start : start + rows]
        start += rows


def _arithmetic() -> tuple[str, str]:
    """The number type and the device for passages: bfloat16 where this machine gains by it."""
    import torch

    from fledge.train.device import bfloat16_pays, cpu_has_bfloat16

    if torch.cuda.is_available():
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return ("bfloat16" if native else "float32"), "cuda"
    return ("bfloat16" if cpu_has_bfloat16() and bfloat16_pays() else "float32"), "cpu"
