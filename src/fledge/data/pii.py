"""Personal data in a text: found by shape, believed only when a checksum or a context agrees.

Years, lengths, clause numbers, versions and ISBNs have such shapes too; they must survive.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from fledge.guard.secrets import Hit, disjoint

_EMAIL = re.compile(
    r"(?<![\w.+-])[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}"
    r"(?:@|\s?[\[(]\s?at\s?[\])]\s?)(?:[A-Za-z0-9-]{1,63}"
    r"(?:\.|\s?[\[(]\s?dot\s?[\])]\s?)){1,4}[A-Za-z]{2,18}(?![A-Za-z0-9-])",
    re.ASCII,
)
_IPV4 = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w]|\.\d)", re.ASCII)
_IPV6 = re.compile(r"(?<![\w:.])(?:[0-9a-fA-F]{0,4}:){2,7}[0-9a-fA-F]{0,4}(?![\w:])", re.ASCII)
_CARD = re.compile(r"(?<![\d.,-])(?:\d[ -]?){12,18}\d(?![\d]|[.,-]\d)", re.ASCII)
_IBAN = re.compile(
    r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?:[ ]?[A-Z0-9]{2,4}){3,9}(?![A-Za-z0-9])", re.ASCII
)
_CN_ID = re.compile(r"(?<![\dA-Za-z])[1-9]\d{5}(?:18|19|20)\d{9}[\dXx](?![\dA-Za-z])", re.ASCII)
_TW_ID = re.compile(r"(?<![\dA-Za-z])[A-Z][1289]\d{8}(?![\dA-Za-z])", re.ASCII)
_SSN = re.compile(r"(?<![\d-])(\d{3})([- ])(\d{2})\2(\d{4})(?![\d-])", re.ASCII)

_NO_ADDRESS = re.compile(
    r"(?:\bversions?|\bv|\brelease[sd]?|\bfirmware|\bbuild|\bsections?|\bclauses?|\bchapters?"
    r"|\bart(?:icle)?s?\.?|§|\bpara(?:graph)?s?\.?|\bver\.?|版本|版|第|章|节|節|条|條|款)\s*[:：]?\s*$",
    re.IGNORECASE,
)
_IP_LABEL = re.compile(
    r"(?:\bip|\baddress|\bhost|\bserver|地址|位址|伺服器|服务器)\W*(?:\w+\W+){0,2}$", re.I
)
_TW_LETTERS = "ABCDEFGHJKLMNPQRSTUVXYWZIO"
_IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AT": 20, "BE": 16, "BG": 22, "CH": 21, "CY": 28, "CZ": 24, "DE": 22,
    "DK": 18, "EE": 20, "ES": 24, "FI": 18, "FR": 27, "GB": 22, "GR": 27, "HR": 21, "HU": 28,
    "IE": 22, "IL": 23, "IS": 26, "IT": 27, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "MC": 27,
    "MT": 31, "NL": 18, "NO": 15, "PL": 28, "PT": 25, "RO": 24, "SA": 24, "SE": 24, "SI": 19,
    "SK": 24, "TR": 26, "UA": 29,
}  # fmt: skip


def find_pii(text: str, secrets: Sequence[Hit] = ()) -> list[Hit]:
    """Personal data in ``text``, in order, without overlaps; ``kind`` names the placeholder.

    What lies in one of ``secrets`` is a secret and not reported again.
    """
    from fledge.data.phones import find_phones

    if not _MAY_HOLD.search(text):
        return []
    certain: list[Hit] = []
    for find in _FINDERS:
        certain += find(text)
    certain = disjoint(certain)
    phones = [hit for hit in find_phones(text) if not _overlaps(hit, certain)]
    return [hit for hit in disjoint(certain + phones) if not _overlaps(hit, secrets)]


_MAY_HOLD = re.compile(r"@|[\[(]\s?at\s?[\])]|\d[\d\s().-]{5,}\d|:\w{0,4}:")


def _overlaps(hit: Hit, others: Iterable[Hit]) -> bool:
    return any(hit.start < other.end and other.start < hit.end for other in others)


def mask(text: str, hits: Iterable[Hit]) -> tuple[str, list[Hit]]:
    """(``text`` with each hit replaced by ``<KIND>``, where the placeholders stand in it)."""
    parts: list[str] = []
    places: list[Hit] = []
    position = length = 0
    for hit in hits:
        length += hit.start - position
        placeholder = f"<{hit.kind}>"
        parts += [text[position : hit.start], placeholder]
        places.append(Hit(length, length + len(placeholder), hit.kind))
        length += len(placeholder)
        position = hit.end
    return "".join(parts) + text[position:], places


def _emails(text: str) -> Iterator[Hit]:
    if "@" in text or "at" in text:
        for match in _EMAIL.finditer(text):
            yield Hit(match.start(), match.end(), "EMAIL")


def _addresses(text: str) -> Iterator[Hit]:
    for match in _IPV4.finditer(text):
        if _is_address(match[0], text[max(0, match.start() - 40) : match.start()]):
            yield Hit(match.start(), match.end(), "IP")
    for match in _IPV6.finditer(text):
        digits = match[0].strip(":")
        if len(digits) >= 6 and _is_ip(match[0]) and (match[0].count(":") >= 3):
            yield Hit(match.start(), match.end(), "IP")


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_address(number: str, before: str) -> bool:
    """Whether four dotted numbers are an address: not a version, a clause, or a chapter."""
    if not _is_ip(number) or number.startswith("0."):
        return False
    if _NO_ADDRESS.search(before):
        return False
    small = all(int(part) < 20 for part in number.split("."))
    return not small or bool(_IP_LABEL.search(before))


def _cards(text: str) -> Iterator[Hit]:
    for match in _CARD.finditer(text):
        digits = re.sub(r"\D", "", match[0])
        if 13 <= len(digits) <= 19 and _is_issued(digits) and luhn(digits):
            before = text[max(0, match.start() - 16) : match.start()].upper()
            if "ISBN" not in before and "EAN" not in before:
                yield Hit(match.start(), match.end(), "CARD")


def _is_issued(digits: str) -> bool:
    """Whether a card network uses this prefix with this length."""
    two, four = int(digits[:2]), int(digits[:4])
    visa = digits[0] == "4" and len(digits) in (13, 16, 19)
    master = (51 <= two <= 55 or 2221 <= four <= 2720) and len(digits) == 16
    amex = two in (34, 37) and len(digits) == 15
    discover = (four == 6011 or two in (64, 65)) and len(digits) == 16
    others = (two in (30, 36, 38, 39) and len(digits) == 14) or (two == 35 and len(digits) == 16)
    union = two in (62, 81) and 16 <= len(digits) <= 19
    return visa or master or amex or discover or others or union


def luhn(digits: str) -> bool:
    """Whether the check digit of a card number is right (ISO/IEC 7812-1)."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0 and len(set(digits)) > 1


def _ibans(text: str) -> Iterator[Hit]:
    for match in _IBAN.finditer(text):
        length = _IBAN_LENGTHS.get(match[0][:2])
        if length is None:
            continue
        end = _take(match[0], length)
        if end and iban_ok(match[0][:end].replace(" ", "")):
            yield Hit(match.start(), match.start() + end, "IBAN")


def _take(text: str, length: int) -> int:
    """End of the first ``length`` characters that are no spaces; 0 when there are fewer."""
    count = 0
    for position, character in enumerate(text, 1):
        count += character != " "
        if count == length:
            return position
    return 0


def iban_ok(iban: str) -> bool:
    """Whether the checksum of an IBAN is right (ISO 13616: mod 97 is 1)."""
    turned = iban[4:] + iban[:4]
    return int("".join(str(int(character, 36)) for character in turned)) % 97 == 1


def _chinese_ids(text: str) -> Iterator[Hit]:
    for match in _CN_ID.finditer(text):
        if chinese_id_ok(match[0]):
            yield Hit(match.start(), match.end(), "ID")


def chinese_id_ok(number: str) -> bool:
    """Whether an 18-digit resident number has a birthday and the right check digit (GB 11643)."""
    month, day = int(number[10:12]), int(number[12:14])
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return False
    total = sum(int(digit) * pow(2, 17 - place, 11) for place, digit in enumerate(number[:17]))
    return "10X98765432"[total % 11] == number[17].upper()


def _taiwanese_ids(text: str) -> Iterator[Hit]:
    for match in _TW_ID.finditer(text):
        if taiwanese_id_ok(match[0]):
            yield Hit(match.start(), match.end(), "ID")


def taiwanese_id_ok(number: str) -> bool:
    """Whether the check digit of a Taiwanese identity number is right."""
    code = 10 + _TW_LETTERS.index(number[0])
    digits = [code // 10, code % 10, *(int(digit) for digit in number[1:])]
    weights = (1, 9, 8, 7, 6, 5, 4, 3, 2, 1, 1)
    return sum(digit * weight for digit, weight in zip(digits, weights, strict=True)) % 10 == 0


def _social_security(text: str) -> Iterator[Hit]:
    for match in _SSN.finditer(text):
        area, group, serial = match[1], match[3], match[4]
        issued = area not in ("000", "666") and area < "900" and group != "00" and serial != "0000"
        if issued and (
            match[2] == "-" or "SSN" in text[max(0, match.start() - 30) : match.start()]
        ):
            yield Hit(match.start(), match.end(), "SSN")


_FINDERS: tuple[Callable[[str], Iterator[Hit]], ...] = (
    _emails,
    _ibans,
    _chinese_ids,
    _taiwanese_ids,
    _social_security,
    _cards,
    _addresses,
)
