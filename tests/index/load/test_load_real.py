"""Real documents: proposals in reStructuredText, a Chinese book in Markdown, pages of the web."""

from __future__ import annotations

import io
import json
import re
import tarfile
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard
from loading import check

from fledge.data.decode import decode
from fledge.data.extract import extract_html
from fledge.index.load import LoadConfig, Source, discover, parse_all, read
from fledge.index.load.config import Limits
from fledge.index.loaded import Loaded, Unreadable

pytestmark = pytest.mark.shared


def records(path: Path) -> Iterator[dict[str, str]]:
    with path.open("rb") as raw:
        stream = zstandard.ZstdDecompressor().stream_reader(raw)
        for line in io.TextIOWrapper(stream, encoding="utf-8"):
            yield json.loads(line)


def written(rows: Iterator[dict[str, str]], folder: Path) -> dict[str, str]:
    """The files of a set below ``folder``: path -> text."""
    texts = {}
    for row in rows:
        path = folder / row["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(row["text"], encoding="utf-8")
        texts[str(path)] = row["text"]
    return texts


def squeezed(text: str) -> str:
    """What stands in a text, in NFC, whatever its blanks."""
    return "".join(unicodedata.normalize("NFC", text).split())


def test_proposals_are_read_as_they_are(fledge_data: Path, tmp_path: Path) -> None:
    texts = written(records(fledge_data / "python_peps" / "peps.jsonl.zst"), tmp_path / "in")
    items = list(read([str(tmp_path / "in")]))
    assert len(items) == len(texts) == 594
    languages: Counter[str] = Counter()
    for item in items:
        check(item)
        assert isinstance(item, Loaded), item
        assert item.document.id == f"in/{Path(item.path).relative_to(tmp_path / 'in').as_posix()}"
        assert squeezed(item.document.text) == squeezed(texts[item.path])
        languages[item.document.lang] += 1
    assert languages["en"] >= 590


def test_a_chinese_book_keeps_its_headings(fledge_data: Path, tmp_path: Path) -> None:
    texts = written(records(fledge_data / "rust_book_zh" / "docs.jsonl.zst"), tmp_path)
    items = [item for item in read([str(tmp_path)]) if isinstance(item, Loaded)]
    assert len(items) == len(texts)
    titled = chinese = 0
    for item in items:
        check(item)
        shown = re.sub(r"<!--.*?-->", "", texts[item.path], flags=re.DOTALL)
        assert abs(len(squeezed(item.document.text)) - len(squeezed(shown))) <= 0.02 * len(shown)
        titled += bool(item.document.metadata.get("title"))
        chinese += item.document.lang == "zh-Hans"
    assert titled >= 0.95 * len(items)
    assert chinese >= 0.9 * len(items)


@pytest.mark.slow
def test_pages_of_the_web_are_read_from_their_archive(fledge_data: Path) -> None:
    archive = fledge_data / "trafilatura_eval" / "trafilatura_eval.tar.zst"
    config = LoadConfig(limits=Limits(seconds=600))
    [source] = [item for item in discover([str(archive)], config) if isinstance(item, Source)]
    [parsed] = parse_all([source], config)
    pages = {name: data for name, data in members(archive) if name.endswith(".html")}
    of_pages = [item for item in parsed.items if item.path.endswith(".html")]
    loaded = [item for item in of_pages if isinstance(item, Loaded)]
    refused = Counter(item.reason for item in of_pages if isinstance(item, Unreadable))
    assert len(of_pages) == len(pages)
    assert len(loaded) >= 0.97 * len(pages), refused
    assert set(refused) <= {"truncated", "no_text", "broken"}
    headings = common = total = 0
    for item in loaded:
        check(item)
        text = decode(pages[item.path.partition("!")[2]])
        plain = extract_html(text or "")
        assert plain is not None
        headings += bool(re.search(r"^#{1,6} ", item.document.text, re.MULTILINE))
        words, said = words_of(plain.text), words_of(item.document.text)
        common += sum((words & said).values())
        total += sum(words.values())
    assert headings >= 0.9 * len(loaded)
    assert common >= 0.98 * total  # marks of headings cost no words


def words_of(text: str) -> Counter[str]:
    return Counter(re.findall(r"\w+", text))


def members(archive: Path) -> Iterator[tuple[str, bytes]]:
    with archive.open("rb") as raw:
        stream = zstandard.ZstdDecompressor().stream_reader(raw)
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            for information in tar:
                if information.isfile():
                    inner = tar.extractfile(information)
                    assert inner is not None
                    yield information.name, inner.read()
