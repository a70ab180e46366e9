"""Structured output: whatever a model writes under a grammar's masks is a valid document."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fledge.core.errors import FledgeError, InputError
from fledge.engine.chain.sampler import Sampler
from fledge.engine.chain.settings import Settings
from fledge.engine.grammar import Grammar, Grammars, GrammarState
from fledge.engine.tool_grammar import tool_calls
from fledge.tokenizer.config import TokenizerConfig
from fledge.tokenizer.template import IM_END
from fledge.tokenizer.tokenizer import Tokenizer
from fledge.tokenizer.train import train_tokenizer

PADDING = 37  # tokens a model has that the tokenizer has not


def _texts() -> list[tuple[str, str]]:
    return [("en", f'{{"name": "bridge {i}", "spans": [{i}, 12]}} 金门大桥') for i in range(60)]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(TokenizerConfig(vocab_size=420), _texts, _texts, folder)
    return Tokenizer.load(folder)


@pytest.fixture(scope="module")
def grammars(tokenizer: Tokenizer) -> Grammars:
    stops = (tokenizer.im_end_id, tokenizer.endoftext_id)
    return Grammars(tokenizer, stops, tokenizer.vocab_size + PADDING)


def write(grammars: Grammars, grammar: Grammar, seed: int, limit: int = 600) -> str:
    """What a random model writes, which likes to close what is open; it must come to an end."""
    tokenizer = grammars.tokenizer
    closers = {tokenizer.encode(mark)[0]: 5.0 for mark in ('"', "}", "]")}
    how = Settings(
        temperature=1.0,
        seed=seed,
        logit_bias={**closers, **dict.fromkeys(grammars.stop_ids, 3.0)},
        max_new_tokens=limit,
    )
    sampler = Sampler(how, grammars.vocabulary)
    rng, state, written = np.random.default_rng(seed), grammar.start(), []
    for _ in range(limit):
        logits = rng.standard_normal(grammars.vocabulary).astype(np.float32)
        mask = state.mask()
        token = sampler.choose(logits, mask).token
        assert mask[token]
        state.accept(token)
        sampler.push(token)
        if state.finished:
            return tokenizer.decode(written, specials=True)
        written.append(token)
    raise AssertionError(f"no end after {tokenizer.decode(written)!r}")


# --- JSON Schema, judged by a small checker of our own

KINDS: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "null": type(None),
    "number": (int, float),
    "integer": int,
}


def valid(value: Any, schema: dict[str, Any]) -> bool:
    """Whether a schema, of the keywords used below, accepts a value."""
    if "anyOf" in schema:
        return any(valid(value, one) for one in schema["anyOf"])
    if "enum" in schema:
        return value in schema["enum"]
    kind = schema.get("type")
    if kind is None:
        return True
    if not isinstance(value, KINDS[kind]) or (kind != "boolean" and isinstance(value, bool)):
        return False
    if kind == "object":
        return _valid_object(value, schema)
    if kind == "array":
        size = schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", 10**9)
        return size and all(valid(one, schema.get("items", {})) for one in value)
    if kind == "string":
        size = schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", 10**9)
        return size and re.search(schema.get("pattern", ""), value) is not None
    if kind in ("integer", "number"):
        return bool(schema.get("minimum", value) <= value <= schema.get("maximum", value))
    return True


def _valid_object(value: dict[str, Any], schema: dict[str, Any]) -> bool:
    known = schema.get("properties", {})
    if any(name not in value for name in schema.get("required", ())):
        return False
    if schema.get("additionalProperties") is False and set(value) - set(known):
        return False
    return all(valid(one, known.get(name, {})) for name, one in value.items())


leaves = st.one_of(
    st.sampled_from(
        [
            {"type": "boolean"},
            {"type": "null"},
            {"type": "string", "pattern": "^[a-f]{2,4}$"},
            {"enum": ["ja", "nein", "可能", 'quo"te\n', 3, None, True]},
        ]
    ),
    st.builds(
        lambda low, size: {"type": "integer", "minimum": low, "maximum": low + size},
        st.integers(-300, 300),
        st.integers(0, 500),
    ),
    st.builds(
        lambda low, size: {"type": "string", "minLength": low, "maxLength": low + size},
        st.integers(0, 4),
        st.integers(0, 6),
    ),
)
schemas = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(
            lambda items, low: {"type": "array", "items": items, "minItems": low, "maxItems": 3},
            inner,
            st.integers(0, 2),
        ),
        st.builds(
            lambda named, needed: {
                "type": "object",
                "properties": named,
                "required": sorted(named)[:needed],
                "additionalProperties": False,
            },
            st.dictionaries(st.sampled_from(["a", "name", "長さ", 'x"y']), inner, max_size=3),
            st.integers(0, 3),
        ),
        st.builds(lambda one, two: {"anyOf": [one, two]}, inner, leaves),
    ),
    max_leaves=5,
)


@settings(max_examples=80, deadline=None)
@given(schema=schemas, seed=st.integers(0, 10**6))
def test_every_walk_under_a_schema_is_a_valid_document(
    grammars: Grammars, schema: dict[str, Any], seed: int
) -> None:
    text = write(grammars, grammars.json_schema(schema), seed)
    assert valid(json.loads(text), schema), text


@pytest.mark.slow
@settings(max_examples=3000, deadline=None)
@given(schema=schemas, seed=st.integers(0, 10**6))
def test_very_many_walks_are_valid_documents(
    grammars: Grammars, schema: dict[str, Any], seed: int
) -> None:
    text = write(grammars, grammars.json_schema(schema), seed)
    assert valid(json.loads(text), schema), text


@pytest.mark.parametrize("seed", range(8))
def test_any_json_without_free_space(grammars: Grammars, seed: int) -> None:
    text = write(grammars, grammars.json_schema({}), seed, limit=3000)
    json.loads(text)
    assert re.search(r"^\s|\s$|[\[{]\s", re.sub(r'"(\\.|[^"\\])*"', '""', text)) is None


@pytest.mark.parametrize("seed", range(10))
def test_regex_choice_and_lark(grammars: Grammars, seed: int) -> None:
    assert re.fullmatch(
        "[0-9]{3}-(ab|金)+", write(grammars, grammars.regex("[0-9]{3}-(ab|金)+"), seed)
    )
    options = ["yes", "no", '引用 "q"\n', "a\\b"]
    assert write(grammars, grammars.choice(options), seed) in options
    sums = grammars.lark('start: n ("+" n)*\nn: /[0-9]{1,3}/')
    assert re.fullmatch(r"\d{1,3}(\+\d{1,3})*", write(grammars, sums, seed))


# --- tool calls

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "span_of",
            "description": "The main span.",
            "parameters": {
                "type": "object",
                "properties": {
                    "bridge": {"type": "string", "maxLength": 8},
                    "unit": {"enum": ["m", "ft"]},
                },
                "required": ["bridge"],
            },
        },
    },
    {"type": "function", "function": {"name": "now"}},
]
CALL = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)


def check_calls(text: str) -> list[str]:
    """The names of the calls in a text, each well formed and of a known tool."""
    names = []
    for body in CALL.findall(text):
        call = json.loads(body)
        assert set(call) == {"name", "arguments"}
        (tool,) = [t for t in TOOLS if t["function"]["name"] == call["name"]]  # type: ignore[index]
        schema = tool["function"].get("parameters", {"type": "object"})  # type: ignore[attr-defined]
        assert valid(call["arguments"], {**schema, "additionalProperties": False})
        names.append(call["name"])
    rest = CALL.sub("", text)
    assert "<tool_call>" not in rest
    assert "</tool_call>" not in rest or not names
    return names


@pytest.mark.parametrize("seed", range(12))
def test_tool_calls_cannot_be_malformed(grammars: Grammars, seed: int) -> None:
    check_calls(write(grammars, _tools(grammars, "auto", True), seed))
    several = write(grammars, _tools(grammars, "required", True), seed)
    assert check_calls(several)
    assert CALL.sub("", several) == ""
    one = check_calls(write(grammars, _tools(grammars, "required", False), seed))
    assert len(one) == 1
    assert set(check_calls(write(grammars, _tools(grammars, "now", True), seed))) == {"now"}


@lru_cache
def _tools(grammars: Grammars, choice: str, parallel: bool) -> Grammar:
    return tool_calls(grammars, TOOLS, choice=choice, parallel=parallel)


@pytest.mark.parametrize("choice", ["auto", "required"])
def test_what_the_chat_template_writes_is_allowed(grammars: Grammars, choice: str) -> None:
    tokenizer = grammars.tokenizer
    calls = [
        {"function": {"name": "span_of", "arguments": {"bridge": "金门", "unit": "m"}}},
        {"function": {"name": "now", "arguments": "{}"}},
    ]
    user = {"role": "user", "content": "Hello"}
    answer = {"role": "assistant", "content": "", "tool_calls": calls}
    whole = tokenizer.apply_chat_template([user, answer], TOOLS)
    start = tokenizer.apply_chat_template([user], TOOLS, add_generation_prompt=True)
    ids = tokenizer.encode_with_specials(whole.removeprefix(start).rstrip("\n"))
    assert ids[-1] == tokenizer.im_end_id
    state = _tools(grammars, choice, True).start()
    assert state.valid_prefix(ids) == len(ids)
    for token in ids:
        assert state.mask()[token]
        state.accept(token)
    assert state.finished


def test_a_call_cannot_be_written_in_plain_characters(grammars: Grammars) -> None:
    state = _tools(grammars, "auto", True).start()
    ids = grammars.tokenizer.encode("See <tool_call>")  # plain text: no special token
    count = state.valid_prefix(ids)
    assert grammars.tokenizer.decode(ids[:count]).startswith("See <tool")
    assert count < len(ids)
    assert state.valid_prefix(grammars.tokenizer.encode("See <tool> 5 < 6")) > 0


def test_a_tokenizer_without_the_marks_writes_them_as_text(grammars: Grammars) -> None:
    class Foreign(Tokenizer):
        def is_special(self, token: int) -> bool:
            return token == self.im_end_id

    own = grammars.tokenizer
    foreign = Foreign(own._aware, own.config)
    theirs = Grammars(foreign, [own.im_end_id], own.vocab_size)
    state = tool_calls(theirs, TOOLS, choice="now").start()
    text = '<tool_call>{"name": "now", "arguments": {}}</tool_call>'
    assert state.valid_prefix(own.encode(text)) == len(own.encode(text))


# --- following a grammar


def test_an_illegal_token_is_refused_and_changes_nothing(grammars: Grammars) -> None:
    state = grammars.regex("ab+").start()
    a, b = (grammars.tokenizer.encode(letter)[0] for letter in "ab")
    for token in (b, grammars.tokenizer.im_end_id, -1, grammars.vocabulary + 5):
        with pytest.raises(FledgeError, match=f"token {token} is illegal"):
            state.accept(token)
    assert state.mask()[a]
    assert not state.complete
    state.accept(a)
    state.accept(b)
    assert state.complete
    assert not state.mask()[grammars.tokenizer.vocab_size :].any()
    assert len(state.mask()) == grammars.vocabulary


def test_nothing_follows_the_end(grammars: Grammars) -> None:
    for pattern in ("ab", "ab*"):  # the first can only end, the second may
        state = grammars.regex(pattern).start()
        ids = [*grammars.tokenizer.encode("ab"), grammars.tokenizer.im_end_id]
        assert state.valid_prefix([*ids, 20]) == len(ids)
        for token in ids:
            state.accept(token)
        assert state.finished
        assert state.complete
        assert not state.mask().any()
        assert state.forced() == []
        assert state.valid_prefix(ids) == 0
        with pytest.raises(FledgeError):
            state.accept(ids[0])


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), schema=schemas)
def test_rollback_takes_back_exactly(grammars: Grammars, seed: int, schema: dict[str, Any]) -> None:
    rng = np.random.default_rng(seed)
    state = grammars.json_schema(schema).start()
    masks = [state.mask()]  # before each token, and behind the last
    while len(masks) < 25 and not state.finished:
        state.accept(int(rng.choice(np.flatnonzero(masks[-1]))))
        masks.append(state.mask())
    while len(masks) > 1:
        back = int(rng.integers(1, len(masks)))
        state.rollback(back)
        del masks[-back:]
        np.testing.assert_array_equal(state.mask(), masks[-1])


def test_states_of_one_grammar_do_not_meet(grammars: Grammars) -> None:
    grammar = grammars.regex("ab|cd")
    one, two = grammar.start(), grammar.start()
    one.accept(grammars.tokenizer.encode("a")[0])
    assert two.mask()[grammars.tokenizer.encode("c")[0]]
    assert not one.mask()[grammars.tokenizer.encode("c")[0]]


def test_forced_tokens_are_the_text_that_must_come(grammars: Grammars) -> None:
    state = _tools(grammars, "now", False).start()
    forced = state.forced()
    text = grammars.tokenizer.decode(forced, specials=True)
    assert '<tool_call>{"name": "now", "arguments": {}}</tool_call>'.startswith(text)
    assert len(text) > 20
    assert state.valid_prefix(forced) == len(forced)
    for token in forced:
        assert state.mask()[token]
        state.accept(token)


@pytest.mark.parametrize("seed", range(5))
def test_writing_with_forced_tokens_ends_in_a_valid_document(grammars: Grammars, seed: int) -> None:
    schema = {
        "type": "object",
        "properties": {"status": {"enum": ["open", "closed"]}, "n": {"type": "boolean"}},
        "required": ["status", "n"],
        "additionalProperties": False,
    }
    rng, written = np.random.default_rng(seed), []
    state: GrammarState = grammars.json_schema(schema).start()
    while not state.finished:
        tokens = state.forced() or [int(rng.choice(np.flatnonzero(state.mask())))]
        for token in tokens:
            state.accept(token)
            written.append(token)
    assert valid(json.loads(grammars.tokenizer.decode(written)), schema)


# --- what cannot be compiled


@pytest.mark.parametrize(
    ("schema", "word"),
    [
        ({"type": "string", "minLength": 5, "maxLength": 2}, "minLength"),
        ({"enum": []}, "Unsatisfiable"),
        ({"allOf": [{"type": "string"}, {"type": "integer"}]}, "incompatible"),
        (False, "false"),
        ({"type": "strin"}, "strin"),
        ({"not": {"type": "string"}}, "not"),
        ({"$ref": "#/nowhere"}, "nowhere"),
        ({"type": "string", "pattern": "("}, "unclosed"),
        ({"enum": {1, 2}}, "cannot be read"),
        ("{", "cannot be read"),
        ("[1]", "an object"),
        ('{"items":' * 5000 + "{}" + "}" * 5000, "cannot be read"),
    ],
)
def test_schemas_that_cannot_be_used(grammars: Grammars, schema: Any, word: str) -> None:
    with pytest.raises(InputError, match=word) as raised:
        grammars.json_schema(schema)
    assert raised.value.remedy
    assert "\n" not in str(raised.value)


def test_grammars_that_cannot_be_used(grammars: Grammars, tokenizer: Tokenizer) -> None:
    for make in (
        lambda: grammars.regex("("),
        lambda: grammars.regex(r"[^\s\S]"),
        lambda: grammars.regex("a(?=b)"),
        lambda: grammars.lark("start: nothing"),
        lambda: grammars.lark("begin: "),
        lambda: grammars.choice([]),
        lambda: grammars.choice(["a", ""]),
        lambda: grammars.choice("ab"),
        lambda: grammars.choice([1, 2]),  # type: ignore[list-item]
        lambda: grammars.choice(["half a character \ud800"]),
        lambda: grammars.choice([f"option number {i}" for i in range(50_000)]),
        lambda: grammars.regex(5),  # type: ignore[arg-type]
        lambda: grammars.json_schema({"$ref": "#"}),
        lambda: tool_calls(grammars, []),
        lambda: tool_calls(grammars, [{"name": "x"}]),
        lambda: tool_calls(grammars, [TOOLS[1], TOOLS[1]]),
        lambda: Grammars(tokenizer, [], 500),
    ):
        with pytest.raises(InputError) as raised:
            make()
        assert raised.value.remedy
    with pytest.raises(InputError, match="did you mean 'now'"):
        tool_calls(grammars, TOOLS, choice="nox")
    for parameters in ({"type": "string"}, {"type": "object", "properties": {"a": {"type": "x"}}}):
        with pytest.raises(InputError, match="tool 'bad'"):
            tool_calls(grammars, [{"function": {"name": "bad", "parameters": parameters}}])


def test_stop_tokens_are_the_only_end(grammars: Grammars) -> None:
    state = grammars.choice(["a"]).start()
    state.accept(grammars.tokenizer.encode("a")[0])
    assert set(np.flatnonzero(state.mask())) == grammars.stop_ids
    assert grammars.tokenizer.token_id(IM_END) in grammars.stop_ids
