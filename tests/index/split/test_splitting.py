"""Chunks are exact spans: nothing lost, nothing blank, nothing too long, whatever the text."""

from __future__ import annotations

import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fledge.core.config import parse_config
from fledge.core.errors import InputError
from fledge.core.types import Document, Span
from fledge.index.chunk import Chunk
from fledge.index.loaded import Loaded, Place
from fledge.index.split import SplitConfig, split
from fledge.index.split.code import code_outline
from fledge.index.split.measure import Ruler

PIECES = (
    "The same sentence again. ",
    "The same sentence again. ",
    "Dr. Smith paid 3.14 for L/800? ",
    "同一句話。",
    "同一句話。",
    "「真的嗎？」他說；",
    "橋梁的主跨為一千九百九十一米",
    "\n",
    "\r\n",
    "\n\n",
    "\r\n\r\n",
    "   ",
    "\t",
    "# Heading\n",
    "## 第二節 標題\n",
    "第三章 總則\n",
    "- item one\n",
    "| a | b |\n|---|---|\n| 1 | 2 |\n",
    "```python\ndef f():\n    return 1\n\n# no heading\n```\n",
    "class A:\n    def b(self):\n        return {\n        }\n",
    "👩‍👩‍👧‍👦🏽🇹🇼❤️",
    "e\u0301e\u0301n\u0303",
    "a\u0300\u0301\u0302\u0303\u0304\u0305\u0306\u0307\u0308\u0309",
    "supercalifragilisticexpialidocious" * 3,
    "哈" * 40,
    "!" * 30,
    "\u200b",
    "\u3000",
    "\x0c",
    "नमस्ते दुनिया ",
    "สวัสดีชาวโลก",
)
KINDS = ("plain", "markdown", "rows", "code:python", "code:c")
STRATEGIES = ("auto", "heading", "recursive", "sentence", "tokens", "code", "semantic")

texts = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=25).map("".join),
    st.text(max_size=200),
    st.text(alphabet="ab 。.\n\r#`|-：,，", max_size=120),
)


class ByLetters:
    """Vectors of what letters a text has: texts that look alike are near."""

    def embed(self, texts: list[str]) -> np.ndarray:
        counts = np.array([np.bincount([ord(c) % 16 for c in t], minlength=16) for t in texts])
        return counts / np.linalg.norm(counts, axis=1, keepdims=True)


def loaded(text: str, kind: str = "plain", places: tuple[Place, ...] = ()) -> Loaded:
    return Loaded(document=Document(id="d", text=text), path="d", kind=kind, places=places)


def chunk_texts(text: str, kind: str = "plain", **config: object) -> list[str]:
    chunks = split(loaded(text, kind), SplitConfig(**config), embedder=ByLetters())
    return [text[chunk.start : chunk.end] for chunk in chunks]


def check(text: str, chunks: list[Chunk], size: int) -> None:
    """What holds of the chunks of one level."""
    document, ruler = Document(id="d", text=text), Ruler(text)
    covered = np.zeros(len(text), dtype=bool)
    for chunk in chunks:
        quote = Span.of(document, chunk.start, chunk.end).quote(document)
        assert quote == text[chunk.start : chunk.end] != ""
        assert quote == quote.strip()
        assert ruler.count(chunk.start, chunk.end) <= size
        covered[chunk.start : chunk.end] = True
    assert all(covered[at] or one.isspace() for at, one in enumerate(text))
    starts = [chunk.start for chunk in chunks]
    ends = [chunk.end for chunk in chunks]
    assert starts == sorted(set(starts))
    assert ends == sorted(set(ends))


@settings(max_examples=400, deadline=None)
@given(
    text=texts,
    kind=st.sampled_from(KINDS),
    strategy=st.sampled_from(STRATEGIES),
    size=st.integers(1, 60),
    share=st.floats(0, 0.5),
)
def test_flat_chunks_hold_the_whole_text_exactly(
    text: str, kind: str, strategy: str, size: int, share: float
) -> None:
    config = SplitConfig(strategy=strategy, size=size, overlap=int(size * share))
    chunks = split(loaded(text, kind), config, embedder=ByLetters())
    check(text, list(chunks), size)
    assert all(chunk.level == 0 and chunk.parent is None for chunk in chunks)
    for one, other in pairwise(chunks):
        assert Ruler(text).count(other.start, one.end) <= config.overlap
        assert config.overlap or one.end <= other.start


@settings(max_examples=300, deadline=None)
@given(
    text=texts,
    kind=st.sampled_from(KINDS),
    sizes=st.lists(st.integers(1, 80), min_size=2, max_size=4, unique=True),
    overlap=st.integers(0, 20),
)
def test_children_lie_inside_their_parents_and_hold_all_of_them(
    text: str, kind: str, sizes: list[int], overlap: int
) -> None:
    sizes = sorted(sizes, reverse=True)
    config = SplitConfig(
        strategy="hierarchical", sizes=tuple(sizes), size=100, overlap=min(overlap, 50)
    )
    chunks = split(loaded(text, kind), config)
    top = len(sizes) - 1
    for level in range(top + 1):
        check(text, [chunk for chunk in chunks if chunk.level == level], sizes[top - level])
    for number, chunk in enumerate(chunks):
        if chunk.level == top:
            assert chunk.parent is None
            continue
        assert chunk.parent is not None
        assert chunk.parent < number
        parent = chunks[chunk.parent]
        assert parent.level == chunk.level + 1
        assert parent.start <= chunk.start < chunk.end <= parent.end
    for number, parent in enumerate(chunks):
        inside = [chunk for chunk in chunks if chunk.parent == number]
        if parent.level:
            assert inside[0].start == parent.start
            assert inside[-1].end == parent.end


@settings(max_examples=200, deadline=None)
@given(text=texts, size=st.integers(1, 40), every=st.integers(1, 9))
def test_a_tokenizer_of_ones_own_may_count(text: str, size: int, every: int) -> None:
    def starts(text: str) -> list[int]:
        return list(range(0, len(text), every))

    for strategy in ("tokens", "recursive"):
        chunks = split(loaded(text), SplitConfig(strategy=strategy, size=size), starts=starts)
        covered = {at for chunk in chunks for at in range(chunk.start, chunk.end)}
        assert all(at in covered or one.isspace() for at, one in enumerate(text))
        assert all(chunk.end - chunk.start <= every * size + every for chunk in chunks)


@settings(max_examples=200, deadline=None)
@given(text=texts, size=st.integers(1, 30))
def test_no_cut_parts_a_letter_from_its_marks(text: str, size: int) -> None:
    for chunk in split(loaded(text), SplitConfig(strategy="tokens", size=size)):
        inner = text[chunk.start : chunk.start + 1]
        assert inner != "\u200d" or chunk.start == 0 or text[chunk.start - 1].isspace()
        assert text[chunk.start - 1 : chunk.start + 1] not in ("e\u0301", "n\u0303")


def test_repeated_text_gets_places_of_its_own() -> None:
    text = "同一句話。" * 24
    chunks = split(loaded(text), SplitConfig(strategy="sentence", size=5))
    assert [(chunk.start, chunk.end) for chunk in chunks] == [(5 * n, 5 * n + 5) for n in range(24)]


def test_the_strongest_break_in_reach_ends_a_chunk() -> None:
    first = "One two three four five six. Seven eight nine ten.\n\n"
    second = "Eleven twelve thirteen. Fourteen fifteen sixteen seventeen."
    assert chunk_texts(first + second, size=18) == [first.strip(), second]
    assert chunk_texts(first + second, size=18, strategy="sentence")[0] != first.strip()


def test_headings_stay_with_their_text_and_lead_to_it() -> None:
    text = "# Bridges\n\n## Loads\n\nWind and snow.\n\n## Piers\n\nThey stand in water.\n"
    chunks = split(loaded(text, "markdown"), SplitConfig(strategy="heading", size=40))
    assert [text[chunk.start : chunk.end] for chunk in chunks] == [
        "# Bridges\n\n## Loads\n\nWind and snow.",
        "## Piers\n\nThey stand in water.",
    ]
    assert [chunk.heading for chunk in chunks] == ["Bridges > Loads", "Bridges > Piers"]
    whole = split(loaded(text, "markdown"), SplitConfig(size=200))
    assert [chunk.heading for chunk in whole] == ["Bridges"]


def test_headings_in_chinese_laws_are_seen_and_those_in_code_are_not() -> None:
    text = "第一章 總則\n第一條 為了安全。\n第二章 橋梁\n第二條 橋梁應堅固。\n"
    chunks = split(loaded(text), SplitConfig(strategy="heading", size=50))
    assert [chunk.heading for chunk in chunks] == ["第一章 總則", "第二章 橋梁"]
    fenced = "# Title\n\n```sh\n# a comment\nrun\n```\n"
    assert split(loaded(fenced, "markdown"))[0].heading == "Title"


def test_fenced_code_is_cut_between_its_lines_and_keeps_its_fences() -> None:
    code = "".join(f"if (a{n}) {{\n    run({n});\n}} else {{\n    stop();\n}}\n" for n in range(6))
    text = f"# Code\n\nIt reads:\n\n```c\n{code}```\n\nThat is all.\n"
    chunks = chunk_texts(text, "markdown", size=60)
    assert len(chunks) > 2
    assert not any(chunk.startswith(("}", "else", "```\n")) for chunk in chunks)
    assert not any(chunk.endswith("```c") for chunk in chunks)


def test_an_article_of_a_law_is_held_together() -> None:
    one = "第一條 為了安全。\n\n本法適用於橋梁。\n\n"
    other = "第二條 橋梁應堅固。\n\n其設計應合標準。"
    assert chunk_texts(one + other, size=26) == [one.strip(), other]


def test_underlined_headings_are_seen_in_plain_text_and_rules_are_not() -> None:
    text = "Loads\n=====\n\nWind.\n\nSnow\n----\n\nIn winter.\n\n---\n\nThe end.\n"
    for kind in ("plain", "markdown"):
        chunks = split(loaded(text, kind), SplitConfig(strategy="heading", size=50))
        assert [chunk.heading for chunk in chunks] == ["Loads", "Loads > Snow"]


HOSTILE = {
    "one word": "a" * 300_000,
    "short lines": "x\n" * 100_000,
    "headings": "# h\n" * 60_000,
    "underlines": "title\n---\n\n" * 30_000,
    "fences": "```\n" * 60_000,
    "deep code": "".join(" " * n + f"def f{n}():\n" for n in range(2_000)),
    "brackets": "f(" * 100_000,
    "blanks": " " * 300_000 + "x" + "\n" * 300_000,
    "marks": "e" + "\u0301" * 200_000,
    "bars": "|" * 200_000,
    "flags": "\U0001f1f9\U0001f1fc" * 50_000,
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("kind", ["markdown", "code:python"])
def test_time_grows_with_the_length_only(name: str, kind: str) -> None:
    begun = time.process_time()
    chunks = split(loaded(HOSTILE[name], kind))
    assert time.process_time() - begun < 8
    assert chunks


def test_code_is_cut_between_definitions_and_knows_where_it_is() -> None:
    body = "".join(f"    x{n} = compute(value, {n})\n" for n in range(8))
    text = "import os\n\n\n" + "\n\n".join(f"@cached\ndef part_{n}(value):\n{body}" for n in "abc")
    chunks = split(loaded(text, "code:python"), SplitConfig(size=120))
    assert [text[chunk.start :].split("\n")[0] for chunk in chunks[1:]] == ["@cached"] * 2
    assert [chunk.heading for chunk in chunks[1:]] == ["part_b", "part_c"]


def test_a_definition_ends_where_the_code_is_no_longer_indented() -> None:
    text = (
        "class Pier:\n    def height(self):\n        return 1\n    width = 2\nprint(Pier.width)\n"
    )
    lines = {"return 1": "Pier > height", "width = 2": "Pier", "print(Pier.width)": ""}
    outline = code_outline(text)
    spans = {line: (text.index(line), text.index(line) + len(line)) for line in lines}
    assert {line: outline.heading(*span) for line, span in spans.items()} == lines


def test_sense_decides_where_semantic_chunks_end() -> None:
    one = ["Aaa aa aaaa aa.", "Aa aaa aa aaaa.", "Aaaa a aaa aa."]
    other = ["Zzz zz zzzz zz.", "Zz zzz zz zzzz.", "Zzzz z zzz zz."]
    text = " ".join(one + other)
    assert chunk_texts(text, strategy="semantic", size=60) == [" ".join(one), " ".join(other)]
    with pytest.raises(InputError, match="needs an embedder"):
        split(loaded(text), SplitConfig(strategy="semantic"))


def test_rows_are_not_cut_while_they_fit() -> None:
    rows = [f"name: bridge {n}\nspan: {n * 100} m\nriver: Thames" for n in range(1, 7)]
    text = "\n".join(rows)
    starts = [text.index(row) for row in rows]
    places = tuple(
        Place(start=start, end=start + len(row), label=f"row {n}")
        for n, (start, row) in enumerate(zip(starts, rows, strict=True), 1)
    )
    chunks = split(loaded(text, "rows", places), SplitConfig(size=30))
    assert len(chunks) > 1
    assert {chunk.start for chunk in chunks} <= set(starts)


def test_a_config_that_contradicts_itself_is_refused() -> None:
    for wrong, what in (({"size": 10, "overlap": 6}, "half"), ({"sizes": (200, 800)}, "larger")):
        with pytest.raises(InputError, match=what):
            parse_config(SplitConfig, wrong, "[split]")
