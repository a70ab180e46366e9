"""Bytes to text: the character set found, mojibake repaired, white space and controls tidied."""

from __future__ import annotations

import codecs
import re
import unicodedata

_META = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([\w.:-]+)""", re.IGNORECASE)
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_WHATWG = {
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "gb_2312-80": "gb18030",
    "x-gbk": "gb18030",
    "iso-8859-1": "cp1252",
    "iso8859-1": "cp1252",
    "latin-1": "cp1252",
    "latin1": "cp1252",
    "us-ascii": "cp1252",
    "ascii": "cp1252",
    "windows-1252": "cp1252",
    "shift_jis": "cp932",
    "shift-jis": "cp932",
    "euc-kr": "cp949",
    "ks_c_5601-1987": "cp949",
    "big5": "cp950",
    "x-big5": "cp950",
}
"""Labels whose real meaning on the web is a larger set (WHATWG Encoding Standard)."""

_CONTROLS = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f\u200b\u2060\ufeff\ufffe\uffff]")
_SURROGATES = re.compile("[\ud800-\udfff]")
_SPACES = re.compile("[ \t\u00a0\u2000-\u200a\u202f\u3000]+$", re.MULTILINE)
_BLANK_LINES = re.compile(r"\n{3,}")

_CONTROL_BYTES = bytes((*range(0x00, 0x09), *range(0x0E, 0x1B)))

BINARY_SHARE = 0.02
"""Share of control or replacement characters from which bytes are no text."""


def decode(data: bytes, declared: str = "") -> str | None:
    """The text in ``data``, or None when it is no text.

    Order: byte order mark, UTF-8 when valid, the declared set, the page's own ``<meta>``, a guess.
    Valid UTF-8 with non-ASCII characters is UTF-8 whatever the server says.
    """
    for mark, codec in _BOMS:
        if data.startswith(mark):
            return _strictly(data, codec) or _leniently(data, codec)
    if looks_binary(data):
        return None
    text = _strictly(data, "utf-8")
    if text is not None:
        return text
    labels = [declared, *(match.decode("ascii") for match in _META.findall(data[:4096]))]
    codecs_named = [codec for label in labels if (codec := _codec(label))]
    for codec in codecs_named:
        text = _strictly(data, codec)
        if text is not None:
            return text
    for codec in codecs_named:
        text = _leniently(data, codec)
        if text is not None:
            return text
    return _guess(data)


def looks_binary(data: bytes) -> bool:
    """Whether ``data`` holds NUL bytes or many control bytes, as no text does."""
    head = data[:8192]
    if not head:
        return False
    controls = len(head) - len(head.translate(None, _CONTROL_BYTES))
    return controls > BINARY_SHARE * len(head) or head.count(0) > 8


def _codec(label: str) -> str:
    name = label.strip().strip("\"'").lower()
    name = _WHATWG.get(name, name)
    try:
        return codecs.lookup(name).name if name else ""
    except LookupError:
        return ""


def _strictly(data: bytes, codec: str) -> str | None:
    try:
        return data.decode(codec)
    except (UnicodeDecodeError, LookupError):
        return None


def _leniently(data: bytes, codec: str) -> str | None:
    """Decoded with a few bytes replaced; None when they are more than a few."""
    text = data.decode(codec, "replace")
    return text if text.count("\ufffd") <= BINARY_SHARE * max(len(text), 50) else None


def _guess(data: bytes) -> str | None:
    """UTF-8 with a few slips, or what the statistics of the bytes suggest."""
    text = _leniently(data, "utf-8")
    if text is not None:
        return text
    from charset_normalizer import from_bytes

    matches = from_bytes(data[:65536])
    best = matches.best()
    if best is None:
        return None
    western = any(match.encoding == "cp1252" and match.chaos <= best.chaos for match in matches)
    return _leniently(data, "cp1252" if western else best.encoding)  # the commonest of equals


_SUSPECT = re.compile("[\u0080-\u009f]|[\u00c2-\u00f4][\u0080-\u00bf\u0152-\u2122]")


def mend(text: str) -> tuple[str, bool]:
    """(text, whether it was repaired): mojibake undone where the text shows its marks."""
    if len(_SUSPECT.findall(text)) < 2:
        return text, False
    import ftfy

    config = ftfy.TextFixerConfig(
        unescape_html=False,
        fix_latin_ligatures=False,
        fix_character_width=False,
        uncurl_quotes=False,
        fix_line_breaks=False,
        normalization=None,
    )
    mended = str(ftfy.fix_text(text, config))
    return mended, mended != text


def tidy(text: str) -> str:
    """NFC, line feeds only, no control or zero-width characters, no trailing or double blanks."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\x0c", "\n")
    text = text.replace("\u2028", "\n").replace("\u2029", "\n\n").replace("\x85", "\n")
    text = _SURROGATES.sub("\ufffd", text)
    text = _CONTROLS.sub("", unicodedata.normalize("NFC", text))
    return _BLANK_LINES.sub("\n\n", _SPACES.sub("", text)).strip("\n")
