"""A map of characters in, the normalizer that applies it in one pass out.

``tokenizers`` runs such a map as "Precompiled": a double-array trie (Aoe 1989, as darts-clone packs
it) over UTF-8 bytes, whose leaves point at texts that end in a zero byte.
"""

from __future__ import annotations

import itertools
import struct
import unicodedata
from collections.abc import Mapping, Set
from typing import Any

from tokenizers import normalizers

_LEAF = 1 << 31
_HAS_LEAF = 1 << 8

Node = dict[int, Any]
"""Byte -> the node below; 0 -> the place of the text that a key becomes."""


def mapping_normalizer(folded: Mapping[str, str]) -> normalizers.Normalizer:
    """A normalizer that replaces each single character of ``folded`` by its text."""
    texts, leaves = bytearray(b"\0"), {}
    places = {"": 0}
    for character, text in sorted(folded.items()):
        if len(character) != 1 or "\0" in character + text:
            raise ValueError(f"{character!r} -> {text!r}: keys are single characters, not NUL")
        if text not in places:
            places[text] = len(texts)
            texts += text.encode() + b"\0"
        leaves[character.encode()] = places[text]
    trie = _double_array(leaves)
    packed = struct.pack(f"<I{len(trie)}I", 4 * len(trie), *trie) + bytes(texts)
    return normalizers.Precompiled(packed)


def plain_characters(folding: Mapping[str, str]) -> dict[str, str]:
    """What each character of the basic plane becomes that is not plain already.

    Compatible forms (NFKC), lower case, no accents on Latin, Greek and Cyrillic letters; then
    ``folding``, character by character: Traditional Chinese to Simplified, say.
    """
    found = {}
    for code in (*range(0x20, 0xD800), *range(0xF900, 0xFFFE)):
        character = chr(code)
        text = unicodedata.normalize("NFKC", character).lower()
        if any(ord(one) < 0x2000 for one in text):
            text = "".join(
                c for c in unicodedata.normalize("NFD", text) if not 0x300 <= ord(c) < 0x370
            )
        text = "".join(folding.get(one, one) for one in text)
        if text != character:
            found[character] = text
    return found


def simplified_characters(words: Mapping[str, str]) -> dict[str, str]:
    """From pairs of one word, Traditional -> Simplified: what each character mostly becomes."""
    counts: dict[str, dict[str, int]] = {}
    for traditional, simplified in words.items():
        if len(traditional) == len(simplified):
            for before, after in zip(traditional, simplified, strict=True):
                told = counts.setdefault(before, {})
                told[after] = told.get(after, 0) + 1
    mostly = {before: max(told, key=lambda after: told[after]) for before, told in counts.items()}
    return {before: after for before, after in mostly.items() if before != after}


def _double_array(leaves: Mapping[bytes, int]) -> list[int]:
    """The units of a double array: a child of the node at ``p`` stands at base(p) ^ its byte."""
    root: Node = {}
    for key, value in leaves.items():
        node = root
        for byte in key:
            node = node.setdefault(byte, {})
        node[0] = value  # no key holds a zero byte
    units, bases = {0: 0}, set[int]()
    lowest = 1  # no place below it is free
    waiting = [(0, 0, root)]
    while waiting:
        place, label, node = waiting.pop()
        while lowest in units:
            lowest += 1
        base = _free_base(node, units, bases, lowest)
        bases.add(base)
        units[place] = (place ^ base) << 10 | label | (_HAS_LEAF if 0 in node else 0)
        for byte, child in node.items():
            units[base ^ byte] = 0 if byte else _LEAF | child
            if byte:
                waiting.append((base ^ byte, byte, child))
    size = -(-(max(units) + 1) // 256) * 256
    return [units.get(place, 0) for place in range(size)]


def _free_base(node: Node, units: Mapping[int, int], bases: Set[int], lowest: int) -> int:
    """A base that no other node has and whose places for the children are free."""
    first = min(node)
    for slot in itertools.count(lowest):
        base = slot ^ first
        if base not in bases and all((base ^ byte) not in units for byte in node):
            return base
    raise AssertionError("unreachable")
