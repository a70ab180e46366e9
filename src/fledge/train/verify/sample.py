"""The built-in sample world in, a tokenizer, token shards and conversations to verify with out."""

from __future__ import annotations

from pathlib import Path

from fledge.core.files import read_jsonl
from fledge.core.protocols import Silent
from fledge.core.types import Document
from fledge.data.config import TokensConfig
from fledge.data.shards import DOCUMENTS, write_rows
from fledge.data.tokens import write_tokens
from fledge.samples.bridges.config import SamplesConfig
from fledge.samples.bridges.world import write_world
from fledge.tokenizer.config import TokenizerConfig
from fledge.tokenizer.tokenizer import Tokenizer
from fledge.tokenizer.train import train_tokenizer

SMALL = SamplesConfig(
    bridges=4,
    pages_per_bridge=1,
    specification=False,
    warc_files=1,
    conversations_per_bridge=4,
    turns_per_bridge=3,
    calculations_per_bridge=1,
    invented_bridges=2,
    unanswerable_questions=1,
    arithmetic_questions=1,
)
VOCABULARY = 600


def write_sample(folder: Path) -> Path:
    """Write the world; its conversations are the file returned, its texts ``texts()`` below."""
    write_world(SMALL, folder, Silent())
    return folder / "conversations" / "train.jsonl"


def texts(folder: Path) -> list[tuple[str, str]]:
    """(language, text) of the pages worth keeping."""
    pages = read_jsonl(folder / "truth" / "pages.jsonl")
    return [(str(p["language"]), str(p["text"])) for p in pages if p["keep"] and p["text"]]


def sample_tokenizer(folder: Path, out: Path) -> Tokenizer:
    """A tokenizer trained on the world."""
    pages = texts(folder)
    train_tokenizer(TokenizerConfig(vocab_size=VOCABULARY), lambda: pages, lambda: pages, out)
    return Tokenizer.load(out)


def sample_tokens(folder: Path, tokenizer: Tokenizer, out: Path) -> Path:
    """The world's pages as token shards, every eighth held out."""
    pages = [
        Document(id=f"sample-{i}", text=text, lang=lang)
        for i, (lang, text) in enumerate(texts(folder))
    ]
    for split, chosen in (("validation", pages[::8]), ("train", [*pages[1::2], *pages[2::4]])):
        rows = [{**vars(page), "metadata": "{}"} for page in chosen]
        write_rows(folder / "documents" / f"{split}-00000.parquet", rows, DOCUMENTS)
    out.mkdir(parents=True, exist_ok=True)
    write_tokens(TokensConfig(), folder, tokenizer, out)
    return out
