"""A passage in; a persona, its questions and their answers out (Persona Hub, arXiv:2406.20094).

Text-to-persona (section 2.1): who would write or read this?  Then the persona asks (section 3).
"""

from __future__ import annotations

from fledge.core.types import Message
from fledge.data.synthesis.asking import Asker, Template, UnusableError, listed
from fledge.data.synthesis.config import SynthesisConfig
from fledge.data.synthesis.inputs import Passage

PERSONA: Template = {
    "en": """\
Who is likely to write, read or need the text below? Describe one such person in one sentence:
trade, experience, concern. Give no name. Write only the sentence.

Text:
{text}""",
    "zh-Hans": """\
什么样的人可能会写、会读或会需要下面的文字？请用一句话描述这样一个人：职业、经验、关心的事。
不要写姓名，只写这一句话。

文字：
{text}""",
    "zh-Hant": """\
什麼樣的人可能會寫、會讀或會需要下面的文字？請用一句話描述這樣一個人：職業、經驗、關心的事。
不要寫姓名，只寫這一句話。

文字：
{text}""",
}
QUESTIONS: Template = {
    "en": """\
{persona}

Write {count} different questions or tasks that this person would give to a knowledgeable
assistant, in this person's own words. Each must be clear by itself. Write a numbered list, one a
line, and nothing else.""",
    "zh-Hans": """\
{persona}

请用这个人自己的口吻，写出他（她）会交给一位博学助手的 {count} 个不同的问题或任务。
每一个都要单独就能看懂。请写成编号列表，每行一个，不要写其他内容。""",
    "zh-Hant": """\
{persona}

請用這個人自己的口吻，寫出他（她）會交給一位博學助手的 {count} 個不同的問題或任務。
每一個都要單獨就能看懂。請寫成編號列表，每行一個，不要寫其他內容。""",
}


def ask_as_persona(
    passage: Passage, asker: Asker, config: SynthesisConfig
) -> list[tuple[list[Message], str]]:
    """(conversation, persona) for each question; raises UnusableError when there is none."""
    persona = " ".join(asker.ask(PERSONA, text=passage.text).split())
    asked = listed(asker.ask(QUESTIONS, persona=persona, count=config.questions))
    if not asked:
        raise UnusableError("no_questions")
    found = []
    for text in asked[: config.questions]:
        question = Message(role="user", content=text)
        answer = Message(role="assistant", content=asker.answer([question]))
        found.append(([question, answer], persona))
    return found
