"""A question in; its answer with the reasoning before it out (arXiv:2201.11903, zero-shot).

With several votes the answer of the majority is kept (self-consistency, arXiv:2203.11171); where
the right answer is known, only that one.
"""

from __future__ import annotations

from fledge.core.types import Message
from fledge.data.synthesis.asking import Asker, Template, UnusableError
from fledge.data.synthesis.config import SynthesisConfig
from fledge.data.synthesis.inputs import Question
from fledge.data.synthesis.majority import final_answer, majority
from fledge.metrics.answers import normalise

THINK: Template = {
    "en": """\
{question}

Think step by step and write your steps down. Then write the last line exactly as "Answer: …", with
nothing but the result.""",
    "zh-Hans": """\
{question}

请一步一步思考，并写出每一步。最后一行请严格写成“答案：……”，只写结果。""",
    "zh-Hant": """\
{question}

請一步一步思考，並寫出每一步。最後一行請嚴格寫成「答案：……」，只寫結果。""",
}


def reason(
    question: Question, asker: Asker, config: SynthesisConfig
) -> tuple[list[Message], float]:
    """(conversation, share of the votes); raises UnusableError for no, split or wrong answers."""
    told = asker.fill(THINK, question=question.text)
    before = list(question.messages[:-1])
    answers: list[str] = []
    for _ in range(config.votes):
        try:
            answers.append(asker.answer([*before, Message(role="user", content=told)]))
        except UnusableError:
            answers.append("")
    results = [final_answer(answer) for answer in answers]
    winner, share = majority(results)
    if not winner:
        raise UnusableError("no_final_answer")
    if share < config.agreement:
        raise UnusableError("no_agreement")
    if question.target and winner != normalise(question.target):
        raise UnusableError("wrong_answer")
    answer = answers[results.index(winner)]
    return [*question.messages, Message(role="assistant", content=answer)], share
