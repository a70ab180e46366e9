"""The public halves that score retrieval, as (queries, passages, which passages answer).

Corpora are merged so that each has 1,000 passages or more; none of it was trained on.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import zstandard
from bilingual_material import (
    HAN,
    command_pages,
    data,
    kept_for_tests,
    law_articles,
    lines,
    page_lines,
    records,
)


@dataclass(frozen=True)
class RetrievalSet:
    """``relevant[i]`` are the numbers of the passages that answer ``queries[i]``."""

    name: str
    queries: Sequence[str]
    passages: Sequence[str]
    relevant: Sequence[frozenset[int]]


def retrieval_sets() -> Iterator[RetrievalSet]:
    """All sets, monolingual ones first."""
    english, chinese = squad("en"), squad("zh")
    others = [one for name in ("drcd", "cmrc2018") for one in MAKERS[name]()]
    more_chinese = [passage for passage, _ in others]
    more_english = wikipedia()
    yield answered("xquad-en", english, more_english)
    yield answered("xquad-zh", chinese, more_chinese)
    for name in ("drcd", "cmrc2018"):
        rest = [p for p, _ in chinese] + [p for o in MAKERS if o != name for p, _ in MAKERS[o]()]
        yield answered(name, MAKERS[name](), rest)
    yield answered("covid-qa", covid_qa(), more_english)
    yield crossed("xquad zh-en", chinese, english, more_english)
    yield crossed("xquad en-zh", english, chinese, more_chinese)
    yield from laws()
    yield from pages()


Answered = list[tuple[str, list[str]]]
"""Passages, each with the questions that it answers."""


def answered(name: str, asked: Answered, others: Sequence[str]) -> RetrievalSet:
    """Questions to the passages they were asked about, among ``others``."""
    return crossed(name, asked, asked, others)


def crossed(name: str, asked: Answered, found: Answered, others: Sequence[str]) -> RetrievalSet:
    """Questions of ``asked`` to the passages of ``found`` in the same places."""
    passages = list(dict.fromkeys([passage for passage, _ in found] + list(others)))
    places = {passage: number for number, passage in enumerate(passages)}
    rows = [
        (question, frozenset({places[passage]}))
        for (_, questions), (passage, _) in zip(asked, found, strict=True)
        for question in questions
    ]
    return RetrievalSet(name, [q for q, _ in rows], passages, [r for _, r in rows])


@cache
def squad(language: str) -> Answered:
    """XQuAD."""
    return [
        (row["context"], [one["question"] for one in row["qas"]])
        for row in records("xquad_en_zh", "xquad.jsonl.zst")
        if row["lang"] == language
    ]


@cache
def drcd() -> Answered:
    """DRCD, the dev set: Traditional Chinese."""
    return [
        (paragraph["context"], [one["question"] for one in paragraph["qas"]])
        for article in records("drcd", "dev.jsonl.zst")
        for paragraph in article["paragraphs"]
    ]


@cache
def cmrc2018() -> Answered:
    """CMRC 2018, the dev set: Simplified Chinese."""
    return [
        (row["context_text"], [one["query_text"] for one in row["qas"]])
        for row in records("cmrc2018", "dev.jsonl.zst")
    ]


MAKERS: dict[str, Callable[[], Answered]] = {"drcd": drcd, "cmrc2018": cmrc2018}


def covid_qa() -> Answered:
    """COVID-QA: articles cut into passages of 1,000 characters or so, at sentences."""
    found: dict[str, list[str]] = {}
    for row in records("covid_qa", "covid_qa.jsonl.zst"):
        for paragraph in row["paragraphs"]:
            pieces, end = [], 0
            for match in re.finditer(r"(?s).{700,1000}?(?:[.?!]\s|\n)|.+\Z", paragraph["context"]):
                pieces.append((match.start(), match[0].strip()))
                end = match.end()
            assert end == len(paragraph["context"])
            for _, piece in pieces:
                found.setdefault(piece, [])
            for one in paragraph["qas"]:
                start = one["answers"][0]["answer_start"]
                found[max(p for p in pieces if p[0] <= start)[1]].append(one["question"])
    return list(found.items())


@cache
def wikipedia() -> list[str]:
    """Paragraphs of English Wikipedia (WikiText-2) that no question is about."""
    paragraphs = (
        line.replace(" @-@ ", "-").strip()
        for line in lines("wikitext2_valid_test", "wiki2.valid.txt.zst")
    )
    return [text for text in paragraphs if len(text) > 250]


def laws() -> Iterator[RetrievalSet]:
    """Articles of Taiwanese laws that were not trained on, to their other version."""
    rows = [
        (english, chinese)
        for code, english, chinese in law_articles()
        if kept_for_tests(code) and len(english) >= 120 and len(chinese) >= 30
    ]
    rows = list({english: (english, chinese) for english, chinese in rows}.values())
    asked = rows[:: max(1, len(rows) // 1000)]
    english, chinese = [e for e, _ in rows], [c for _, c in rows]
    yield exact("tw-laws zh-en", [c for _, c in asked], english, [e for e, _ in asked])
    yield exact("tw-laws en-zh", [e for e, _ in asked], chinese, [c for _, c in asked])


def pages() -> Iterator[RetrievalSet]:
    """What Chinese pages on commands say in words, to the English pages, and back.

    Only pages that were not trained on are asked about; all are searched.  The Chinese side is
    read without its Latin letters and digits: names of commands would give the page away.
    """
    rows = {}
    for page, english, chinese in command_pages():
        theirs = re.sub(r"[A-Za-z0-9_./+-]+", " ", " ".join(page_lines(chinese)))
        if len(HAN.findall(theirs)) >= 10:
            rows[page] = (" ".join(page_lines(english)), " ".join(theirs.split()))
    asked = [row for page, row in rows.items() if kept_for_tests(page)]
    english, chinese = [e for e, _ in rows.values()], [c for _, c in rows.values()]
    yield exact("tldr zh-en", [c for _, c in asked], english, [e for e, _ in asked])
    yield exact("tldr en-zh", [e for e, _ in asked], chinese, [c for _, c in asked])


def exact(
    name: str, queries: Sequence[str], passages: Sequence[str], wanted: Sequence[str]
) -> RetrievalSet:
    """Each query to every passage that reads like its own."""
    places: dict[str, set[int]] = {}
    for number, passage in enumerate(passages):
        places.setdefault(passage, set()).add(number)
    return RetrievalSet(name, queries, passages, [frozenset(places[one]) for one in wanted])


Judged = tuple[list[str], list[str], list[dict[int, float]]]


def cranfield() -> Judged:
    """Cranfield: queries, passages, and the gain of each judged passage for each query."""
    packed = zstandard.ZstdDecompressor().stream_reader(
        data("cranfield", "cranfield.tar.zst").open("rb")
    )
    files = {}
    with tarfile.open(fileobj=packed, mode="r|") as archive:
        for member in archive:
            file = archive.extractfile(member)
            if file:
                files[member.name.rpartition("/")[2]] = file.read().decode("utf-8", "replace")
    passages = [" ".join(f"{one['T']} {one['W']}".split()) for one in smart(files["cran.all.1400"])]
    queries = [" ".join(one["W"].split()) for one in smart(files["cran.qry"])]
    gains: list[dict[int, float]] = [{} for _ in queries]
    for line in files["cranqrel"].splitlines():
        query, passage, code = (int(part) for part in line.split()[:3])
        if 1 <= code <= 4:  # 1 answers completely, 4 is of little use, the rest of none
            gains[query - 1][passage - 1] = 5.0 - code
    return queries, passages, gains


def smart(text: str) -> list[dict[str, str]]:
    """The records of a file in the SMART layout: .I number, then fields .T, .A, .B, .W."""
    found = []
    for record in re.split(r"(?m)^\.I[^\n]*$", text)[1:]:
        parts = re.split(r"(?m)^\.([TABW])\s*$", record)
        found.append({"T": "", "W": "", **dict(zip(parts[1::2], parts[2::2], strict=True))})
    return found
