"""Files that are damaged, hostile or huge: each is read whole or reported, and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import hostile_work
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loading import check, load, load_one, source
from made_office import docx, p, pptx, shape, table, xlsx, zipped
from made_pdf import paragraph, pdf
from mutations import damaged

from fledge.index.load import LoadConfig, Source, discover, parse_all, reading
from fledge.index.load.config import Limits
from fledge.index.load.pdf_syntax import syntax_problem
from fledge.index.loaded import Loaded, Unreadable

PARTS = [" ".join(f"w{n}x" for n in range(100 * part, 100 * part + 100)) for part in range(6)]
WORDS = " ".join(PARTS).split()
WHOLE = {
    "a.pdf": pdf([paragraph(part) for part in PARTS], packed=True),
    "a.docx": docx("".join(map(p, PARTS)) + table([["a", "b"], ["1", "2"]])),
    "a.html": (
        "<html><head><title>T</title></head><body><article><h1>Heading</h1>"
        + "".join(f"<p>{part}.</p>" for part in PARTS)
        + "</article></body></html>"
    ).encode(),
}


def test_two_hundred_and_ten_damaged_files_are_read_whole_or_reported() -> None:
    names = [name for name in WHOLE for _ in range(70)]
    files = [damaged(WHOLE[name], seed) for seed, name in enumerate(names)]
    sources = [source(name, data) for name, data in zip(names, files, strict=True)]
    outcomes: Counter[tuple[str, str]] = Counter()
    for one, parsed in zip(sources, parse_all(sources), strict=True):
        assert parsed.source is one
        [item] = parsed.items
        check(item)
        if isinstance(item, Unreadable):
            outcomes[one.name, item.reason] += 1
            continue
        outcomes[one.name, "loaded"] += 1
        if one.name != "a.html":  # a hole in the letters of a page is text like any other
            assert [word for word in WORDS if word not in item.document.text] == []
    assert sum(outcomes.values()) == 210
    for name in WHOLE:
        assert outcomes[name, "loaded"]  # harmless damage is not refused
        assert (
            sum(n for (of, reason), n in outcomes.items() if of == name and reason != "loaded") > 15
        )
    assert not {reason for _, reason in outcomes} & {"crashed", "timeout", "memory"}


MORE = {
    "a.pptx": pptx([(shape("One", "title") + shape("text"), shape("notes", "body"))]),
    "a.xlsx": xlsx(
        {"S": '<row r="1"><c r="A1" t="s"><v>0</v></c><c r="B1"><v>2</v></c></row>'}, ["x"]
    ),
    "a.zip": zipped({"a.txt": "text", "b.zip": zipped({"c.md": "# C"})}),
    "a.json": json.dumps([{"id": 1, "text": "one", "x": {"y": [1, 2]}}]).encode(),
    "a.jsonl": b'{"id": 1, "text": "one"}\n{"id": 2, "text": "two"}\n',
    "a.csv": b'a,b\n"1,2",3\n4,"5\n6"\n',
    "a.md": b"---\ntitle: x\n---\n# A\n\n<!-- c -->\n```\ncode\n```\n",
    "a.eml": b"Subject: x\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n"
    b"--b\n\nhello\n--b\nContent-Type: text/plain\n"
    b"Content-Disposition: attachment; filename=a.txt\n\nattached\n--b--\n",
    "a.mbox": b"From a\nSubject: x\n\nhello\n\nFrom b\nSubject: y\n\nworld\n",
}


@settings(max_examples=250, deadline=None)
@given(st.sampled_from(sorted(MORE)), st.integers(0, 10**6), st.integers(1, 3))
def test_no_damage_makes_a_parser_raise(name: str, seed: int, times: int) -> None:
    data = MORE[name]
    for again in range(times):
        data = damaged(data, seed + again) or b"x"
    load(name, data)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([*WHOLE, *MORE, "a.tar", "a.gz", "a.parquet", "a.py", "a"]),
    st.binary(max_size=200),
)
def test_noise_by_any_name_is_read_or_reported(name: str, data: bytes) -> None:
    load(name, data)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80))
def test_slips_of_syntax_are_told_not_raised(body: bytes) -> None:
    assert isinstance(syntax_problem(body), str)


@pytest.mark.parametrize(
    ("body", "fine"),
    [
        (b"<< /A 1 /B [1 0 R (x\\)(y)) <0aF>] /C << /D /E >> >>", True),
        (b"<</Type/Page/Kids[3 0 R 4 0 R]/Neg --5/Ok true%comment\n>>", True),
        (b"[0 -1.5 .5 null]", True),
        (b"<< /A 1 /B >>", False),
        (b"<< /A 1 2 >>", False),
        (b"<< 1 /A >>", False),
        (b"<< /A [1 >>", False),
        (b"<< /A (x >>", False),
        (b"<< /A R >>", False),
        (b"<< /A \xd7 >>", False),
        (b">>", False),
        (b"<< /A 1 >> n", False),
        (b"", True),
    ],
)
def test_syntax_of_objects(body: bytes, fine: bool) -> None:
    assert (syntax_problem(body) == "") is fine


HOSTILE_MARKDOWN = {
    "quotes": ">" * 100_000 + " deep",
    "brackets": "[" * 100_000 + "text",
    "links": "[a](" * 50_000,
    "emphasis": "*a_" * 100_000,
    "comments": "<!--" * 100_000,
    "fences": "```\n" * 100_000,
    "tables": "|" * 200_000 + "\n" + "|-" * 100_000,
    "front": "---\n" + "a: b\n" * 100_000,
    "blank": " \t" * 100_000 + "x",
    "heading": "# " + " " * 200_000 + "x",
    "spaces": ("x" + " " * 50_000) * 4,
    "code": "f(" * 4_000 + ")" * 4_000 + ";",
    "equals": "a=" * 50_000,
}


@pytest.mark.parametrize("name", HOSTILE_MARKDOWN)
@pytest.mark.timeout(20)
def test_hostile_markdown_takes_no_time(name: str) -> None:
    text = HOSTILE_MARKDOWN[name]
    for suffix in ("md", "txt", "py", "html", "csv"):
        load(f"a.{suffix}", text.encode())


def test_spaces_nobody_sees_and_scripts_are_only_text() -> None:
    text = "A<script>alert(1)</script> [x](javascript:alert(1)) \u202eabc\u200b."
    assert load_one("a.md", text.encode()).document.text == text


@pytest.mark.timeout(20)
def test_a_pdf_of_nothing_but_beginnings_takes_no_time() -> None:
    for trick in (b"BT " * 300_000, b"1 0 obj " * 100_000, b"(" * 300_000, b"1 " * 300_000 + b"R"):
        head = b"%PDF-1.7\n1 0 obj\n<< /Length " + str(len(trick)).encode() + b" >>\nstream\n"
        load("a.pdf", head + trick + b"\nendstream\nendobj\n%%EOF\n")
        load("a.pdf", b"%PDF-1.7\n1 0 obj\n" + trick + b"\nendobj\n%%EOF\n")


@pytest.fixture
def hostile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_work", hostile_work.work)


def outcomes(names: list[str], config: LoadConfig) -> dict[str, str]:
    sources = [source(name, WHOLE["a.pdf"]) for name in names]
    parsed = list(parse_all(sources, config))
    assert [one.source.name for one in parsed] == names
    items = [item for one in parsed for item in one.items]
    return {item.path: item.reason if isinstance(item, Unreadable) else "loaded" for item in items}


@pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_AS")
def test_a_file_that_kills_or_starves_its_parser_is_reported(hostile: None) -> None:
    config = LoadConfig(limits=Limits(seconds=1, memory_bytes=1 << 30), workers=2)
    names = ["1.pdf", "crash.pdf", "2.pdf", "a.txt", "spin.pdf", "memory.pdf", "3.pdf"]
    found = outcomes(names, config)
    failed = {"crash.pdf": "crashed", "spin.pdf": "timeout", "memory.pdf": "memory"}
    assert found == {name: failed.get(name, "loaded") for name in names}


@pytest.mark.slow
def test_a_file_that_stalls_its_parser_in_c_is_reported(hostile: None) -> None:
    config = LoadConfig(limits=Limits(seconds=1), workers=1)
    found = outcomes(["stall.pdf", "2.pdf"], config)
    assert found == {"stall.pdf": "timeout", "2.pdf": "loaded"}


def test_documents_come_in_order_whatever_is_done_first() -> None:
    names = [name for n in range(6) for name in (f"{n}.txt", f"{n}.pdf", f"{n}.html", f"{n}.md")]
    contents = {"pdf": WHOLE["a.pdf"], "html": WHOLE["a.html"], "txt": b"text", "md": b"# M"}
    sources = [source(name, contents[name.split(".")[1]]) for name in names]
    parsed = list(parse_all(sources, LoadConfig(workers=2)))
    assert [one.source.name for one in parsed] == names
    assert all(isinstance(item, Loaded) for one in parsed for item in one.items)


def test_a_script_needs_no_guard_around_its_main_part(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(WHOLE["a.pdf"])
    script = tmp_path / "script.py"
    script.write_text(
        "from fledge.index.load import read\n"
        f"print([len(item.document.text) for item in read([{str(tmp_path / 'a.pdf')!r}])])\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (f"[{len(chr(10).join(PARTS)) + 5}]\n", "")


def resident_bytes() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_a_file_of_500_megabytes_is_refused_without_being_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.txt"
    with path.open("wb") as out:
        out.truncate(500_000_000)
    before = resident_bytes()
    [found] = discover([str(path)])
    assert isinstance(found, Source)
    [parsed] = parse_all([found])
    [item] = parsed.unreadable
    assert item.reason == "too_large"
    assert item.evidence == "500,000,000 bytes are more than limits.file_bytes = 100,000,000"
    assert resident_bytes() - before < 20_000_000


@pytest.mark.slow
def test_the_limit_can_be_raised(tmp_path: Path) -> None:
    path = tmp_path / "large.txt"
    line = b"The bridge over the Arrow was opened in May 1932.\n"
    with path.open("wb") as out:
        for _ in range(110):
            out.write(line * 20_000)
    assert path.stat().st_size > 100_000_000
    limits = Limits(file_bytes=200_000_000, characters=200_000_000)
    [found] = discover([str(path)])
    assert isinstance(found, Source)
    [parsed] = parse_all([found], LoadConfig(limits=limits))
    [document] = parsed.documents
    assert len(document.document.text) == os.path.getsize(path) - 1
