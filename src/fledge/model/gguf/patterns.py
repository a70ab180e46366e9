"""How byte-level BPE splits a text before merging: tokenizer.json <-> llama.cpp's names."""

from __future__ import annotations

from typing import Any

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"

_BYTES = ("bytes", False)
_GPT2_BYTES = ("bytes", True)

Part = tuple[str, Any]

PATTERNS: dict[str, tuple[Part, ...]] = {
    "qwen2": (("split", rf"{_WORDS}|\p{{N}}|{_REST}"), _BYTES),
    "llama-bpe": (("split", rf"{_WORDS}|\p{{N}}{{1,3}}|{_REST}"), _BYTES),
    "tekken": (
        (
            "split",
            rf"[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]*[{_LOWER}]+|[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]+"
            rf"[{_LOWER}]*|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ),
        _BYTES,
    ),
    "gpt-2": (_GPT2_BYTES,),
    "smollm": (("digits", True), _GPT2_BYTES),
    "default": (
        ("split", r"[\p{P}\$\+<=>\^~\|]+"),
        ("split", _GPT2),
        ("split", r"\p{N}+"),
        ("split", "[0-9][0-9][0-9]"),
        _BYTES,
    ),
}
"""Name in llama.cpp -> the steps: split at a regex, split digits, to bytes (GPT-2's regex?)."""

ALIASES = {
    "llama3": "llama-bpe",
    "llama-v3": "llama-bpe",
    "deepseek-r1-qwen": "qwen2",
    "starcoder": "smollm",
    "refact": "smollm",
    "command-r": "smollm",
}
"""Other names that llama.cpp treats alike."""

TAKES_WHOLE_WORDS = ("llama-bpe", "tekken")
"""Here llama.cpp takes a word that is a token as that token, without merging."""

BEGINS = ("llama-bpe",)
"""Here llama.cpp puts the beginning token before a text unless the file says otherwise."""


def pattern_name(pre_tokenizer: dict[str, Any] | None) -> str | None:
    """llama.cpp's name for the ``pre_tokenizer`` of a tokenizer.json, or None: it has none."""
    steps = _steps(pre_tokenizer)
    return next((name for name, known in PATTERNS.items() if known == steps), None)


def pre_tokenizer_of(name: str) -> dict[str, Any] | None:
    """The ``pre_tokenizer`` of a tokenizer.json for a name of llama.cpp's, or None: unknown."""
    steps = PATTERNS.get(ALIASES.get(name, name))
    if steps is None:
        return None
    parts = [_part(kind, value) for kind, value in steps]
    return parts[0] if len(parts) == 1 else {"type": "Sequence", "pretokenizers": parts}


def _steps(pre_tokenizer: dict[str, Any] | None) -> tuple[Part, ...]:
    if pre_tokenizer is None:
        return ()
    if pre_tokenizer["type"] == "Sequence":
        return tuple(step for part in pre_tokenizer["pretokenizers"] for step in _steps(part))
    if pre_tokenizer == {**_part("split", _regex(pre_tokenizer)), "invert": False}:
        return (("split", _regex(pre_tokenizer)),)
    if pre_tokenizer["type"] == "Digits":
        return (("digits", pre_tokenizer.get("individual_digits", False)),)
    if pre_tokenizer["type"] == "ByteLevel" and not pre_tokenizer.get("add_prefix_space", True):
        return (("bytes", pre_tokenizer.get("use_regex", True)),)
    return (("unknown", pre_tokenizer["type"]),)


def _regex(part: dict[str, Any]) -> Any:
    return part.get("pattern", {}).get("Regex")


def _part(kind: str, value: Any) -> dict[str, Any]:
    if kind == "split":
        pattern = {"Regex": value}
        return {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}
    if kind == "digits":
        return {"type": "Digits", "individual_digits": value}
    return {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": value,
    }
