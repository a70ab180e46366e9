"""Telephone numbers: runs of digits that look like one and that a numbering plan allows."""

from __future__ import annotations

import re
from collections.abc import Iterator

from fledge.guard.secrets import Hit

_CANDIDATE = re.compile(
    r"(?<![\w.,/+=#$€£¥-])(?:\+|\(?00)?\(?\d{1,4}\)?"
    r"(?:[ \u00a0.-]?\(?\d{1,5}\)?){1,6}(?![\w%]|[.,/]\d)",
    re.ASCII,
)
_LABEL = re.compile(
    r"(?:\b(?:tel|phone|telephone|mobile|cell|call|fax|whatsapp|ring|dial|hotline|text)\b"
    r"|电话|電話|手机|手機|行動|热线|熱線|致电|致電|传真|傳真|来电|來電|拨打|撥打|联系|聯絡|连络)[^\d\n]{0,24}$",
    re.IGNORECASE,
)
_OTHER = re.compile(
    r"(?:ISBN|ISSN|DOI|EAN|No\.|order|invoice|serial|part|model|编号|編號|订单|訂單|统一编号|統一編號"
    r"|[¥$€£]|USD|NT\$)[^\w\n]{0,4}(?:number\W{0,3})?$",
    re.IGNORECASE,
)
_MOBILE_CN = re.compile(r"1[3-9]\d[ -]?\d{4}[ -]?\d{4}")
_MOBILE_TW = re.compile(r"09\d{2}[ -]?\d{3}[ -]?\d{3}")
_AREA = re.compile(r"\(?0\d{1,3}\)?[ -]\d{3,4}[ -]?\d{3,4}(?:[ -]\d{3,4})?")
_NORTH_AMERICAN = re.compile(r"(?:1[ .-])?\(?[2-9]\d{2}\)?[ .-]{1,2}[2-9]\d{2}[ .-]\d{4}")
_YEARS = re.compile(r"(?:1[0-9]|20)\d{2}\s?[-–]\s?(?:1[0-9]|20)\d{2}")
_DATE = re.compile(
    r"(?:1[0-9]|20)\d{2}[-. ]\d{1,2}[-. ]\d{1,2}|\d{1,2}[-. ]\d{1,2}[-. ](?:1[0-9]|20)\d{2}"
)

REGIONS = ("US", "GB", "CN", "TW", "HK", "DE", "FR")
"""Numbering plans tried for a labelled number without a country code."""


def find_phones(text: str) -> Iterator[Hit]:
    """Numbers with a country code, of a well-known national shape, or beside a label."""
    for match in _CANDIDATE.finditer(text):
        start, end = _bare(match)
        number = text[start:end]
        digits = re.sub(r"\D", "", number)
        if not 7 <= len(digits) <= 15 or _DATE.fullmatch(number) or _YEARS.fullmatch(number):
            continue
        before = text[max(0, start - 40) : start]
        if not _OTHER.search(before) and _is_phone(number, before):
            yield Hit(start, end, "PHONE")


def _bare(match: re.Match[str]) -> tuple[int, int]:
    """Where the number is, without spaces after it and without parentheses around all of it."""
    number = match[0].rstrip(" .-\u00a0")
    start, end = match.start(), match.start() + len(number)
    if number.endswith(")") and (number[0] == "(" and number.find(")") == len(number) - 1):
        return start + 1, end - 1
    spare = number.count(")") - number.count("(")
    return start + (spare < 0 and number[0] == "("), end - (spare > 0 and number[-1] == ")")


def _is_phone(number: str, before: str) -> bool:
    if number.startswith(("+", "00")):
        return _allowed(re.sub(r"^\(?00", "+", number), None)
    if _MOBILE_CN.fullmatch(number):
        return _allowed(number, "CN")
    if _MOBILE_TW.fullmatch(number):
        return _allowed(number, "TW")
    if _NORTH_AMERICAN.fullmatch(number):
        return _possible(number, "US")
    labelled = bool(_LABEL.search(before))
    if _AREA.fullmatch(number) or labelled:
        return any(_allowed(number, region) for region in REGIONS)
    return False


def _allowed(number: str, region: str | None) -> bool:
    """Whether a numbering plan allows the number (fictitious blocks such as 555 included)."""
    import phonenumbers

    try:
        parsed = phonenumbers.parse(number, region)
    except phonenumbers.NumberParseException:
        return False
    return bool(phonenumbers.is_valid_number(parsed)) or (
        region is None and bool(phonenumbers.is_possible_number(parsed))
    )


def _possible(number: str, region: str) -> bool:
    import phonenumbers

    try:
        return bool(phonenumbers.is_possible_number(phonenumbers.parse(number, region)))
    except phonenumbers.NumberParseException:
        return False
