"""Bridges that do not exist: a count and the taken names in, ``Bridge`` values out.

They are asked about only where the right answer is 'I don't know', so they must look like real
ones: names from parts in three languages, every attribute filled.
"""

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from fledge.samples.bridges.facts import Bridge
from fledge.samples.bridges.phrases import LANGUAGES, load_phrases

Words = tuple[str, str, str]
"""one name in English, Simplified and Traditional Chinese"""

_HEADS: tuple[Words, ...] = (
    ("Kel", "凯尔", "凱爾"), ("Har", "哈", "哈"), ("Mor", "莫尔", "莫爾"), ("Ash", "阿什", "阿什"),
    ("Bram", "布拉姆", "布拉姆"), ("Dun", "邓", "鄧"), ("Thorn", "索恩", "索恩"),
    ("Lang", "朗", "朗"), ("Eder", "埃德尔", "埃德爾"), ("Gran", "格兰", "格蘭"),
    ("Sel", "塞尔", "塞爾"), ("Tor", "托尔", "托爾"), ("Val", "瓦尔", "瓦爾"),
    ("Nor", "诺", "諾"), ("Raven", "雷文", "雷文"), ("Whit", "惠特", "惠特"),
    ("Fair", "费尔", "費爾"), ("Oster", "奥斯特", "奧斯特"), ("Lin", "林", "林"),
    ("Hal", "哈尔", "哈爾"), ("Brem", "布雷姆", "布雷姆"), ("Cor", "科尔", "科爾"),
    ("Wes", "韦斯", "韋斯"), ("Ald", "阿尔德", "阿爾德"), ("Mar", "马尔", "馬爾"),
    ("Stan", "斯坦", "斯坦"), ("Win", "温", "溫"), ("Eng", "恩格", "恩格"),
)  # fmt: skip
_TAILS: tuple[Words, ...] = (
    ("ford", "福德", "福德"), ("bury", "伯里", "伯里"), ("ton", "顿", "頓"),
    ("dale", "代尔", "代爾"), ("mere", "米尔", "米爾"), ("wick", "威克", "威克"),
    ("stad", "斯塔德", "斯塔德"), ("sund", "松德", "松德"), ("haven", "黑文", "黑文"),
    ("mont", "蒙特", "蒙特"), ("field", "菲尔德", "菲爾德"), ("brook", "布鲁克", "布魯克"),
    ("ville", "维尔", "維爾"), ("gate", "盖特", "蓋特"), ("burg", "堡", "堡"),
    ("ley", "利", "利"), ("by", "比", "比"), ("holm", "霍尔姆", "霍爾姆"),
)  # fmt: skip
_EAST_HEADS: tuple[Words, ...] = (
    ("Yun", "云", "雲"), ("Qing", "清", "清"), ("Long", "龙", "龍"), ("Shi", "石", "石"),
    ("Bai", "白", "白"), ("Wang", "望", "望"), ("An", "安", "安"), ("Yong", "永", "永"),
    ("Liu", "柳", "柳"), ("Song", "松", "松"), ("Hong", "虹", "虹"), ("Lan", "兰", "蘭"),
    ("Hua", "华", "華"), ("Xin", "新", "新"), ("Ming", "明", "明"), ("Fu", "福", "福"),
)  # fmt: skip
_EAST_TAILS: tuple[Words, ...] = (
    ("xi", "溪", "溪"), ("ling", "岭", "嶺"), ("shan", "山", "山"), ("sha", "沙", "沙"),
    ("tang", "塘", "塘"), ("ping", "坪", "坪"), ("zhou", "洲", "洲"), ("wan", "湾", "灣"),
    ("quan", "泉", "泉"), ("feng", "峰", "峰"), ("lin", "林", "林"), ("he", "河", "河"),
)  # fmt: skip
_FIRST_NAMES: tuple[Words, ...] = (
    ("Edwin", "埃德温", "埃德溫"), ("Clara", "克拉拉", "克拉拉"), ("Martin", "马丁", "馬丁"),
    ("Louis", "路易", "路易"), ("Anna", "安娜", "安娜"), ("Hugo", "雨果", "雨果"),
)  # fmt: skip
_BRIDGES: tuple[Words, ...] = (
    ("Bridge", "大桥", "大橋"), ("Bridge", "大桥", "大橋"), ("Bridge", "桥", "橋"),
    ("Bay Bridge", "湾大桥", "灣大橋"), ("River Bridge", "河大桥", "河大橋"),
    ("Street Bridge", "街大桥", "街大橋"), ("Viaduct", "高架桥", "高架橋"),
)  # fmt: skip
_COUNTRIES: tuple[Words, ...] = (
    ("United States", "美国", "美國"), ("United Kingdom", "英国", "英國"),
    ("Germany", "德国", "德國"), ("France", "法国", "法國"), ("Norway", "挪威", "挪威"),
    ("Canada", "加拿大", "加拿大"), ("Australia", "澳大利亚", "澳洲"),
)  # fmt: skip
_CHINA: Words = ("China", "中国", "中國")


def invent(count: int, taken_names: Collection[str], seed: int) -> list[Bridge]:
    """``count`` made-up bridges; no name of theirs holds, or is held in, a taken one."""
    rng = random.Random(f"invent/{seed}")
    taken = {name.lower() for name in taken_names}
    made: list[Bridge] = []
    for _ in range(count * 200):
        if len(made) == count:
            return made
        bridge = _one(rng, len(made))
        names = {name.lower() for name in bridge.names.values()}
        if not any(name in other or other in name for name in names for other in taken):
            taken |= names
            made.append(bridge)
    raise ValueError(f"only {len(made)} of {count} names could be invented; ask for fewer")


@dataclass(frozen=True, kw_only=True)
class Invented:
    """Made-up bridges by who asks about them; no bridge is in two pools."""

    sft: list[Bridge]
    eval: list[Bridge]
    judge: list[Bridge]
    probes: list[Bridge]


def invent_for_all(count: int, taken_names: Collection[str], seed: int) -> Invented:
    """``count`` for conversations, evaluation and judge each, twice as many for probes."""
    made = invent(5 * count, taken_names, seed)
    return Invented(
        sft=made[:count],
        eval=made[count : 2 * count],
        judge=made[2 * count : 3 * count],
        probes=made[3 * count :],
    )


def all_names(bridges: Sequence[Bridge]) -> set[str]:
    """Every name of ``bridges`` in every language, as ``taken_names`` wants them."""
    return {name for bridge in bridges for name in bridge.names.values()}


def _one(rng: random.Random, number: int) -> Bridge:
    """A candidate; its place and its river are invented too."""
    east = rng.random() < 0.3
    heads, tails = (_EAST_HEADS, _EAST_TAILS) if east else (_HEADS, _TAILS)
    stem = _join(rng.choice(heads), rng.choice(tails))
    place = _join(rng.choice(heads), rng.choice(tails))
    name = _named(rng, stem, east)
    phrases = load_phrases("en")
    span = rng.randrange(40, 1500)
    return Bridge(
        id=f"invented-{number:03d}",
        names=_texts(name),
        place=_texts(place),
        country=_texts(_CHINA if east else rng.choice(_COUNTRIES)),
        crosses=_texts(_join(stem, (" River", "河", "河"))),
        type=rng.choice(sorted(phrases.types)),
        material=rng.choice(sorted(phrases.materials)),
        main_span_m=float(span),
        length_m=float(span + rng.randrange(20, 3000)),
        opened=rng.randrange(1820, 2020),
    )


def _named(rng: random.Random, stem: Words, east: bool) -> Words:
    """'Kelford Bridge', 'Kelford Bay Bridge' or 'Edwin Kelford Memorial Bridge'."""
    if not east and rng.random() < 0.15:
        first = rng.choice(_FIRST_NAMES)
        person = tuple(f"{a}{dot}{b}" for a, dot, b in zip(first, " ··", stem, strict=True))
        return _join(
            (person[0], person[1], person[2]), (" Memorial Bridge", "纪念大桥", "紀念大橋")
        )
    suffix = rng.choice(_BRIDGES[:3] if east else _BRIDGES)
    return _join(stem, (f" {suffix[0]}", suffix[1], suffix[2]))


def _join(first: Words, second: Words) -> Words:
    """Both, language by language."""
    return (first[0] + second[0], first[1] + second[1], first[2] + second[2])


def _texts(words: Words) -> dict[str, str]:
    """Language -> text."""
    return dict(zip(LANGUAGES, words, strict=True))
