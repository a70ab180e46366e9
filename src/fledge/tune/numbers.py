"""A text in English or Chinese in, the numbers it states out, in order.  Pure."""

from __future__ import annotations

import re

DIGITS = {
    "零": 0, "〇": 0, "一": 1, "二": 2, "两": 2, "兩": 2, "三": 3, "四": 4,
    "五": 5, "六": 6, "七": 7, "八": 8, "九": 9,
}  # fmt: skip
UNITS = {"十": 10, "百": 100, "千": 1000}
MYRIADS = {"万": 10**4, "萬": 10**4, "亿": 10**8, "億": 10**8}
SCALES = {"thousand": 1e3, "million": 1e6, "billion": 1e9, **MYRIADS}

_CHINESE = "".join((*DIGITS, *UNITS, *MYRIADS))
_NUMBER = re.compile(
    r"(?P<western>[-−+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d{1,3}(?!\d))?)"
    rf"(?:\s*(?P<scale>thousand|million|billion|[{''.join(MYRIADS)}]))?(?P<percent>\s*[%％])?"
    rf"|(?P<negative>负|負)?(?P<chinese>[{_CHINESE}]+(?:[点點][{''.join(DIGITS)}]+)?)",
    re.IGNORECASE,
)
_WIDE = str.maketrans("０１２３４５６７８９．，－", "0123456789.,-")


def numbers_in(text: str) -> list[float]:
    """The numbers of a text; 12 % is 12, 3.5万 is 35000, 一千二百八十 is 1280."""
    found = []
    wide = text.translate(_WIDE)
    for match in _NUMBER.finditer(wide):
        if match["western"]:
            found.append(_western(match, wide))
        else:
            value = _chinese(match["chinese"])
            if value is not None:
                found.append(-value if match["negative"] else value)
    return found


def stated_number(text: str) -> float | None:
    """The number that an answer comes to: its last one, one in digits where there is any.

    一 is in many words that state none.
    """
    plain = [match for match in _NUMBER.finditer(text.translate(_WIDE)) if match["western"]]
    found = [_western(match, text.translate(_WIDE)) for match in plain] or numbers_in(text)
    return found[-1] if found else None


def _western(match: re.Match[str], text: str) -> float:
    written = match["western"].replace(",", "").replace("−", "-")
    before = text[match.start() - 1] if match.start() else " "
    if written[0] == "-" and (before.isalnum() or before in ")）"):
        written = written[1:]  # 10-12 is a range, A-4 a name
    value = float(written)
    return value * SCALES[match["scale"].lower()] if match["scale"] else value


def _chinese(text: str) -> float | None:
    """一千二百八十 as 1280, 一九三七 as 1937, 三点五 as 3.5; None for a unit alone."""
    whole, _, part = re.sub("點", "点", text).partition("点")
    if not any(sign in DIGITS or sign == "十" for sign in whole):
        return None
    if all(sign in DIGITS for sign in whole):
        value = float("".join(str(DIGITS[sign]) for sign in whole))
    else:
        value = float(_with_units(whole))
    if part:
        value += float("0." + "".join(str(DIGITS[sign]) for sign in part))
    return value


def _with_units(text: str) -> int:
    total = section = digit = 0
    last = 1
    for sign in text:
        if sign in DIGITS:
            digit = DIGITS[sign]
            last = 1 if sign in "零〇" else last
        elif sign in UNITS:
            section += (digit or 1) * UNITS[sign]
            digit, last = 0, UNITS[sign]
        else:
            total = (total + section + digit) * MYRIADS[sign]
            section, digit, last = 0, 0, MYRIADS[sign]
    if digit and last > 10:  # 一千二: 1200
        digit *= last // 10
    return total + section + digit
