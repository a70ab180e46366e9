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
from fledge.samples.bridges.facts import Bridge, known, say
from fledge.samples.bridges.phrases import LANGUAGES, load_phrases, placeholders
from fledge.samples.bridges.questions import write_facts

NOT_FOUND = {
    "en": "The answer is not in your documents.",
    "zh-Hans": "您的文档中没有答案。",
    "zh-Hant": "您的文件中沒有答案。",
}
"""What is said when no passage answers: the words of ``fledge ask``."""

ABSENT_SHARE = 0.15
"""share of conversations whose passages do not answer"""
BESIDE_SHARE = 0.75
"""share with a second passage, about another bridge"""
SAME_SHARE = 0.6
"""share of other bridges' passages that tell the very attribute asked for"""
SENTENCES = (2, 4)
"""of a passage, fewest and most: two passages and a question fit into 256 tokens"""
JOINED_SHARE = 0.4
"""share of passages in prose with a sentence that joins several attributes, not the one asked"""
FAQ_SHARE = 0.3
"""share of passages in questions and answers"""


def write_reading(bridges: Sequence[Bridge], count: int, seed: int) -> list[dict[str, Any]]:
    """``count`` conversations ``{"messages": [user with passages and question, assistant]}``.

    The names of ``bridges`` with facts of others, and numbers of nobody.  An answer is the very
    sentence that tells: what is said in other words could not be shown to stand in a document.
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
    bridge, other = (_elsewhere(one, bridges, rng) for one in rng.sample(list(bridges), 2))
    attribute = rng.choice(known(bridge))
    absent = rng.random() < ABSENT_SHARE
    told = "" if absent else _stated(bridge, attribute, language, rng)
    passages = [_passage(bridge, attribute, told, language, rng)]
    if rng.random() < BESIDE_SHARE:
        same = attribute in known(other) and rng.random() < SAME_SHARE
        beside = _stated(other, attribute, language, rng) if same else ""
        passages.append(_passage(other, attribute, beside, language, rng))
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


def _passage(bridge: Bridge, asked: str, told: str, language: str, rng: random.Random) -> str:
    """A few sentences about a bridge, or questions with their answers, as pages have them.

    ``told`` is the one sentence about the attribute ``asked``; without it none is.
    """
    others = [key for key in known(bridge) if key != asked]
    keys = rng.sample(others, min(rng.randint(*SENTENCES) - bool(told), len(others)))
    pairs = [(key, _stated(bridge, key, language, rng)) for key in keys]
    phrases = load_phrases(language)
    if rng.random() < FAQ_SHARE:
        pairs = [*pairs[:2], *([(asked, told)] if told else [])]
        rng.shuffle(pairs)
        mark_q, mark_a = rng.choice(phrases.faq_marks)
        lines = []
        for key, text in pairs:
            question = say(rng.choice(phrases.attributes[key].question.web), bridge, language)
            lines += [mark_q + question, mark_a + text]
        return "\n".join(lines)
    texts = [text for _, text in pairs] + ([told] if told else [])
    if rng.random() < JOINED_SHARE:
        sayable = frozenset(others) | {"name"}
        joined = [one for one in phrases.combined if placeholders(one) <= sayable]
        texts[0] = say(rng.choice(joined), bridge, language) if pairs and joined else texts[0]
    rng.shuffle(texts)
    return phrases.page(texts)


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
