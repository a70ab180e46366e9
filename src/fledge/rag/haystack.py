"""A needle put into a haystack: texts of a length with one sentence at a depth, and the question.

The needles are invented, so that no model knows them; the hay is written here, too, or the user's
own.  Needle in a haystack: Kamradt 2023.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from fledge.index.sentences import sentences
from fledge.rag.language import Language
from fledge.rag.prompt import estimate_tokens


@dataclass(frozen=True, kw_only=True)
class Needle:
    """A sentence, what is asked about it, and the words an answer must hold."""

    sentence: str
    question: str
    answer: str


_NAMES: dict[Language, tuple[str, ...]] = {
    "en": ("Aldermoor", "Brackwater", "Corvane", "Dunsholt", "Eastmere", "Farrowgate", "Glenquay",
           "Harrowlin", "Ivesdale", "Kestrelford", "Lorncastle", "Marwick"),
    "zh": ("青岚", "柏溪", "鹿鸣", "望沙", "云柯", "石汀", "枫林渡", "南屿", "白榆", "长汀口",
           "雁回", "碧梧"),
}  # fmt: skip
_HAY: dict[Language, tuple[tuple[str, ...], ...]] = {
    "en": (
        ("The inspector", "A surveyor", "The town clerk", "An old mason", "The harbour master",
         "A visiting engineer", "The night watchman", "The county record"),
        ("noted", "wrote", "reported", "remembered", "explained", "recorded"),
        ("that the {thing} needed new paint", "that the {thing} had been cleaned",
         "that rain had run along the {thing} for days", "that nobody had counted the {thing}",
         "that the {thing} was older than the road", "that the {thing} looked sound",
         "that the drawings of the {thing} were lost"),
        ("railing", "deck", "eastern pier", "drain", "lamp post", "footway", "parapet", "bearing",
         "staircase", "toll house"),
        ("in spring", "after the flood", "before the winter", "on a quiet morning",
         "during the long repair", "in the year of the great storm", "without further comment"),
    ),
    "zh": (
        ("检查员", "测量师", "镇上的书记", "一位老石匠", "港务长", "来访的工程师", "守夜人",
         "县志"),
        ("记下", "写道", "报告说", "回忆说", "解释说", "记载"),
        ("{thing}需要重新上漆", "{thing}已经清洗过", "雨水沿着{thing}流了好几天",
         "没有人数过{thing}", "{thing}比道路还要古老", "{thing}看起来很牢固",
         "{thing}的图纸已经遗失"),
        ("栏杆", "桥面", "东侧桥墩", "排水沟", "灯柱", "人行道", "护墙", "支座", "台阶",
         "收费亭"),
        ("时值春天", "在洪水之后", "在入冬之前", "在一个安静的早晨", "在漫长的修缮期间",
         "在大风暴那年", "没有多作说明"),
    ),
}  # fmt: skip


def needle(language: Language, seed: int) -> Needle:
    """An invented fact; the same for the same seed."""
    rng = random.Random(f"needle {language} {seed}")
    name, number = rng.choice(_NAMES[language]), rng.randint(1000, 9999)
    if language == "zh":
        return Needle(
            sentence=f"{name}仓库的开门密码是{number}。",
            question=f"{name}仓库的开门密码是多少？",
            answer=str(number),
        )
    return Needle(
        sentence=f"The door code of the {name} warehouse is {number}.",
        question=f"What is the door code of the {name} warehouse?",
        answer=str(number),
    )


def hay(language: Language, tokens: int, seed: int) -> list[str]:
    """Sentences of ``tokens`` tokens together, estimated; the same for the same seed."""
    rng = random.Random(f"hay {language} {seed}")
    found: list[str] = []
    while tokens > 0:
        who, verb, what, thing, when = (rng.choice(part) for part in _HAY[language])
        what = what.format(thing=thing)
        found.append(f"{when}，{who}{verb}，{what}。" if language == "zh" else
                     f"{who} {verb} {when} {what}.")  # fmt: skip
        tokens -= estimate_tokens(found[-1])
    return found


def own_hay(text: str, tokens: int) -> list[str]:
    """The first sentences of a text of one's own, repeated when it is too short."""
    spans = sentences(text)
    found: list[str] = []
    place = 0
    while tokens > 0 and spans:
        start, end = spans[place % len(spans)]
        found.append(text[start:end])
        tokens -= estimate_tokens(found[-1])
        place += 1
    return found


def stack(straws: Sequence[str], one: Needle, depth: float, language: Language) -> str:
    """The text with the needle at ``depth`` (0 first, 1 last)."""
    place = round(depth * len(straws))
    gap = "" if language == "zh" else " "
    return gap.join([*straws[:place], one.sentence, *straws[place:]])
