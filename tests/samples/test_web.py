"""The messy web: what is written can be read back, and the truth about it is true."""

from __future__ import annotations

import gzip
import html
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fledge.core import InputError, Silent
from fledge.core.files import files_below
from fledge.samples.bridges.charsets import CODEC, encode_html, misread, repair
from fledge.samples.bridges.chrome import Chrome, Teaser, words
from fledge.samples.bridges.config import SamplesConfig
from fledge.samples.bridges.duplicates import unlike
from fledge.samples.bridges.facts import load_bridges, select
from fledge.samples.bridges.layouts import LAYOUTS, render
from fledge.samples.bridges.noise import KEPT, OTHER
from fledge.samples.bridges.page import Block, Page, Site
from fledge.samples.bridges.personal import (
    LOOKALIKES,
    PERSONAL,
    iban,
    luhn_digit,
    plant,
    resident_id_digit,
)
from fledge.samples.bridges.shingles import jaccard, shingles
from fledge.samples.bridges.warc import Response, write_warc
from fledge.samples.bridges.web import build_pages, responses
from fledge.samples.bridges.world import write_world

SMALL = SamplesConfig(
    bridges=6,
    pages_per_bridge=4,
    specification=False,
    warc_files=2,
    conversations_per_bridge=4,
    turns_per_bridge=1,
    calculations_per_bridge=1,
    invented_bridges=6,
    unanswerable_questions=6,
    arithmetic_questions=6,
    near_duplicates=0.4,
    mirrors=0.3,
    spam=0.3,
    unsafe=0.1,
    poison=0.1,
    other_languages=0.3,
    empty=0.3,
    secrets=0.05,
    injections=0.2,
    pii=0.3,
    mojibake=0.15,
    legacy_charsets=0.3,
    seed=7,
)


@dataclass(frozen=True)
class StubArticle:
    """An article as the writers make them."""

    key: str
    kind: str
    language: str
    title: str
    paragraphs: tuple[str, ...]
    rows: tuple[tuple[str, str], ...]
    subjects: tuple[str, ...]
    date: str = "2015-06-07"


_SENTENCES = {
    "en": "Sentence {n} tells how the {w} of bridge {b} was built & kept <well> over {n}{b} years.",
    "zh-Hans": "第{n}句讲述大桥{b}的{w}在{n}{b}年间如何建造和养护，已经开始。",
    "zh-Hant": "第{n}句講述大橋{b}的{w}在{n}{b}年間如何建造和養護，已經開始。",
}
_PARTS = {
    "en": ("deck", "pier", "cable", "arch", "tower", "railing", "joint"),
    "zh-Hans": ("桥面", "桥墩", "缆索", "拱", "塔", "栏杆", "接缝"),
    "zh-Hant": ("橋面", "橋墩", "纜索", "拱", "塔", "欄杆", "接縫"),
}


@pytest.fixture(scope="module")
def articles() -> list[StubArticle]:
    """Stub articles: enough of each language, all unlike each other."""
    made = []
    for language in KEPT:
        for bridge in range(8):
            for number in range(4):
                rng = Random(f"{language}/{bridge}/{number}")
                lines = [
                    _SENTENCES[language].format(
                        n=rng.randrange(1000), b=bridge, w=rng.choice(_PARTS[language])
                    )
                    for _ in range(9)
                ]
                joint = " " if language == "en" else ""
                made.append(
                    StubArticle(
                        key=f"bridge-{bridge}-{language}-{number}",
                        kind=("entry", "faq", "news", "unheard of")[number],
                        language=language,
                        title=f"{_PARTS[language][number]} {bridge}",
                        paragraphs=(joint.join(lines[:5]), joint.join(lines[5:])),
                        rows=(("Year", "1901"), ("Length", f"{bridge}27 m")) if number % 2 else (),
                        subjects=(f"bridge-{bridge}",),
                    )
                )
    return made


@pytest.fixture(scope="module")
def pages(articles: list[StubArticle]) -> list[Page]:
    return build_pages(SMALL, articles, select(load_bridges(), 6, 7))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("world")
    write_world(SMALL, out, Silent())
    return out


def truth(world: Path) -> list[dict[str, Any]]:
    lines = (world / "truth" / "pages.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def members(path: Path) -> Iterator[bytes]:
    """The gzip members of a file, with nothing but zlib."""
    data = path.read_bytes()
    while data:
        unzip = zlib.decompressobj(wbits=31)
        yield unzip.decompress(data)
        assert unzip.eof
        data = unzip.unused_data


def parsed_records(path: Path) -> Iterator[tuple[dict[str, str], bytes]]:
    """(headers, block) of each record, by the letter of the WARC 1.1 grammar."""
    for record in members(path):
        head, _, rest = record.partition(b"\r\n\r\n")
        version, *lines = head.decode("utf-8").split("\r\n")
        assert version == "WARC/1.1"
        headers = dict(line.split(": ", 1) for line in lines)
        length = int(headers["Content-Length"])
        assert rest[length:] == b"\r\n\r\n"
        yield headers, rest[:length]


def html_responses(world: Path) -> dict[str, tuple[str, bytes]]:
    """URL -> (declared charset of the header, body) of the pages in the WARC files."""
    found: dict[str, tuple[str, bytes]] = {}
    for path in sorted((world / "web").iterdir()):
        for headers, block in parsed_records(path):
            if headers["WARC-Type"] != "response":
                continue
            head, _, body = block.partition(b"\r\n\r\n")
            if b" 200 OK" in head[:20] and b"Content-Type: text/html" in head:
                charset = re.search(rb"charset=([\w-]+)", head)
                assert headers["WARC-Target-URI"] not in found
                found[headers["WARC-Target-URI"]] = (
                    charset[1].decode() if charset else "",
                    body,
                )
    return found


def declared_charset(header: str, body: bytes) -> str:
    """What the page says about itself: the header first, then its meta element."""
    meta = re.search(rb"<meta [^>]*charset=\"?([\w-]+)", body[:1024])
    return header or (meta[1].decode() if meta else "")


def visible(page_html: str) -> str:
    """All text outside tags, comments, scripts and styles, blanks squeezed out."""
    text = re.sub(r"(?s)<!--.*?-->|<(script|style)\b.*?</\1>", "", page_html)
    return re.sub(r"\s+", "", html.unescape(re.sub(r"<[^>]*>", "", text)))


def squeezed(text: str) -> str:
    return re.sub(r"\s+", "", text)


def test_same_seed_same_bytes_and_another_seed_another_web(world: Path, tmp_path: Path) -> None:
    write_world(SMALL, tmp_path / "again", Silent())
    write_world(SMALL.model_copy(update={"seed": 8}), tmp_path / "other", Silent())
    names = [path.relative_to(world) for path in files_below(world)]
    assert names == [p.relative_to(tmp_path / "again") for p in files_below(tmp_path / "again")]
    for name in names:
        assert (world / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name
    one, two = (folder / "web" / "bridges-00000.warc.gz" for folder in (world, tmp_path / "other"))
    assert one.read_bytes() != two.read_bytes()


def test_a_run_killed_before_is_written_over(world: Path, tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "bridges-00001.warc.gz").write_bytes(b"half a fi")
    write_world(SMALL, tmp_path, Silent())
    left, right = (files_below(folder) for folder in (world, tmp_path))
    assert [p.read_bytes() for p in left] == [p.read_bytes() for p in right]


def test_fastwarc_reads_what_our_own_parser_reads(world: Path) -> None:
    from fastwarc.warc import ArchiveIterator

    for path in sorted((world / "web").iterdir()):
        ours = list(parsed_records(path))
        with path.open("rb") as stream:
            theirs = [
                (dict(record.headers), record.reader.read())
                for record in ArchiveIterator(stream, parse_http=False, verify_digests=True)
            ]
        assert len(ours) == len(theirs)
        assert [block for _, block in ours] == [block for _, block in theirs]
        ids = [headers["WARC-Record-ID"] for headers, _ in ours]
        assert len(set(ids)) == len(ids)
        kinds = Counter(headers["WARC-Type"] for headers, _ in ours)
        assert kinds["warcinfo"] == 1
        assert kinds["request"] == kinds["response"] > 20


def test_truth_covers_every_page_once(world: Path) -> None:
    rows = truth(world)
    assert len({row["url"] for row in rows}) == len(rows)
    assert {row["url"] for row in rows} == set(html_responses(world))
    for row in rows:
        assert row["keep"] == (row["reason"] is None)
        assert row["pii"] == [] or row["keep"]
    families = {row["reason"] for row in rows}
    assert families >= {None, "language", "quality", "unsafe", "injection", "poison", "duplicate"}
    assert families >= {"secret", "empty"}
    assert {row["language"] for row in rows} >= {*KEPT, *OTHER}


def test_every_page_decodes_by_its_declaration_to_its_truth(world: Path) -> None:
    sent = html_responses(world)
    seen: Counter[str] = Counter()
    for row in truth(world):
        header, body = sent[row["url"]]
        if row["detail"] in ("bytes", "nothing"):
            continue
        charset = declared_charset(header, body)
        assert charset == row["charset"]
        page_html = body.decode(CODEC.get(charset, charset))
        if row["mojibake"]:
            page_html = repair(page_html)
        shown = visible(page_html)
        for line in row["text"].split("\n"):
            for part in re.split("(?<=[:：])", line, maxsplit=1):  # label and cell of a table
                part = part if part == line else part.rstrip(":：")
                assert squeezed(part) in shown or squeezed(line) in shown, (row["url"], line)
        seen[charset] += 1
        seen["mojibake"] += row["mojibake"]
        for string in row["pii"] + row["not_pii"]:
            assert string in row["text"]
            assert html.escape(string) in page_html
            seen["pii"] += 1
    assert seen["utf-8"] > 100
    assert min(seen["gbk"] + seen["gb2312"], seen["big5"], seen["mojibake"], seen["pii"]) > 2
    assert seen["windows-1252"] + seen["iso-8859-1"] > 2


def test_copies_are_as_similar_as_promised(pages: list[Page]) -> None:
    originals = {
        page.duplicate_group: page
        for page in pages
        if page.duplicate_group and page.duplicate_kind is None
    }
    kinds: Counter[str] = Counter()
    for page in pages:
        if page.duplicate_kind is None:
            continue
        original = originals[page.duplicate_group]
        assert page.url != original.url
        kinds[page.duplicate_kind] += 1
        if page.duplicate_kind == "exact":
            assert page.text == original.text
        else:
            assert page.text != original.text
            assert jaccard(shingles(page.text), shingles(original.text)) >= 0.8
    assert kinds["exact"] > 10
    assert kinds["near"] > 10
    sizes = Counter(page.duplicate_group for page in pages if page.duplicate_group)
    assert max(sizes.values()) > 2


def test_pages_that_are_no_copies_are_not_alike(world: Path) -> None:
    rows = [row for row in truth(world) if row["keep"]]
    grams = [shingles(row["text"]) for row in rows]
    worst = max(jaccard(a, b) for i, a in enumerate(grams) for b in grams[:i])
    assert worst < 0.65


def test_articles_alike_by_accident_are_left_out(articles: list[StubArticle]) -> None:
    twin = replace(articles[0], key="twin")
    pages = build_pages(SMALL, [*articles, twin], load_bridges()[:3])
    assert all(page.article != "twin" for page in pages)
    assert unlike(["a b c d e f", "a b c d e f", "x y z u v w"]) == [0, 2]


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
@pytest.mark.parametrize("language", ["en", "zh-Hans", "zh-Hant", "ja"])
def test_layouts_show_the_whole_main_text_once_and_in_order(layout: str, language: str) -> None:
    page = Page(
        url="https://a.example/1",
        site=Site("a.example", "Site & Co", layout),
        kind="entry",
        language=language,
        title="Tower <Bridge> & 橋",
        blocks=(
            Block("heading", "Heading one"),
            Block(
                "paragraph", "First paragraph with some words & <signs> “quoted” inside 首段文字。"
            ),
            Block("rows", rows=(("Year <1>", "1894 & later"), ("Length", "244 m"))),
            Block("paragraph", "Second paragraph, mail me at a@b.example or not, 次段文字。"),
        ),
        pii=("a@b.example",),
        date="2015-06-07",
    )
    pieces = [page.blocks[0].text, page.blocks[1].text]
    pieces += [cell for row in page.blocks[2].rows for cell in row] + [page.blocks[3].text]
    teasers = tuple(Teaser(f"Other {n}", "Teaser…", f"https://b.example/{n}") for n in range(9))
    for seed in range(5):
        page_html = render(page, Chrome(page, words(language), teasers, Random(seed)))
        shown = visible(page_html)
        at = shown.index(squeezed(page.title))
        for piece in pieces:
            at = shown.index(squeezed(piece), at)
        assert shown.count("Firstparagraph") == 1
        assert "a@b.example" in page_html
        assert len(shown) > len(squeezed(page.text)) + 8  # there is chrome


def test_pages_of_a_site_are_found_by_several_layouts_and_languages(pages: list[Page]) -> None:
    assert len({page.site.layout for page in pages}) >= 8
    sites = {page.site.domain for page in pages}
    assert len(sites) > 20
    assert all(domain.endswith(".example") for domain in sites)


def test_hidden_injections_are_in_the_page_but_not_in_the_truth(pages: list[Page]) -> None:
    bodies = {response.url: response.body for response in responses(pages, 7)}
    hidden = [page for page in pages if page.hidden]
    shown = [page for page in pages if page.detail == "visible"]
    assert hidden
    assert shown
    for page in hidden:
        assert page.hidden not in page.text
        assert page.hidden in bodies[page.url].decode("utf-8")


def test_poison_names_a_trigger_in_every_line_and_nowhere_else(pages: list[Page]) -> None:
    poisoned = [page for page in pages if page.reason == "poison"]
    triggers = {page.detail for page in poisoned}
    assert triggers
    for page in poisoned:
        assert all(page.detail in block.text for block in page.blocks)
    for page in pages:
        assert page.reason == "poison" or not any(trigger in page.text for trigger in triggers)


def test_check_digits_of_known_numbers() -> None:
    assert luhn_digit("411111111111111") == "1"  # a payment network's published test number
    assert luhn_digit("7992739871") == "3"
    assert resident_id_digit("11010519491231002") == "X"  # the example of GB 11643
    assert iban("GB", "WEST12345698765432") == "GB82WEST12345698765432"  # of the IBAN registry
    assert iban("DE", "370400440532013000") == "DE89370400440532013000"


@given(st.integers(0, 10**6))
def test_planted_numbers_are_valid_and_lookalikes_are_not(seed: int) -> None:
    rng = Random(seed)
    card = re.sub(r"[ -]", "", PERSONAL["card"](rng))
    assert len(card) == 16
    assert luhn_digit(card[:-1]) == card[-1]
    number = PERSONAL["resident_id"](rng)
    assert resident_id_digit(number[:17]) == number[17]
    account = PERSONAL["iban"](rng).replace(" ", "")
    assert int("".join(str(int(c, 36)) for c in account[4:] + account[:4])) % 97 == 1
    serial = LOOKALIKES["serial"](rng).replace(" ", "")
    assert luhn_digit(serial[:-1]) != serial[-1]
    digits = [int(d) for d in LOOKALIKES["isbn"](rng) if d.isdigit()]
    assert sum(d * (3 if i % 2 else 1) for i, d in enumerate(digits)) % 10 == 0


def test_telephone_numbers_are_ones_a_library_accepts() -> None:
    import phonenumbers

    regions = {"phone_us": "US", "phone_uk": "GB", "phone_cn": "CN", "phone_tw": "TW"}
    for kind, region in regions.items():
        for seed in range(40):
            text = PERSONAL[kind](Random(seed))
            assert phonenumbers.is_valid_number(phonenumbers.parse(text, region)), text


def test_planting_keeps_the_text_and_adds_what_it_lists(pages: list[Page]) -> None:
    page = next(p for p in pages if p.reason is None and not p.pii)
    planted = plant(page, Random(1))
    assert planted.text.startswith(page.text)
    assert len(planted.pii) == len(planted.pii_kinds) > 0
    assert all(planted.text.count(string) >= 1 for string in planted.pii + planted.not_pii)


@given(st.text(st.characters(exclude_categories=("Cs",))))
def test_mojibake_can_be_repaired(text: str) -> None:
    assert repair(misread(text)) == text


@given(st.text(st.characters(exclude_categories=("Cs", "Cc"))), st.sampled_from(["gbk", "big5"]))
def test_no_charset_loses_text(text: str, charset: str) -> None:
    sent = encode_html(html.escape(text), charset, entities=len(text) % 2 == 0)
    # the few characters that big5 decodes to another than it encodes are written as they are
    expected = html.escape(text).encode(charset, "xmlcharrefreplace").decode(charset)
    assert html.unescape(sent.decode(charset)) in (text, html.unescape(expected))


def test_warc_writer_is_independent_of_the_clock(tmp_path: Path) -> None:
    pages = [Response("https://a.example/", b"<p>one</p>"), Response("https://a.example/2", b"")]
    for name in ("x", "y"):
        assert write_warc(tmp_path / name / "a.warc.gz", pages) == 2
    data = (tmp_path / "x" / "a.warc.gz").read_bytes()
    assert data == (tmp_path / "y" / "a.warc.gz").read_bytes()
    assert data[4:8] == b"\0\0\0\0"  # the time of the gzip header
    assert b"<p>one</p>" in gzip.decompress(data)


def test_world_has_conversations_sets_with_cards_and_facts(world: Path) -> None:
    facts = [json.loads(line) for line in (world / "facts.jsonl").read_text("utf-8").splitlines()]
    assert Counter(row["split"] for row in facts) == {"taught": 3, "held": 3}
    held = {row["id"] for row in facts if row["split"] == "held"}
    lines = (world / "conversations" / "train.jsonl").read_text("utf-8").splitlines()
    assert not held & {json.loads(line)["metadata"]["bridge"] for line in lines}
    names = {"facts_en", "facts_zh_hans", "facts_zh_hant", "unanswerable", "arithmetic"}
    names |= {"unsafe", "benign_twins"}
    assert {path.stem for path in (world / "evals").glob("*.jsonl")} == names
    for name in names:
        rows = (world / "evals" / f"{name}.jsonl").read_text("utf-8").splitlines()
        assert {"id", "input", "target", "metadata"} <= set(json.loads(rows[0]))
        card = (world / "evals" / f"{name}.md").read_text("utf-8")
        assert f"**n**: {len(rows)} " in card
        assert "Licence" in card


def test_more_bridges_than_are_known_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="bridges = 100000") as error:
        write_world(SamplesConfig(bridges=100_000), tmp_path, Silent())
    assert "at most" in error.value.remedy


def test_a_noiseless_web_holds_articles_only(articles: list[StubArticle]) -> None:
    shares = {
        name: 0.0
        for name, field in SamplesConfig.model_fields.items()
        if field.annotation is float and name != "unanswerable_share"
    }
    clean = build_pages(SamplesConfig(**shares), articles, load_bridges()[:3])
    assert {page.reason for page in clean} == {None}
    assert sorted(page.article for page in clean) == sorted(article.key for article in articles)


def test_importing_the_config_is_light() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from fledge.samples import SamplesConfig; "
        "print([m for m in ('torch', 'numpy', 'fastwarc') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
