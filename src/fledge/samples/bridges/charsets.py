"""HTML text to the bytes a server sends: legacy charsets, entities, mojibake."""

from __future__ import annotations

from html.entities import codepoint2name

LEGACY = {
    "en": ("windows-1252", "iso-8859-1"),
    "zh-Hans": ("gbk", "gb2312"),
    "zh-Hant": ("big5",),
}
"""Charset labels by language.  As on the web, gb2312 means GBK and iso-8859-1 windows-1252."""

CODEC = {"gb2312": "gbk", "iso-8859-1": "cp1252", "windows-1252": "cp1252"}
"""The Python codec a label really stands for (WHATWG Encoding Standard), where it differs."""

_UNDEFINED = {chr(byte): bytes([byte]) for byte in (0x81, 0x8D, 0x8F, 0x90, 0x9D)}


def encode_html(
    html: str, charset: str, *, entities: bool = False, mojibake: bool = False
) -> bytes:
    """The bytes of ``html``; what ``charset`` cannot hold becomes a character reference."""
    if mojibake:
        return misread(html).encode("utf-8")
    if entities:
        html = "".join(_entity(character) for character in html)
    return html.encode(CODEC.get(charset, charset), "xmlcharrefreplace")


def misread(text: str) -> str:
    """``text`` in UTF-8 read as windows-1252, undefined bytes as themselves (mojibake)."""
    data = text.encode("utf-8")
    return "".join(_CP1252[byte] for byte in data)


def repair(text: str) -> str:
    """The text that ``misread`` garbled; raises UnicodeDecodeError when it was not."""
    return b"".join(
        _UNDEFINED[character] if character in _UNDEFINED else character.encode("cp1252")
        for character in text
    ).decode("utf-8")


def _character(byte: int) -> str:
    return chr(byte) if chr(byte) in _UNDEFINED else bytes([byte]).decode("cp1252")


_CP1252 = tuple(_character(byte) for byte in range(256))


def _entity(character: str) -> str:
    code = ord(character)
    if code < 128:
        return character
    return f"&{codepoint2name[code]};" if code in codepoint2name else f"&#{code};"
