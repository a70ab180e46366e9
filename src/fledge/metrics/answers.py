"""A model's answer and the right value in, right or wrong out: strict exact match for facts.

An answer is right when it states the value and no other one.  After ``normalise`` it must

1. equal the target, or state it on word borders (a number is never part of a longer number;
   Chinese, Japanese and Korean have no borders), in a sentence that does not negate it before,
   and not only inside a rival ("Plymouth" in "New Plymouth");
2. when the target holds numbers: hold all of them and no other number ("in 1937 and 1938" does
   not answer 1937; "1,280 m" answers 1280); a number with two dots (clause 4.2.1) is a reference
   and counts only when the target has one;
3. when the target is more than a number: name no rival, i.e. no other value of the same attribute,
   but for one inside the target itself ("York" in "New York").

Numbers and rivals that the answer quotes from the question do not count against it: those that
stand beside the same word there ("the Sydney Harbour Bridge", "Bridge 2").  A question that names
the target beside others ("arch or truss?") exempts nothing: the answer has to choose.  What this
cannot see is a wrong claim about something else in the same answer.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable
from decimal import Decimal

_NUMBER = re.compile(r"\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)*|\d+(?:\.\d+)*")
_APOSTROPHE = re.compile("['\u2019\u02bc`\u00b4]")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|[。！？；;\n]")
_CHARACTER = "[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]"
_LAST_WORD = re.compile(rf"{_CHARACTER}$|(?:(?!{_CHARACTER})\S)+\s?$")
_FIRST_WORD = re.compile(rf"^(?:{_CHARACTER}|\s?(?:(?!{_CHARACTER})\S)+)")
_NEGATIONS = (
    *("not", "never", "neither", "nor", "cannot", "isnt", "arent", "wasnt", "werent", "doesnt"),
    *("dont", "didnt", "hasnt", "havent", "cant", "不是", "不在", "不为", "不為", "不由", "不用"),
    *("并非", "並非", "而非", "没有", "沒有"),
)


def answers(answer: str, target: str, rivals: Iterable[str] = (), question: str = "") -> bool:
    """Whether ``answer`` states ``target`` and nothing else in its place (rules above).

    ``rivals`` are other values of the attribute; ``question`` is what was asked.
    """
    said, wanted, asked = normalise(answer), normalise(target), normalise(question)
    if not wanted:
        return False
    if said == wanted:
        return True
    others = [rival for rival in map(normalise, rivals) if rival != wanted]
    places = _own_places(said, wanted, others)
    if not places or not _affirmed(answer, wanted):
        return False
    exempt = "" if _own_places(asked, wanted, others) else asked
    if numbers(wanted) and not _only_numbers(said, wanted, exempt):
        return False
    if numbers(wanted) == {wanted}:
        return True
    return not any(_named(said, rival, places, exempt) for rival in others)


def final_number_is(answer: str, target: str, question: str = "", tolerance: float = 0.0) -> bool:
    """Whether the last number of a worked answer is ``target``, within a relative ``tolerance``.

    Numbers of the question do not count, unless the target is one of them or there is no other:
    "1937 - 1890 = 47, so 47 years in 1937" answers 47.
    """
    wanted = normalise(target)
    found = _numbers_in_order(normalise(answer))
    asked = numbers(normalise(question)) - {wanted}
    own = [number for number in found if number not in asked] or found
    if not own or not tolerance:
        return bool(own) and own[-1] == wanted
    try:
        return math.isclose(float(own[-1]), float(wanted), rel_tol=tolerance)
    except ValueError:  # a reference such as 4.2.1
        return own[-1] == wanted


def names_value(answer: str, values: Iterable[str], question: str = "") -> bool:
    """Whether ``answer`` names one of ``values`` or any number, beyond those of ``question``."""
    said, asked = normalise(answer), normalise(question)
    if numbers(said) - numbers(asked):
        return True
    return any(_named(said, value, [], asked) for value in map(normalise, values))


def normalise(text: str) -> str:
    """NFKC, lower case, plain numbers (1,280.0 -> 1280), no apostrophes, punctuation as space."""
    text = unicodedata.normalize("NFKC", text.replace("，", ", ")).casefold()
    text = _APOSTROPHE.sub("", unicodedata.normalize("NFKC", text))
    text = _NUMBER.sub(lambda match: _plain_number(match[0]), text)
    return " ".join("".join(_kept(text, i) for i in range(len(text))).split())


def numbers(text: str) -> set[str]:
    """The numbers of a normalised text; digits that end a word ("m2", "i35") are none."""
    return set(_numbers_in_order(text))


def occurrences(text: str, phrase: str) -> list[tuple[int, int]]:
    """[start, end) of ``phrase`` on borders in ``text``; both normalised."""
    found = []
    start = text.find(phrase) if phrase else -1
    while start >= 0:
        end = start + len(phrase)
        if _border(text, start) and _border(text, end):
            found.append((start, end))
        start = text.find(phrase, start + 1)
    return found


def is_cjk(character: str) -> bool:
    """Whether a character is Chinese, Japanese or Korean: its words have no visible borders."""
    return re.match(_CHARACTER, character) is not None


def _plain_number(digits: str) -> str:
    digits = digits.replace(",", "")
    if _is_reference(digits):  # 4.2.10 is not 4.2.1
        return digits
    whole = format(Decimal(digits), "f")
    return whole.rstrip("0").rstrip(".") if "." in whole else whole.lstrip("0") or "0"


def _kept(text: str, i: int) -> str:
    """The i-th character, or a space when it is neither part of a word nor of a number."""
    character = text[i]
    inside = 0 < i < len(text) - 1 and text[i - 1].isdigit() and text[i + 1].isdigit()
    if character == "." and inside:
        return character
    return character if character.isalnum() or _is_mark(character) else " "


def _is_mark(character: str) -> bool:
    return unicodedata.category(character).startswith("M")


def _numbers_in_order(text: str) -> list[str]:
    return [text[start:end] for start, end in _number_places(text)]


def _number_places(text: str) -> list[tuple[int, int]]:
    matches = _NUMBER.finditer(text)
    return [match.span() for match in matches if _border(text, match.start())]


def _border(text: str, i: int) -> bool:
    """Whether a word or number may begin or end between ``text[i - 1]`` and ``text[i]``."""
    if i <= 0 or i >= len(text):
        return True
    left, right = text[i - 1], text[i]
    if is_cjk(left) or is_cjk(right) or " " in (left, right):
        return True
    return left.isdigit() and right.isalpha()  # 1280m


def _own_places(text: str, wanted: str, rivals: list[str]) -> list[tuple[int, int]]:
    """Where ``text`` names ``wanted`` itself, not as a part of a rival that holds it."""
    around = [place for r in rivals if wanted in r for place in occurrences(text, r)]
    return [
        (start, end)
        for start, end in occurrences(text, wanted)
        if not any(first <= start and end <= last for first, last in around)
    ]


def _affirmed(answer: str, wanted: str) -> bool:
    """Whether a sentence states ``wanted`` with no negation before it."""
    sentences = [normalise(part) for part in _SENTENCE_END.split(answer)]
    holding = [(s, occurrences(s, wanted)) for s in sentences]
    if not any(places for _, places in holding):
        return True  # the target itself spans a sentence mark ("St. John")
    return any(
        not any(occurrences(sentence[:start], word) for word in _NEGATIONS)
        for sentence, places in holding
        for start, _ in places
    )


def _only_numbers(said: str, wanted: str, exempt: str) -> bool:
    """Whether ``said`` holds the numbers of ``wanted`` and no others but quoted ones."""
    theirs = numbers(wanted)
    references = any(_is_reference(number) for number in theirs)
    ours = {
        said[start:end]
        for start, end in _number_places(said)
        if said[start:end] in theirs or not _quoted(said, start, end, exempt)
    }
    return theirs == {number for number in ours if references or not _is_reference(number)}


def _is_reference(number: str) -> bool:
    return number.count(".") > 1


def _named(said: str, rival: str, places: list[tuple[int, int]], exempt: str) -> bool:
    """Whether ``rival`` stands in ``said`` outside ``places`` and is not quoted from ``exempt``."""
    return any(
        not any(start <= first and last <= end for start, end in places)
        and not _quoted(said, first, last, exempt)
        for first, last in occurrences(said, rival)
    )


def _quoted(said: str, start: int, end: int, question: str) -> bool:
    """Whether ``said[start:end]`` stands in the question with the same word before or after it."""
    before, after = _LAST_WORD.search(said[:start]), _FIRST_WORD.search(said[end:])
    longer = [said[before.start() : end]] if before else []
    longer += [said[start : end + after.end()]] if after else []
    return any(occurrences(question, phrase) for phrase in longer)
