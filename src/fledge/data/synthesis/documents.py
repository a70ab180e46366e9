"""A passage in; questions that it answers, with answers taken from it, out.

The question is asked first and answered apart, with the passage in view; an answer that the passage
does not give is left out by the model's own word.  The conversation does not show the passage.
"""

from __future__ import annotations

from fledge.core.types import Message
from fledge.data.synthesis.asking import Asker, Template, UnusableError, listed
from fledge.data.synthesis.config import SynthesisConfig
from fledge.data.synthesis.inputs import Passage

QUESTIONS: Template = {
    "en": """\
Text:
{text}

Write {count} questions that this text answers. Somebody who has not seen the text must understand
them: name what you ask about instead of saying "the text" or "this". Write a numbered list, one
question a line, and nothing else.""",
    "zh-Hans": """\
文字：
{text}

请写出 {count} 个可以由这段文字回答的问题。没有看过这段文字的人也要能看懂：请写明所问的对象，
不要写“本文”或“这”。请写成编号列表，每行一个问题，不要写其他内容。""",
    "zh-Hant": """\
文字：
{text}

請寫出 {count} 個可以由這段文字回答的問題。沒有看過這段文字的人也要能看懂：請寫明所問的對象，
不要寫「本文」或「這」。請寫成編號列表，每行一個問題，不要寫其他內容。""",
}
ANSWER: Template = {
    "en": """\
Text:
{text}

Question: {question}

Answer in one to five sentences, only with what the text says, as if from your own knowledge; do not
mention the text. If the text does not answer the question, write only: NONE""",
    "zh-Hans": """\
文字：
{text}

问题：{question}

请只根据这段文字回答，一到五句话，像凭自己的知识那样说，不要提到这段文字。
如果这段文字没有回答这个问题，只写：NONE""",
    "zh-Hant": """\
文字：
{text}

問題：{question}

請只根據這段文字回答，一到五句話，像憑自己的知識那樣說，不要提到這段文字。
如果這段文字沒有回答這個問題，只寫：NONE""",
}
NONE = "NONE"


def ask_about(passage: Passage, asker: Asker, config: SynthesisConfig) -> list[list[Message]]:
    """Conversations of one question each; raises UnusableError when the passage answers none."""
    asked = listed(asker.ask(QUESTIONS, text=passage.text, count=config.questions))
    found = []
    for text in asked[: config.questions]:
        answer = asker.ask(ANSWER, text=passage.text, question=text)
        if answer.strip(" .。*\"'") != NONE:
            question = Message(role="user", content=text)
            found.append([question, Message(role="assistant", content=answer)])
    if not found:
        raise UnusableError("no_answers")
    return found
