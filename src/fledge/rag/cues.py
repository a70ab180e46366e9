"""A question in, the kind of thing it asks for out, and whether a sentence has one.

A cue, no more: "how long" wants a number, "who" a name.  English and Chinese, both scripts.
"""

from __future__ import annotations

import re
from typing import Literal

from fledge.index.terms import terms

Kind = Literal["number", "date", "person", "place", "reason", "other"]

_KINDS: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    ("date", re.compile(
        r"\b(?:when|what (?:year|date|day|month|century|decade)|which (?:year|month|day|century)"
        r"|in what year|how old)\b"
        r"|何[时時年]|[几幾][时時年月]|哪[一]?[个個]?(?:年|月|[时時]|世[纪紀]|朝代|日)"
        r"|什[么麼][时時年]|甚麼時|多久以前|哪一天|多大年[纪紀]", re.IGNORECASE)),
    ("number", re.compile(
        r"\bhow (?:many|much|long|far|high|tall|wide|deep|large|big|fast|often|heavy|thick)\b"
        r"|\bwhat (?:percent\w*|proportion|share|number|fraction|rate|size|temperature|distance"
        r"|speed|length|height|width|population|amount|score|dose|prevalence)\b"
        r"|\bwhat (?:is|was|were|are) the (?:[\w-]+ ){0,2}(?:number|percentage|rate|size|length"
        r"|height|width|population|cost|price|score|mean|average|total|dose|prevalence)\b"
        r"|多少|[几幾](?:[个個位名座次种種条條年月天人部张張首篇本]|公里)|多[长長高宽寬深大重远遠快厚久]"
        r"|[第]?[几幾](?=[^乎何])|百分之|比例|面[积積]|人口", re.IGNORECASE)),
    ("person", re.compile(
        r"\b(?:who|whom|whose)\b|\bwhat (?:is|was) the name\b|\bwhich (?:person|author|actor"
        r"|player|president|king|queen|scientist|company|team)\b"
        r"|[谁誰]|哪[一]?[位名]|何人|什[么麼]人|哪[个個]人|甚麼人", re.IGNORECASE)),
    ("place", re.compile(
        r"\b(?:where|what (?:city|country|state|place|river|island|region)|which (?:city|country"
        r"|state|place|river|island|region|continent))\b"
        r"|哪[裡里儿兒]|何[处處地]|哪[一]?[个個座]?(?:地方|城市|[国國]家|省|地[区區]|州|市|[县縣])"
        r"|什[么麼]地方", re.IGNORECASE)),
    ("reason", re.compile(
        r"\b(?:why|what (?:caused?|led)|for what reason)\b|[为為]什[么麼]|[为為]何|原因|何以",
        re.IGNORECASE)),
)  # fmt: skip

_NUMBER = re.compile(
    r"\d+(?:[.,:]\d+)*|[〇零一二三四五六七八九十百千万萬亿億两兩]{1,}(?=[年月日个個位名座次种種条條天人部米公里%％度])"
    r"|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty|forty"
    r"|fifty|hundred|thousand|million|billion|half|twice|dozen)\b",
    re.IGNORECASE,
)
_DATE = re.compile(
    r"\b(?:1\d{3}|20\d{2})\b|\d+\s*(?:年|月|日|世[纪紀])|\b\d{1,2}(?:st|nd|rd|th) century\b"
    r"|\b(?:January|February|March|April|May|June|July|August|September|October|November|December"
    r"|Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday)\b|\d{4}"
    r"|[商周秦汉漢晋晉隋唐宋元明清]朝|[〇零一二三四五六七八九十]+[年月日]"
)
_NAME = re.compile(
    r"(?<![.!?]\s)(?<!^)\b[A-Z][\w'’.-]+(?:\s+(?:of|the|de|van|von|[A-Z][\w'’.-]+))*"
)
_REASON = re.compile(
    r"\b(?:because|due to|since|owing|caused?|reason|so that|in order to|therefore|result)\b"
    r"|因[为為此]|由[于於]|[导導]致|所以|[为為]了|原因|[从從]而",
    re.IGNORECASE,
)


def kind_of(question: str) -> Kind:
    """What it asks for: the first kind whose words are in it, dates before numbers."""
    return next((kind for kind, pattern in _KINDS if pattern.search(question)), "other")


def values(kind: Kind, text: str) -> list[tuple[int, int]]:
    """Spans [start, end) in ``text`` that look like a thing of this kind."""
    pattern = {"date": _DATE, "number": _NUMBER, "person": _NAME, "place": _NAME,
               "reason": _REASON}.get(kind)  # fmt: skip
    return [match.span() for match in pattern.finditer(text)] if pattern else []


def new_values(kind: Kind, question: str, text: str) -> list[tuple[int, int]]:
    """The spans of ``values`` that say something the question does not."""
    asked = set(terms(question))
    return [
        (start, end)
        for start, end in values(kind, text)
        if kind == "reason" or not set(terms(text[start:end])) <= asked
    ]
