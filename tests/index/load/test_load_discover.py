"""What inputs name: each file once, with an id that stays, and a reason for what is not read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fledge.core.errors import InputError
from fledge.index.load import LoadConfig, Parsed, Source, discover, owner, parse_all, read
from fledge.index.load.inputs import roots
from fledge.index.load.source import quoted
from fledge.index.loaded import Loaded, Unreadable


def found(
    *inputs: Path | str, config: LoadConfig | None = None, leave_out: list[Path] | None = None
) -> tuple[list[str], dict[str, str]]:
    """(ids of the sources, path -> reason of what is not read)"""
    items = list(discover([str(item) for item in inputs], config, leave_out=leave_out or []))
    ids = [item.id for item in items if isinstance(item, Source)]
    return ids, {item.path: item.reason for item in items if isinstance(item, Unreadable)}


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    for name in ("b.md", "a/z.md", "a/b.txt", "a.md", ".git/config", ".env", "node_modules/x.js"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"text of {name}")
    return folder


def test_a_folder_is_walked_in_order_and_what_is_left_out_is_said(docs: Path) -> None:
    ids, reasons = found(docs)
    assert ids == ["docs/a/b.txt", "docs/a/z.md", "docs/a.md", "docs/b.md"]
    assert reasons == {
        f"{docs}/.git/": "hidden", f"{docs}/.env": "hidden", f"{docs}/node_modules/": "skipped",
    }  # fmt: skip
    ids, reasons = found(docs, config=LoadConfig(hidden=True, skip_folders=[]))
    assert len(ids) == 7
    assert not reasons


def test_ids_do_not_depend_on_where_a_folder_is_named_from(
    docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = found(docs)[0]
    monkeypatch.chdir(docs.parent)
    assert found("docs")[0] == expected
    assert found("./docs/")[0] == expected
    monkeypatch.chdir(docs)
    assert found(".")[0] == expected
    assert found(docs / "a" / "b.txt")[0] == ["b.txt"]


def test_globs_give_the_ids_of_their_base(docs: Path) -> None:
    assert found(f"{docs}/**/*.md")[0] == ["docs/a/z.md", "docs/a.md", "docs/b.md"]
    assert found(f"{docs}/*.md", docs)[0] == found(docs)[0]
    assert found(f"{docs}/[a]*")[0] == ["docs/a/b.txt", "docs/a/z.md", "docs/a.md"]
    with pytest.raises(InputError, match="matches no file"):
        found(f"{docs}/*.nothing")
    with pytest.raises(InputError, match="does not exist"):
        found(docs / "nothing")


def test_a_file_named_twice_is_read_once(docs: Path) -> None:
    ids, _ = found(docs / "a", docs / "a.md", f"{docs}/*.md", docs, f"{docs}/../docs")
    assert sorted(ids) == sorted(found(docs)[0])


def test_inputs_of_one_name_are_told_apart_by_what_stands_above(tmp_path: Path) -> None:
    for name in ("x/docs", "y/docs", "y/more"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "a.md").write_text("text")
    ids, _ = found(tmp_path / "x/docs", tmp_path / "y/docs", tmp_path / "y/more")
    assert ids == ["more/a.md", "x/docs/a.md", "y/docs/a.md"]
    ids, _ = found(tmp_path / "x/docs/a.md", tmp_path / "y/docs/a.md")
    assert ids == ["x/docs/a.md", "y/docs/a.md"]


@given(st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=4), min_size=1, max_size=6))
def test_names_of_inputs_differ(parts: list[list[str]]) -> None:
    paths = list(dict.fromkeys(Path("/", *part) for part in parts))
    names = roots(paths)
    assert len(set(names.values())) == len(paths)
    assert all(str(path).endswith(names[path]) for path in paths)


def test_links_are_followed_inside_the_folder_only(docs: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.txt"
    outside.write_text("secret")
    (docs / "out.txt").symlink_to(outside)
    (docs / "again.md").symlink_to(docs / "a.md")
    (docs / "loop").symlink_to(docs)
    (docs / "a" / "self").symlink_to(docs / "a" / "self")
    (docs / "gone.md").symlink_to(docs / "no.md")
    os.mkfifo(docs / "pipe.txt")
    ids, reasons = found(docs)
    assert ids == ["docs/a/b.txt", "docs/a/z.md", "docs/a.md", "docs/b.md"]
    assert reasons[f"{docs}/out.txt"] == "escapes"
    assert reasons[f"{docs}/loop"] == "link"
    assert reasons[f"{docs}/a/self"] == "link"
    assert reasons[f"{docs}/gone.md"] == "link"
    assert reasons[f"{docs}/pipe.txt"] == "unsupported"


def test_results_of_fledge_and_the_index_itself_are_passed_over(docs: Path) -> None:
    stage = docs / "runs" / "corpus"
    (stage / "documents").mkdir(parents=True)
    (stage / "dropped").mkdir()
    (stage / "manifest.json").write_text(json.dumps({"stage": "corpus", "key": "x"}))
    (stage / "documents" / "a.jsonl").write_text('{"text": "kept"}')
    (stage / "dropped" / "b.jsonl").write_text('{"text": "dropped"}')
    index = docs / "notes.index"
    index.mkdir()
    (index / "index.txt").write_text("own")
    ids, reasons = found(docs, leave_out=[index])
    assert len(ids) == 4
    assert reasons[f"{stage}/"] == "own_result"
    assert not any("notes.index" in path for path in reasons)
    assert found(stage)[0] == ["corpus/documents/a.jsonl"]


def test_names_that_ids_reserve_are_escaped(tmp_path: Path) -> None:
    for name in (
        "c#.md",
        "a!b.md",
        "50%.md",
        "新聞.md",
        b"bad\xff.md".decode(errors="surrogateescape"),
    ):
        (tmp_path / name).write_text("text")
    ids, _ = found(tmp_path)
    base = tmp_path.name
    assert sorted(ids) == sorted(
        [
            f"{base}/c%23.md",
            f"{base}/a%21b.md",
            f"{base}/50%25.md",
            f"{base}/新聞.md",
            f"{base}/bad%ED%B3%BF.md",
        ]
    )
    for item in read([str(tmp_path)]):
        assert isinstance(item, Loaded)
        assert owner(item.document.id) == item.document.id
        item.path.encode()


@given(st.text(max_size=20), st.text(max_size=20), st.text(max_size=20))
def test_the_owner_of_a_document_is_its_source(name: str, member: str, record: str) -> None:
    source = quoted(name)
    assert owner(source) == source
    assert owner(f"{source}!{quoted(member)}#{quoted(record)}") == source


def test_a_change_is_seen_without_parsing(docs: Path) -> None:
    def look() -> dict[str, tuple[str, str]]:
        return {s.id: (s.stamp, s.digest()) for s in discover([str(docs)]) if isinstance(s, Source)}

    before = look()
    assert look() == before
    path = docs / "a.md"
    path.write_text("other words of any length")
    after = look()
    assert {id for id in before if before[id] != after[id]} == {"docs/a.md"}
    os.utime(path, ns=(1, 1))
    touched = look()["docs/a.md"]
    assert touched[0] != after["docs/a.md"][0]
    assert touched[1] == after["docs/a.md"][1]


def test_the_digest_of_what_was_parsed_comes_with_it(docs: Path) -> None:
    sources = [item for item in discover([str(docs)]) if isinstance(item, Source)]
    parsed = list(parse_all(sources))
    assert [one.source for one in parsed] == sources
    for one in parsed:
        assert isinstance(one, Parsed)
        assert one.digest == one.source.digest()
        assert owner(one.documents[0].document.id) == one.source.id


def test_a_file_that_changes_while_it_is_read_is_refused(
    docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fledge.index.load import parsing as module

    real = module.parse_blob

    def slow(*args: object) -> object:
        yield from real(*args)  # type: ignore[arg-type]
        (docs / "a.md").write_text("meanwhile it grew")

    monkeypatch.setattr(module, "parse_blob", slow)
    [source] = [s for s in discover([str(docs / "a.md")]) if isinstance(s, Source)]
    [item] = module.parse(source).items
    assert isinstance(item, Unreadable)
    assert item.reason == "changed"


def test_a_file_that_vanished_is_unreadable(docs: Path) -> None:
    [source] = [s for s in discover([str(docs / "a.md")]) if isinstance(s, Source)]
    (docs / "a.md").unlink()
    [parsed] = parse_all([source])
    assert parsed.unreadable[0].reason == "unreadable"
    assert parsed.digest == ""


def test_loading_text_imports_nothing_heavy(docs: Path) -> None:
    program = (
        "import sys; from fledge.index.load import read; n = len(list(read(sys.argv[1:])));"
        "heavy = {'torch', 'pyarrow', 'lxml', 'pypdfium2', 'httpx'} & set(sys.modules);"
        "sys.exit(f'{n} {heavy}' if heavy or n != 7 else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(docs)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
