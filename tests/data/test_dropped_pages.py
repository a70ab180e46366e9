"""What becomes of pages that fail, repeat or tell secrets; and of corpora without a document."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from web_pages import article, prose

import fledge.data.curate as steps
from fledge.core.errors import InputError
from fledge.data.config import CorpusConfig
from fledge.data.corpus import build_corpus, corpus_stats
from fledge.data.curate import curate, curate_or_drop
from fledge.data.documents import read_documents, read_dropped
from fledge.data.preview import extract_file
from fledge.data.records import RawRecord
from fledge.data.showing import shown, shown_evidence

CONFIG = CorpusConfig(workers=1)


def page(text: str, title: str = "Story") -> RawRecord:
    return RawRecord(source="a.html", content=article(title, text).encode(), kind="html", web=True)


@pytest.mark.parametrize("kind", [TypeError, AttributeError, AssertionError, SyntaxError])
def test_whatever_a_step_raises_costs_one_page(
    kind: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "extract_html", _raising(kind("no tree")))
    draft = curate_or_drop(page(prose(1)), CONFIG)
    assert draft.verdict is not None
    assert draft.verdict.reason == "failed.error"
    assert draft.verdict.evidence.startswith(f"{kind.__name__}: ")
    path = tmp_path / "a.html"
    path.write_text(article("Story", prose(1)))
    [line] = extract_file(path)
    assert line["dropped"] == "failed.error"


@pytest.mark.parametrize("kind", [OSError, ImportError])
def test_what_is_no_fault_of_the_page_still_raises(
    kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "extract_html", _raising(kind("no disk")))
    with pytest.raises(kind):
        curate_or_drop(page(prose(1)), CONFIG)


def _raising(error: Exception) -> Any:
    def fail(*_: object) -> None:
        raise error

    return fail


def test_of_two_members_of_one_name_one_stays(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "set.tar", "w") as archive:
        for content in (prose(1), prose(1), prose(2)):
            info = tarfile.TarInfo("a.txt")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content.encode()))
    config = CorpusConfig(workers=1, validation_share=0.0)
    build_corpus(config, [tmp_path / "set.tar"], tmp_path / "out")
    kept = sorted(document.text for document in read_documents(tmp_path / "out", "train"))
    assert kept == sorted([prose(1), prose(2)])
    assert [reason for _, reason, _ in read_dropped(tmp_path / "out")] == ["duplicate.exact"]


def test_the_title_is_masked_like_the_text() -> None:
    draft = curate(page(prose(1), "Write to bob@example.org"), CONFIG)
    assert draft.verdict is None
    assert draft.text.startswith("Write to <EMAIL>\n")
    assert draft.metadata["title"] == "Write to <EMAIL>"
    kept = curate(page(prose(1), "Write to bob@example.org"), CorpusConfig(pii="keep"))
    assert kept.metadata["title"] == "Write to bob@example.org"


SECRET = "ghp_" + "a1B2c3D4e5" * 4


def test_samples_of_dropped_pages_tell_nothing_private(tmp_path: Path) -> None:
    french = "Le pont franchit la rivière et porte encore une petite route du village. " * 6
    pages = {
        "fr.txt": f"Écrivez à bob@example.org, jeton {SECRET}. {french}",
        "short.html": article("Soon", f"Mail bob@example.org, key {SECRET}"),
        "good.txt": prose(1),
    }
    for name, text in pages.items():
        (tmp_path / name).write_text(text)
    build_corpus(CONFIG, [tmp_path], tmp_path / "out")
    stats = corpus_stats(tmp_path / "out")
    assert set(stats["dropped"]) == {"language.fr", "quality.too_short"}
    assert "<EMAIL>" in stats["samples"]["language.fr"][0]["text"]
    said = json.dumps(stats)
    assert "bob@" not in said
    assert "ghp_" not in said


@pytest.mark.parametrize("length", range(12, 60, 3))
def test_a_cut_through_something_private_shows_nothing_of_it(length: int) -> None:
    text = f"Ask bob@example.org or {SECRET} now. " + prose(1)
    evidence = shown_evidence(text[:length], text)
    assert "bob@e" not in evidence
    assert "ghp_a" not in evidence
    long = "word " * 30 + text
    assert "bob@" not in shown(long)


def test_a_corpus_without_a_document_says_why(tmp_path: Path) -> None:
    german = "Die Brücke führt seit dem achtzehnten Jahrhundert über den Fluss und trägt den Weg. "
    for number in range(3):
        (tmp_path / f"{number}.txt").write_text(german * 5 + str(number) * 5)
    (tmp_path / "short.html").write_text(article("Soon", "Too short."))
    for _ in range(2):  # the finished statistics are found again
        with pytest.raises(InputError, match=r"no document.* 4 \(language\.de 3, quality") as seen:
            build_corpus(CONFIG, [tmp_path], tmp_path / "out")
        assert "--set languages='[\"de\"]' keeps" in seen.value.remedy


def test_extract_says_that_a_file_ends_too_early(tmp_path: Path) -> None:
    import gzip

    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress("\n".join(prose(i) for i in range(50)).encode())[:-400])
    rows = []
    with pytest.raises(InputError, match=r"a\.txt\.gz ends too early"):
        rows.extend(extract_file(path))
    found = extract_file(path)
    assert next(found)["text"]  # what is there is shown first
