"""Texts in, bits per byte out: every token scored once, in windows of the model's context."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
from pyarrow import ArrowException

from fledge.core.errors import InputError
from fledge.core.files import read_jsonl
from fledge.core.protocols import Progress, Silent
from fledge.engine.engine import Engine
from fledge.engine.score import score_windows
from fledge.metrics.density import bits_per_byte

WINDOW = 4096
"""The most tokens of a window: models that look back further would need memory for it."""


def evaluate_text(
    engine: Engine,
    files: Sequence[Path],
    *,
    stride: int | None = None,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """``{"path", "bits_per_byte", "bytes", "tokens"}`` for each file, whole.

    A text file is one document; Parquet (column ``text``) and JSONL (key ``text``) hold many,
    scored apart.  ``bytes`` are UTF-8 bytes of the text, so that ``xz -9e`` of the same bytes
    compares.  A document begins with the token that begins documents in training; windows of the
    model's context, at most 4096 tokens, move on by ``stride`` tokens (default: half a window).
    Raises InputError.
    """
    shown = progress or Silent()
    return [_evaluate_file(engine, path, stride, shown) for path in files]


def _evaluate_file(
    engine: Engine, path: Path, stride: int | None, progress: Progress
) -> dict[str, Any]:
    texts = read_texts(path)
    size = sum(len(text.encode("utf-8")) for text in texts)
    if not size:
        raise InputError(f"{path} holds no text", remedy="name a file with text")
    begin = begin_token(engine)
    documents = [[begin, *ids] for ids in engine.tokenizer.encode_batch(texts)]
    tokens = sum(len(ids) - 1 for ids in documents)
    with progress.bar(f"reading {path.name}", tokens, "tokens") as bar:
        nats = score_windows(
            engine.model,
            documents,
            context=window_of(engine),
            stride=stride_of(engine, stride),
            advance=bar.advance,
        )
    total = sum(float(part.sum(dtype="float64")) for part in nats)
    return {
        "path": str(path),
        "bits_per_byte": round(bits_per_byte(total, size), 6),
        "bytes": size,
        "tokens": tokens,
    }


def window_of(engine: Engine) -> int:
    """Tokens of a window: the length the model was trained on, but at most ``WINDOW``."""
    return min(engine.context, WINDOW)


def stride_of(engine: Engine, stride: int | None) -> int:
    """The stride asked for, or half a window; never more than a window."""
    window = window_of(engine)
    return min(stride or max(window // 2, 1), window)


def begin_token(engine: Engine) -> int:
    """The token before the first one of a document."""
    begin = engine.encode_text("") or sorted(engine.stop_ids)
    if not begin:
        raise InputError(
            f"{engine.name} has no token that begins a document", remedy="name one in bos_token_id"
        )
    return begin[0]


def read_texts(path: Path) -> list[str]:
    """The documents of a Parquet, JSONL or UTF-8 text file; raises InputError naming it."""
    if path.suffix == ".parquet":
        return _read_parquet(path)
    if path.suffix == ".jsonl":
        return [_text_of(row, path, line) for line, row in enumerate(list(read_jsonl(path)), 1)]
    try:
        return [path.read_bytes().decode("utf-8")]
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8: {error}", remedy="re-encode the file") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}", remedy="check the path") from None


def _read_parquet(path: Path) -> list[str]:
    try:
        table = parquet.read_table(path, columns=["text"])
    except (ArrowException, OSError) as error:
        raise InputError(
            f"{path} cannot be read as Parquet with a column 'text': {error}",
            remedy="check the path",
        ) from None
    if "text" not in table.column_names:
        raise InputError(f"{path} has no column 'text'", remedy="name a corpus of fledge")
    return [text or "" for text in table["text"].to_pylist()]


def _text_of(row: Any, path: Path, line: int) -> str:
    text = row.get("text") if isinstance(row, dict) else None
    if not isinstance(text, str):
        raise InputError(f"{path}, line {line}: no key 'text'", remedy="one document a line")
    return text
