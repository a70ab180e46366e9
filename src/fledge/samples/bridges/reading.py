"""Questions answered from passages: bridges in, conversations and an index's documents out.

What a passage tells is made up, so that a model can only read it: a model that met the real fact
would answer from memory.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fledge.core.files import write_jsonl, write_text
from fledge.samples.bridges.articles import write_articles
from fledge.samples.bridges.facts import Bridge, known, say, spoken_name
from fledge.samples.bridges.phrases import LANGUAGES, fill, load_phrases, placeholders
from fledge.samples.bridges.questions import write_facts

NOT_FOUND = {
    "en": "The answer is not in your documents.",
    "zh-Hans": "您的文档中没有答案。",
    "zh-Hant": "您的文件中沒有答案。",
}
"""What is said when no passage answers: the words of ``fledge ask``."""

ABSENT_SHARE = 0.1
"""share of conversations whose passages do not answer"""
PASSAGES = (1, 2, 2, 3)
"""how many there are; with the question 95 in 100 fit into 256 tokens: SFT leaves the rest out"""
OWN_SHARE = 0.4
"""share of further passages that tell other things of the same bridge"""
SAME_SHARE = 0.6
"""share of other bridges' passages that tell the very attribute asked for"""
SCRIPT_SHARE = 0.25
"""share of further passages, where the question is Chinese, in the other script"""
SENTENCES = (1, 3)
"""of a passage, fewest and most"""
JOINED_SHARE = 0.4
"""share of passages in prose with a sentence that joins several attributes, not the one asked"""
FAQ_SHARE = 0.4
"""share of passages in questions and answers"""
CUT_SHARE = 0.4
"""share of those that begin with an answer, or end with a question, whose other half was cut off"""
TITLE_SHARE = 0.2
"""share of passages in prose that begin with the title of their page"""
OTHER_SCRIPT = {"zh-Hans": "zh-Hant", "zh-Hant": "zh-Hans"}


def write_reading(bridges: Sequence[Bridge], count: int, seed: int) -> list[dict[str, Any]]:
    """``count`` conversations ``{"messages": [user with passages and question, assistant]}``.

    Many names, so that a model learns to copy one rather than to know it: those of ``bridges``,
    with facts of others and numbers of nobody.  An answer is the very sentence that tells: what
    is said in other words could not be shown to stand in a document.
    """
    rng = random.Random(f"reading/{seed}")
    return [_conversation(bridges, LANGUAGES[n % len(LANGUAGES)], rng) for n in range(count)]


def write_unseen(
    bridges: Sequence[Bridge], pages: int, out: Path, seed: int, questions_per_fact: int = 1
) -> dict[str, int]:
    """Pages about bridges that nothing else tells of, in ``out/pages/*.md``, and
    ``out/questions.jsonl``: what only somebody with these documents can answer."""
    folder = out / "pages"
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    for article in write_articles(bridges, pages, seed) if bridges else ():
        rows = [f"{label}: {cell}" for label, cell in article.rows]
        text = "\n\n".join([f"# {article.title}", *rows, *article.paragraphs])
        write_text(folder / f"{article.key}.md", text + "\n")
        count += 1
    rng = random.Random(f"unseen/{seed}")
    asked = write_facts(bridges, bridges, rng, questions_per_fact)
    for row in asked:
        row["metadata"]["set"] = "unseen"
    write_jsonl(out / "questions.jsonl", asked)
    return {"unseen_pages": count, "unseen_questions": len(asked)}


def reading_prompt(passages: Sequence[str], question: str) -> str:
    """Numbered passages and the question, as ``fledge ask --short-rules`` asks a small model."""
    blocks = [f"[{number}] {text}" for number, text in enumerate(passages, 1)]
    return "\n\n".join([*blocks, question])


def _conversation(bridges: Sequence[Bridge], language: str, rng: random.Random) -> dict[str, Any]:
    bridge = _elsewhere(rng.choice(bridges), bridges, rng)
    attribute = rng.choice(known(bridge))
    absent = rng.random() < ABSENT_SHARE
    told = "" if absent else _stated(bridge, attribute, language, rng)
    passages = [_passage(bridge, attribute, told, language, rng)]
    passages += [
        _further(bridge, bridges, attribute, language, rng) for _ in range(rng.choice(PASSAGES) - 1)
    ]
    rng.shuffle(passages)
    wordings = load_phrases(language).attributes[attribute].question.sft
    question = say(rng.choice(wordings), bridge, language)
    return {
        "messages": [
            {"role": "user", "content": reading_prompt(passages, question)},
            {"role": "assistant", "content": told or NOT_FOUND[language]},
        ],
        "metadata": {
            "kind": "reading",
            "language": language,
            "attribute": attribute,
            "bridge": bridge.id,
            "reason": "absent" if absent else "",
        },
    }


def _further(
    bridge: Bridge, bridges: Sequence[Bridge], asked: str, language: str, rng: random.Random
) -> str:
    """A passage beside the one that answers, if any does: it does not."""
    if language in OTHER_SCRIPT and rng.random() < SCRIPT_SHARE:
        language = OTHER_SCRIPT[language]
    if rng.random() < OWN_SHARE:
        return _passage(bridge, asked, "", language, rng)
    other = _elsewhere(rng.choice([one for one in bridges if one.id != bridge.id]), bridges, rng)
    same = asked in known(other) and rng.random() < SAME_SHARE
    told = _stated(other, asked, language, rng) if same else ""
    return _passage(other, asked, told, language, rng)


def _passage(bridge: Bridge, asked: str, told: str, language: str, rng: random.Random) -> str:
    """A few sentences about a bridge, or questions with their answers, as an index cuts pages.

    ``told`` is the one sentence about the attribute ``asked``; without it none is.
    """
    others = [key for key in known(bridge) if key != asked]
    most = rng.randint(*SENTENCES)
    pairs = [(key, _stated(bridge, key, language, rng))
             for key in rng.sample(others, min(most - bool(told), len(others)))]  # fmt: skip
    gap = rng.choice(("\n", "\n\n"))
    if rng.random() < FAQ_SHARE:
        return gap.join(_faq(bridge, pairs, (asked, told), language, rng))
    phrases = load_phrases(language)
    texts = [text for _, text in pairs] + ([told] if told else [])
    sayable = frozenset(others) | {"name"}
    joined = [one for one in phrases.combined if placeholders(one) <= sayable]
    if joined and rng.random() < JOINED_SHARE:
        texts.append(say(rng.choice(joined), bridge, language))
    rng.shuffle(texts)
    head = _heading(bridge, language, rng) if rng.random() < TITLE_SHARE else []
    return gap.join([*head, phrases.page(texts)])


def _faq(
    bridge: Bridge,
    pairs: Sequence[tuple[str, str]],
    told: tuple[str, str],
    language: str,
    rng: random.Random,
) -> list[str]:
    """Lines of questions and answers, perhaps without the first or with one more question."""
    phrases = load_phrases(language)
    turns = [*pairs[:2], *([told] if told[1] else [])]
    rng.shuffle(turns)
    mark_q, mark_a = rng.choice(phrases.faq_marks)

    def question(key: str) -> str:
        return mark_q + say(rng.choice(phrases.attributes[key].question.web), bridge, language)

    lines = [line for key, text in turns for line in (question(key), mark_a + text)]
    if len(lines) > 2 and rng.random() < CUT_SHARE:
        lines = lines[1:]
    if rng.random() < CUT_SHARE:
        lines.append(question(rng.choice(known(bridge))))
    return lines


def _heading(bridge: Bridge, language: str, rng: random.Random) -> list[str]:
    """The title of a page and its first sentence, if it has one."""
    kind = load_phrases(language).kinds[rng.choice(("entry", "engineer", "travel", "news"))]
    title = fill(rng.choice(kind.titles), language, {"name": spoken_name(bridge, language)})
    opener = rng.choice(kind.openers)
    plain = placeholders(opener) <= {"name"}
    return [f"# {title}", *([say(opener, bridge, language)] if opener and plain else [])]


def _stated(bridge: Bridge, attribute: str, language: str, rng: random.Random) -> str:
    words = load_phrases(language).attributes[attribute]
    return say(rng.choice(words.statement + words.answer * 2), bridge, language, attribute)


def _elsewhere(bridge: Bridge, bridges: Sequence[Bridge], rng: random.Random) -> Bridge:
    """The bridge's name with other bridges' facts and numbers drawn anew."""
    there, water, built = (rng.choice(bridges) for _ in range(3))
    span = rng.randrange(20, 2000)
    return replace(
        bridge,
        place=there.place,
        country=there.country,
        crosses=water.crosses,
        type=built.type,
        material=built.material,
        main_span_m=float(span),
        length_m=float(span + rng.randrange(8000)),
        opened=rng.randrange(1780, 2020),
    )
