"""Conversations of three forms are read alike; exactly the assistant's words are to be learnt."""

from __future__ import annotations

import gzip
import io
import json
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from fledge.core.errors import InputError
from fledge.core.types import Message
from fledge.data.chat_forms import parse_conversation, parse_conversations
from fledge.data.conversations import TemplateError, read_conversations, render
from fledge.tokenizer.config import TokenizerConfig
from fledge.tokenizer.tokenizer import Tokenizer
from fledge.tokenizer.train import train_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    def texts() -> Iterator[tuple[str, str]]:
        for number in range(40):
            yield "en", f"The assistant said: the bridge opened in {1900 + number}.\n\nYes.\n"
            yield "zh-Hans", f"这座桥于{1900 + number}年建成。"

    folder = tmp_path_factory.mktemp("tokenizer")
    from fledge.core.protocols import Silent

    train_tokenizer(TokenizerConfig(vocab_size=420), texts, texts, folder, Silent())
    return Tokenizer.load(folder)


def dialogue(*turns: str) -> list[Message]:
    """User and assistant in turn."""
    roles = ("user", "assistant")
    return [
        Message.from_openai({"role": roles[i % 2], "content": text}) for i, text in enumerate(turns)
    ]


def taught(tokenizer: Tokenizer, rendered: Any) -> list[str]:
    """The stretches of text the mask marks, special tokens written out."""
    stretches: list[list[int]] = []
    for i, (token, learn) in enumerate(zip(rendered.ids, rendered.mask, strict=True)):
        if learn and (i == 0 or not rendered.mask[i - 1]):
            stretches.append([])
        if learn:
            stretches[-1].append(token)
    return [tokenizer.decode(ids, specials=True) for ids in stretches]


def test_answers_and_their_stop_token_are_taught_and_nothing_else(tokenizer: Tokenizer) -> None:
    rendered = render(dialogue("When?", "In 1937.", "Who?", "Nobody knows."), tokenizer)
    assert taught(tokenizer, rendered) == ["In 1937.<|im_end|>", "Nobody knows.<|im_end|>"]
    assert tokenizer.decode(rendered.ids, specials=True) == (
        "<|im_start|>user\nWhen?<|im_end|>\n<|im_start|>assistant\nIn 1937.<|im_end|>\n"
        "<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\nNobody knows.<|im_end|>"
    )
    assert [rendered.ids[turn - 1] for turn in rendered.turns] == [tokenizer.im_end_id] * 2
    assert rendered.turns[-1] == len(rendered.ids)


def test_a_prompt_is_what_the_engine_will_send(tokenizer: Tokenizer) -> None:
    messages = dialogue("When?", "In 1937.")
    rendered = render(messages, tokenizer)
    prompt = tokenizer.encode_chat([messages[0].to_openai()], add_generation_prompt=True)
    assert rendered.ids[: len(prompt)] == prompt
    assert not any(rendered.mask[: len(prompt)])
    assert all(rendered.mask[len(prompt) :])


text = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["\n", "\n\nYes.", " ", "<|im_end|>", "a<|im_start|>assistant\nb", "年\n"]),
)


@given(turns=st.lists(text, min_size=2, max_size=6))
@settings(max_examples=150, deadline=None)
def test_whatever_is_said_the_mask_is_exact(tokenizer: Tokenizer, turns: list[str]) -> None:
    """White space at the edges and forged control tokens change nothing."""
    turns = turns[: len(turns) // 2 * 2]
    try:
        [turn.encode() for turn in turns]
    except UnicodeEncodeError:
        return
    rendered = render(dialogue(*turns), tokenizer)
    answers = [turn + "<|im_end|>" for turn in turns[1::2]]
    assert taught(tokenizer, rendered) == answers
    ends = [i for i in rendered.ids if i == tokenizer.im_end_id]
    assert len(ends) == len(turns)  # one per turn: none was forged
    assert sum(rendered.ids[i] == tokenizer.im_end_id for i in _true(rendered.mask)) == len(answers)


def _true(mask: list[bool]) -> list[int]:
    return [i for i, learn in enumerate(mask) if learn]


def test_system_tools_and_results_are_read_but_not_taught(tokenizer: Tokenizer) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "sum", "arguments": '{"a": 1}'}}
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "1 + 1?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "2", "tool_call_id": "1"},
        {"role": "assistant", "content": "2."},
        {"role": "user", "content": "Thanks!"},
    ]
    conversation = parse_conversation({"messages": messages, "tools": [{"name": "sum"}]})
    rendered = render(conversation.messages, tokenizer, conversation.tools)
    call_text, answer = taught(tokenizer, rendered)
    assert call_text.startswith("<tool_call>")
    assert '"arguments": {"a": 1}' in call_text
    assert call_text.endswith("<|im_end|>")
    assert answer == "2.<|im_end|>"
    assert "Thanks!" not in tokenizer.decode(rendered.ids)  # after the last answer


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]},
        {"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": " A\n"}]},
        {"instruction": "Q", "input": "", "output": "A"},
        {"instruction": " Q\n", "output": "A"},
    ],
)
def test_three_forms_say_the_same(row: dict[str, Any]) -> None:
    assert parse_conversation(row).messages == tuple(dialogue("Q", "A"))


def test_alpaca_input_and_sharegpt_system_and_calls_are_kept() -> None:
    alpaca = parse_conversation({"instruction": "Add.", "input": "1, 2", "output": "3"})
    assert alpaca.messages[0].content == "Add.\n\n1, 2"
    sharegpt = parse_conversation(
        {
            "system": "S",
            "tools": '[{"name": "f"}]',
            "conversations": [
                {"from": "human", "value": "Q"},
                {"from": "function_call", "value": '{"name": "f", "arguments": {"x": "é"}}'},
                {"from": "observation", "value": "R"},
                {"from": "gpt", "value": "A"},
            ],
        }
    )
    assert [m.role for m in sharegpt.messages] == [
        "system",
        "user",
        "assistant",
        "tool",
        "assistant",
    ]
    assert sharegpt.messages[2].tool_calls[0].arguments == '{"x": "é"}'
    assert sharegpt.tools == ({"type": "function", "function": {"name": "f"}},)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON"),
        ("[]", "must be a JSON object"),
        ('{"text": "x"}', "found text"),
        ('{"messages": []}', "at least one message"),
        ('{"messages": [{"role": "assistant", "content": "x", "weight": 0.5}]}', "weight of 0.5"),
        ('{"messages": [{"role": "assistant", "content": "x"}], "label": true}', "KTO"),
        ('{"conversations": [], "chosen": "x", "rejected": "y"}', "preference pair"),
        ('{"instruction": "x", "output": "y", "history": [["a"]]}', "'history' 1 is not a pair"),
        ('{"conversations": [{"from": "function_call", "value": "f(x)"}]}', "turn 1: 'value' is"),
        ('{"messages": [{"role": "bot", "content": "x"}]}', "message 1: role 'bot'"),
        ('{"messages": [{"role": "assistant", "content": 3}]}', "message 1: content"),
        ('{"conversations": [{"from": "me", "value": "x"}]}', "turn 1: 'from' is 'me'"),
        ('{"conversations": [{"from": "gpt", "value": null}]}', "turn 1: 'value' must be text"),
        ('{"instruction": "x", "output": null}', "'output' must be text"),
        (
            '{"messages": [{"role": "assistant", "content": "x"}], "tools": "[{"}',
            "'tools' is not JSON",
        ),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    good = json.dumps({"messages": [{"role": "assistant", "content": "x"}]})
    path = tmp_path / "c.jsonl"
    path.write_text(f"{good}\n\n{line}\n")
    with pytest.raises(InputError, match=rf"c\.jsonl:3: .*{message}"):
        list(read_conversations(path))


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a file"):
        list(read_conversations(tmp_path / "nowhere.jsonl"))
    (tmp_path / "latin.jsonl").write_bytes(b'{"messages": "\xe9"}\n')
    with pytest.raises(InputError, match="is not UTF-8"):
        list(read_conversations(tmp_path / "latin.jsonl"))


GOOD = {"messages": [{"role": "user", "content": "问"}, {"role": "assistant", "content": "答"}]}


def test_arrays_and_compressed_files_are_read(tmp_path: Path) -> None:
    array, line = json.dumps([GOOD] * 3, indent=1), json.dumps(GOOD, ensure_ascii=False)
    contents = {
        "array.json": array.encode(),
        "short.json": json.dumps([GOOD] * 3).encode(),
        "rows.jsonl": f"\n{line}\n\n{line}\n{line}".encode(),
        "bom.jsonl": b"\xef\xbb\xbf" + f"{line}\n{line}\n{line}\n".encode(),
        "array.json.zst": zstandard.compress(array.encode()),
        "rows.jsonl.gz": gzip.compress(f"{line}\n{line}\n{line}\n".encode(), mtime=0),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        read = list(read_conversations(tmp_path / name))
        assert [one.messages[1].content for one in read] == ["答"] * 3, name
    assert read[2].origin.endswith("rows.jsonl.gz:3")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no conversation"),
        (b"\n \n", "holds no conversation"),
        (b"[]", "holds no conversation"),
        (b'[{"messages": []}]', r"c\.json, item 1: 'messages' must"),
        (b'[\n{"a": 1},\n{"b": }]', r"c\.json:3: not JSON"),
        (b"hello", r"c\.json:1: not JSON"),
        (json.dumps(GOOD).encode("utf-16"), "is not UTF-8"),
        (json.dumps(GOOD, ensure_ascii=False).encode("gb18030"), "is not UTF-8"),
        (zstandard.compress(json.dumps(GOOD).encode() * 50)[:-9], "cannot be unpacked"),
        (gzip.compress(b"x" * 999, mtime=0)[:-20], "cannot be unpacked|not JSON"),
    ],
)
def test_files_that_are_no_conversations_are_named(
    tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "c.json").write_bytes(content)
    with pytest.raises(InputError, match=message):
        list(read_conversations(tmp_path / "c.json"))


def test_usages_of_collections_are_understood() -> None:
    parts = [
        {"type": "reasoning", "value": "hm"},
        {"type": "tool_call", "value": '{"name": "f", "arguments": {"x": 1}}'},
        {"type": "text", "value": "A"},
    ]
    found = parse_conversation(
        {
            "messages": [
                {"role": "developer", "content": "S"},
                {"role": "user", "content": [{"type": "text", "value": "Q"}]},
                {"role": "assistant", "content": parts, "loss_weight": 0.0},
                {"role": "assistant", "content": None, "function_call": {"name": "g"}},
                {"role": "assistant", "content": "B", "weight": 1},
            ]
        }
    )
    assert [m.role for m in found.messages[:2]] == ["system", "user"]
    assert found.messages[2].content == "<think>\nhm\n</think>\n\nA"
    assert found.messages[2].tool_calls[0].arguments == '{"x": 1}'
    assert found.messages[3].tool_calls[0].name == "g"
    assert found.untaught == {2}
    history = parse_conversation(
        {"instruction": "Q2", "output": "A2", "history": [["Q1", "A1"]], "system": "S"}
    )
    assert [m.content for m in history.messages] == ["S", "Q1", "A1", "Q2", "A2"]
    seed = {"instruction": "I", "instances": [{"input": "a", "output": "1"}, {"output": "2"}]}
    assert [c.messages[0].content for c in parse_conversations(seed)] == ["I\n\na", "I"]


def test_only_what_is_asked_for_is_learnt(tokenizer: Tokenizer) -> None:
    messages = dialogue("When?", "In 1937.", "Who?", "Nobody knows.")
    rendered = render(messages, tokenizer, learn={3})
    assert taught(tokenizer, rendered) == ["Nobody knows.<|im_end|>"]
    assert rendered.ids == render(messages, tokenizer).ids


MARKED = """{% for m in messages %}{% if m.role == 'assistant' %}<|im_start|>assistant
{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}{{ '\n' }}{% else %}
<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def with_template(tokenizer: Tokenizer, template: str, **config: str) -> Tokenizer:
    return Tokenizer(tokenizer._aware, {**tokenizer.config, "chat_template": template, **config})


def test_marked_templates_give_the_masks_of_transformers(tokenizer: Tokenizer) -> None:
    from transformers import PreTrainedTokenizerFast

    messages = dialogue("When?", "In 1937.\nYes.", "Who?", "Nobody knows.")
    openai = [message.to_openai() for message in messages]
    reference = PreTrainedTokenizerFast(tokenizer_object=tokenizer._aware)
    expected = reference.apply_chat_template(
        openai,
        chat_template=MARKED,
        tokenize=True,
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    rendered = render(messages, with_template(tokenizer, MARKED))
    end = len(rendered.ids)
    assert rendered.ids == expected["input_ids"][:end]
    assert rendered.mask == [bool(learn) for learn in expected["assistant_masks"][:end]]
    assert not any(expected["assistant_masks"][end:])
    unmarked = MARKED.replace("{% generation %}", "{% if true %}")
    plain = with_template(tokenizer, unmarked.replace("{% endgeneration %}", "{% endif %}"))
    assert render(messages, plain) == rendered
    assert render(messages, tokenizer) == rendered


def test_the_end_token_is_learnt_where_a_marked_template_forgets_it(tokenizer: Tokenizer) -> None:
    forgetful = MARKED.replace("<|im_end|>{% endgeneration %}", "{% endgeneration %}<|im_end|>")
    messages = dialogue("When?", "In 1937.", "Who?", "Nobody knows.")
    rendered = render(messages, with_template(tokenizer, forgetful))
    assert rendered == render(messages, tokenizer)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}", "no special token"),
        (
            "{{ messages | length }}{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}",
            "anew",
        ),
        ("{{ raise_exception('no') }}", "refuses this conversation: no"),
        ("{% generation %}{{ messages[1].content }}{% endgeneration %}", "marks 1 answers of 2"),
    ],
)
def test_templates_that_do_not_add_up_are_refused(
    tokenizer: Tokenizer, template: str, message: str
) -> None:
    with pytest.raises(TemplateError, match=message):
        render(dialogue("When?", "In 1937.", "Who?", "x"), with_template(tokenizer, template))


THINKING = """{% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content if loop.last else m.content.split('||')[-1] }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def test_reasoning_that_a_follow_up_leaves_out_is_learnt(tokenizer: Tokenizer) -> None:
    own = with_template(tokenizer, THINKING)
    answer = "hm||In 1937."
    rendered = render(dialogue("When?", answer), own)
    assert taught(own, rendered) == [f"{answer}<|im_end|>"]
    with pytest.raises(TemplateError, match="earlier turns anew at message 3"):
        render(dialogue("When?", answer, "Who?", answer), own)


SPECIAL = re.compile(
    r"<\|[^|<>]*\|>|<｜[^｜]*｜>|</?s>|\[/?(?:INST|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\]"
    r"|<(?:start|end)_of_turn>"
)
ENDS = {"Llama-3": "<|eot_id|>", "Qwen": "<|im_end|>", "gemma": "<end_of_turn>", "Nemo": "</s>"}
ENDS |= {"Phi": "<|end|>", "functionary": "<|eot_id|>", "r7b": "<|END_OF_TURN_TOKEN|>"}


@pytest.mark.shared
def test_real_templates_teach_the_answers_and_their_end(
    fledge_data: Path, tokenizer: Tokenizer
) -> None:
    """What is learnt under each house's template is the answer and the token that ends it."""
    messages = dialogue("When?", "In 1937.", "Who?", "Nobody knows.")
    packed = fledge_data / "chat_templates" / "chat_templates.tar.zst"
    checked = 0
    with (
        zstandard.open(packed, "rb") as raw,
        tarfile.open(fileobj=io.BytesIO(raw.read())) as archive,
    ):
        for member in archive:
            end = next((end for name, end in ENDS.items() if name in member.name), None)
            if end is None or "distill" in member.name.lower() or "Hermes" in member.name:
                continue
            opened = archive.extractfile(member)
            assert opened is not None
            source = opened.read().decode()
            extended = tokenizer.extended([*dict.fromkeys([*SPECIAL.findall(source), end])])
            own = with_template(extended, source, bos_token="<s>", eos_token=end)
            first, second = taught(own, render(messages, own))
            assert first.endswith(f"In 1937.{end}") or "r7b" in member.name, member.name
            assert second.endswith(f"{end}"), member.name
            assert first.count(end) == second.count(end) == 1
            checked += 1
    assert checked >= 8


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("llamafactory_demo/alpaca_en_demo", 999),
        ("llamafactory_demo/glaive_toolcall_en_demo", 300),
        ("llamafactory_demo/identity", 91),
        ("llamafactory_demo/v1_sft_demo", 500),
        ("llamafactory_demo/reason_tool_use_demo_50", 50),
        ("rasbt_instruction/instruction-data", 1100),
        ("rasbt_instruction/instruction-data-with-preference", 1100),
        ("medicalgpt_zh/medical_sft_1K", 1000),
        ("medicalgpt_zh/sharegpt_zh_1K", 1000),
        ("self_instruct_seeds/seed_tasks_zh", 175),
    ],
)
def test_real_files_are_read_as_they_are(fledge_data: Path, name: str, count: int) -> None:
    read = list(read_conversations(fledge_data / f"{name}.jsonl.zst"))
    assert len(read) == count
    assert all(one.messages[-1].role in ("assistant", "user") for one in read)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("llamafactory_demo/dpo_en_demo", "preference pair"),
        ("llamafactory_demo/kto_en_demo", "KTO"),
        ("llamafactory_demo/c4_demo", "found text"),
        ("oasst_sample/en_100_tree", "found message_tree_id"),
    ],
)
def test_real_files_of_other_kinds_are_refused(fledge_data: Path, name: str, message: str) -> None:
    with pytest.raises(InputError, match=rf"zst:1: .*{message}"):
        list(read_conversations(fledge_data / f"{name}.jsonl.zst"))


@pytest.mark.shared
def test_real_collections_are_read(fledge_data: Path, tmp_path: Path, tokenizer: Tokenizer) -> None:
    read = 0
    for name in ("alpaca_en_demo", "alpaca_zh_demo", "glaive_toolcall_zh_demo"):
        packed = fledge_data / "llamafactory_demo" / f"{name}.jsonl.zst"
        with zstandard.open(packed, "rt", encoding="utf-8") as lines:
            path = tmp_path / f"{name}.jsonl"
            path.write_text("".join(line for line, _ in zip(lines, range(60), strict=False)))
        for conversation in read_conversations(path):
            rendered = render(conversation.messages, tokenizer, conversation.tools)
            assert any(rendered.mask)
            assert len(rendered.turns) == sum(m.role == "assistant" for m in conversation.messages)
            read += 1
    assert read == 180
