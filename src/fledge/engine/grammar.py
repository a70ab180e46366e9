"""Structured output: a JSON Schema, regex, choice or Lark grammar in, masks of tokens out.

The masks are llguidance's, computed over the bytes of our tokenizer's tokens.  A grammar is
compiled once (``Grammars``) and followed by each request on its own (``GrammarState``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from typing import Any

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer
from numpy.typing import NDArray

from fledge.core.errors import FledgeError, InputError
from fledge.tokenizer.tokenizer import Tokenizer

JSON_STYLE = {
    "whitespace_flexible": False,
    "item_separator": ", ?",
    "key_separator": ": ?",
}
"""At most one space, behind a comma or colon: a small model could write spaces without end."""

LEXER_FUEL = 50_000
"""What compiling may spend.  Three thousand choices fit; (a{1000}){1000} then takes a second,
where llguidance's own limit lets it hold a server for a minute."""


class Grammars:
    """Compiles grammars for one tokenizer and a model of ``vocabulary`` tokens.

    ``stop_ids`` are the tokens that may end an answer once it is complete.  Every compiling
    method raises InputError for what is invalid or can never be met.
    """

    def __init__(self, tokenizer: Tokenizer, stop_ids: Iterable[int], vocabulary: int) -> None:
        ends = sorted(set(stop_ids))
        if not ends:
            raise InputError(
                "structured output needs a token that ends an answer", remedy="name stop_ids"
            )
        self.tokenizer = tokenizer
        self.vocabulary = vocabulary
        self.stop_ids = frozenset(ends)
        self._bytes = LLTokenizer(_Alphabet(tokenizer, ends[0]), eos_token=ends)  # type: ignore[arg-type]

    def json_schema(self, schema: Mapping[str, Any] | bool | str) -> Grammar:
        """JSON that a schema accepts; "" or {} is any JSON.  Keywords are never ignored."""
        return self._compile("the JSON schema", LLMatcher.grammar_from_json_schema, as_json(schema))

    def regex(self, pattern: str) -> Grammar:
        """Text that a regular expression (of Rust's crate ``regex``) matches as a whole."""
        return self._compile("the regex", LLMatcher.grammar_from_regex, pattern)

    def choice(self, options: Sequence[str]) -> Grammar:
        """One of several texts, none of them empty."""
        if (
            isinstance(options, str)
            or not options
            or not all(isinstance(one, str) and one for one in options)
        ):
            raise InputError(
                f"choice = {options!r} leaves nothing to choose",
                remedy="give a list of texts that are not empty",
            )
        text = "start: " + " | ".join(json.dumps(one, ensure_ascii=False) for one in options)
        return self._compile("the choice", LLMatcher.grammar_from_lark, text)

    def lark(self, text: str) -> Grammar:
        """A grammar in llguidance's dialect of Lark."""
        return self._compile("the grammar", LLMatcher.grammar_from_lark, text)

    def _compile(self, what: str, build: Any, source: str) -> Grammar:
        try:
            text = build(source)
            wrong, messages = LLMatcher.validate_grammar_with_warnings(
                text, self._bytes, limits=_limits()
            )
        except (TypeError, ValueError) as error:  # not JSON, or not text
            wrong, messages = True, [str(error)]
        if wrong:
            reason = " ".join(" ".join(messages).split())
            raise InputError(
                f"{what} cannot be used: {reason}", remedy="correct it, or leave out that part"
            )
        grammar = Grammar(self._bytes, text, self.vocabulary, self.stop_ids)
        if not grammar.begins():
            raise InputError(f"{what} can never be met", remedy="allow at least one text")
        return grammar


def as_json(schema: Mapping[str, Any] | bool | str) -> str:
    """The text of a schema, written so that its values carry no free space."""
    try:
        value = json.loads(schema or "{}") if isinstance(schema, str) else schema
        if isinstance(value, bool):
            value = {} if value else {"allOf": [False]}
        if not isinstance(value, Mapping):
            raise ValueError("a schema is an object, true or false")
        return json.dumps({"x-guidance": JSON_STYLE, **value}, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"the JSON schema cannot be read: {error}", remedy="give a JSON object"
        ) from None


def _limits() -> LLParserLimits:
    return LLParserLimits(initial_lexer_fuel=LEXER_FUEL)


class Grammar:
    """A compiled grammar; ``start`` follows it from the beginning, once per request."""

    def __init__(
        self, alphabet: LLTokenizer, text: str, vocabulary: int, stop_ids: frozenset[int]
    ) -> None:
        self.vocabulary = vocabulary
        self.stop_ids = stop_ids
        self._first = LLMatcher(alphabet, text, log_level=0, limits=_limits())

    def start(self) -> GrammarState:
        """A state before the first token."""
        return GrammarState(self._first.deep_copy(), self.vocabulary, self.stop_ids)

    def begins(self) -> bool:
        """Whether there is a first token, or the end at once."""
        try:
            return bool(self.start().mask().any())
        except FledgeError:  # llguidance stops where nothing can follow
            return False


class GrammarState:
    """Where one answer stands in its grammar."""

    def __init__(self, matcher: LLMatcher, vocabulary: int, stop_ids: frozenset[int]) -> None:
        self._matcher = matcher
        self._vocabulary = vocabulary
        self._stop_ids = stop_ids
        self.finished = False
        """Whether a stop token was accepted: nothing may follow."""
        self._unseen = False  # whether the matcher had ended before that token

    @property
    def complete(self) -> bool:
        """Whether the answer is whole if it ends here."""
        return self.finished or self._matcher.is_accepting()

    @property
    def ended(self) -> bool:
        """Whether the answer is whole and nothing but a stop token could follow."""
        return self.finished or (self._matcher.is_stopped() and self._matcher.is_accepting())

    def copy(self) -> GrammarState:
        """The same place, to be followed on its own."""
        other = GrammarState(self._matcher.deep_copy(), self._vocabulary, self._stop_ids)
        other.finished, other._unseen = self.finished, self._unseen
        return other

    def mask(self) -> NDArray[np.bool_]:
        """Which tokens may come next: (V,)"""
        allowed = np.zeros(self._vocabulary, np.bool_)
        if self.finished:
            return allowed
        packed = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        self._check()
        size = min(self._vocabulary, 8 * len(packed))
        allowed[:size] = np.unpackbits(packed, count=size, bitorder="little")
        return allowed

    def accept(self, token: int) -> None:
        """Go on by ``token``; raises FledgeError, and stays, when the grammar forbids it."""
        if self.valid_prefix([token]) == 0:
            raise FledgeError(
                f"token {token} is illegal under the grammar", remedy="draw under its mask"
            )
        self.finished = token in self._stop_ids
        self._unseen = self._matcher.is_stopped()
        if not self._unseen:
            self._matcher.consume_token(token)
            self._check()

    def valid_prefix(self, tokens: Sequence[int]) -> int:
        """How many of ``tokens`` could be accepted one after the other; nothing is accepted."""
        known = list(takewhile(lambda token: 0 <= token < self._vocabulary, tokens))
        if self.finished or not known:
            return 0
        count: int = self._matcher.validate_tokens(known)
        if count < len(known) and known[count] in self._stop_ids:
            count += self._stops_after(known[:count])
        self._check()
        return count

    def _stops_after(self, tokens: list[int]) -> bool:
        """Whether valid ``tokens`` end the grammar by themselves: llguidance then sees no more."""
        self._matcher.consume_tokens(tokens)
        stops: bool = self._matcher.is_stopped() and not self._matcher.is_error()
        if tokens:
            self._matcher.rollback(len(tokens))
        return stops

    def rollback(self, count: int) -> None:
        """Take back the last ``count`` accepted tokens."""
        if count and not self._matcher.rollback(count - self._unseen):
            self._check()
            raise FledgeError(f"the grammar cannot go back {count} tokens")
        if count:
            self.finished = self._unseen = False

    def forced(self) -> list[int]:
        """Tokens that must come next, tokenized as text is; they need no model and no draw."""
        return [] if self.finished else list(self._matcher.compute_ff_tokens())

    def _check(self) -> None:
        """Raises FledgeError when following the grammar went beyond its limits."""
        if self._matcher.is_error():
            reason = self._matcher.get_error().splitlines()[0]
            raise FledgeError(
                f"the grammar cannot be followed: {reason}", remedy="simplify the grammar"
            )


class _Alphabet:
    """Our tokenizer as llguidance asks for it: bytes of tokens, and which of them are special."""

    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(self, tokenizer: Tokenizer, eos: int) -> None:
        ids = range(tokenizer.vocab_size)
        self.eos_token_id = eos
        self.tokens = [tokenizer.token_bytes(i, specials=True) for i in ids]
        self.special_token_ids = [i for i in ids if tokenizer.is_special(i)]
        self._tokenizer = tokenizer

    def __call__(self, text: str | bytes) -> list[int]:
        whole = text.decode() if isinstance(text, bytes) else text
        return self._tokenizer.encode_continuing(whole)
