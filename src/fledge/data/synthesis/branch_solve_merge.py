"""A question in; an answer put together of the answers to its parts out (arXiv:2310.15123).

Branch: the model names the parts.  Solve: it answers each.  Merge: it makes one answer of them.
"""

from __future__ import annotations

from fledge.core.types import Message
from fledge.data.synthesis.asking import Asker, Template, UnusableError, listed
from fledge.data.synthesis.config import SynthesisConfig
from fledge.data.synthesis.inputs import Question

BRANCH: Template = {
    "en": """\
Task:
{task}

Into which independent parts would you divide the work on this task? Write a numbered list of two to
{most} parts, one a line, and nothing else.""",
    "zh-Hans": """\
任务：
{task}

完成这个任务可以分成哪几个相互独立的部分？请写成编号列表，两到{most}个部分，每行一个，不要写其他内容。""",
    "zh-Hant": """\
任務：
{task}

完成這個任務可以分成哪幾個相互獨立的部分？請寫成編號列表，兩到{most}個部分，每行一個，不要寫其他內容。""",
}
SOLVE: Template = {
    "en": """\
Task:
{task}

Do only this part of it, thoroughly: {part}""",
    "zh-Hans": """\
任务：
{task}

请只完成其中这一部分，并做得透彻：{part}""",
    "zh-Hant": """\
任務：
{task}

請只完成其中這一部分，並做得透徹：{part}""",
}
MERGE: Template = {
    "en": """\
Task:
{task}

The parts of the work:

{parts}

Write the answer to the task out of these parts: one coherent text without repetitions and
contradictions. Do not mention the parts. Write only the answer.""",
    "zh-Hans": """\
任务：
{task}

各部分的结果：

{parts}

请由这些部分写出对任务的完整回答：一篇连贯的文字，没有重复和矛盾，不要提到这些部分。只写回答。""",
    "zh-Hant": """\
任務：
{task}

各部分的結果：

{parts}

請由這些部分寫出對任務的完整回答：一篇連貫的文字，沒有重複和矛盾，不要提到這些部分。只寫回答。""",
}


def branch_solve_merge(
    question: Question, asker: Asker, config: SynthesisConfig
) -> tuple[list[Message], list[str]]:
    """(conversation, parts); raises UnusableError when the model names fewer than two parts."""
    branches = listed(asker.ask(BRANCH, task=question.text, most=config.branches))
    branches = branches[: config.branches]
    if len(branches) < 2:
        raise UnusableError("no_parts")
    solved = [asker.ask(SOLVE, task=question.text, part=part) for part in branches]
    parts = "\n\n".join(
        f"{number}. {part}\n{text}"
        for number, (part, text) in enumerate(zip(branches, solved, strict=True), 1)
    )
    answer = asker.ask(MERGE, task=question.text, parts=parts)
    return [*question.messages, Message(role="assistant", content=answer)], branches
