"""Seed instructions in; new instructions with answers out (self-instruct, arXiv:2212.10560).

Each task shows some instructions, three of four of them seeds (section 2.2), and asks for more.
What resembles an earlier one (ROUGE-L) or asks for pictures and the like is left aside.  Unlike the
paper, answers are asked of a chat model one by one, without telling classification tasks apart.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import Any

from fledge.core.types import Message
from fledge.data.synthesis.asking import Asker, Template, UnusableError, listed
from fledge.data.synthesis.config import SynthesisConfig
from fledge.data.synthesis.inputs import Question

NEW: Template = {
    "en": """\
Here are tasks that people gave to an assistant:

{examples}

Write {count} new tasks. They should differ from these and from each other in subject, form and
difficulty, be clear without further material, and be answerable in writing. Write a numbered list,
one task a line, and nothing else.""",
    "zh-Hans": """\
以下是人们交给助手的任务：

{examples}

请写出 {count} 个新任务。它们的主题、形式和难度应与上面的任务不同，彼此也不同；
不需要其他材料就能看懂，并且可以用文字回答。请写成编号列表，每行一个任务，不要写其他内容。""",
    "zh-Hant": """\
以下是人們交給助手的任務：

{examples}

請寫出 {count} 個新任務。它們的主題、形式和難度應與上面的任務不同，彼此也不同；
不需要其他材料就能看懂，並且可以用文字回答。請寫成編號列表，每行一個任務，不要寫其他內容。""",
}
ASKED_AT_ONCE = 4
"""New instructions asked for in one go."""

LENGTHS = (8, 600)
"""Least and most characters of an instruction; of Chinese half as many are enough."""

_NOT_IN_WRITING = re.compile(
    r"\b(?:images?|pictures?|photos?|graphs?|plots?|videos?|audio|draw|diagrams?)\b"
    r"|图片|圖片|照片|图像|圖像|视频|影片|音频|音訊|画一|畫一",
    re.IGNORECASE,
)
_TOKEN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_\u3040-\u30ff\u3400-\u9fff]+")


class SelfInstruct:
    """The pool of instructions, which grows as tasks finish."""

    def __init__(self, seeds: Sequence[Question], config: SynthesisConfig) -> None:
        self._seeds = [one.text for one in seeds]
        self._made: list[str] = []
        self._known = [tokens(text) for text in self._seeds]
        self._config = config

    def accept(self, rows: Sequence[dict[str, Any]]) -> None:
        """Take the instructions of a finished task into the pool."""
        for row in rows:
            text = row["messages"][0]["content"]
            self._made.append(text)
            self._known.append(tokens(text))

    def make(self, key: str, asker: Asker) -> list[list[Message]]:
        """New instructions with their answers; raises UnusableError when none is new."""
        draw = random.Random(f"self-instruct/{self._config.seed}/{key}")
        shown = self._shown(draw)
        examples = "\n".join(f"{n}. {' '.join(text.split())}" for n, text in enumerate(shown, 1))
        told = asker.ask(NEW, examples=examples, count=ASKED_AT_ONCE)
        fresh: list[str] = []
        for text in listed(told):
            if self._is_new(text, fresh):
                fresh.append(text)
        if not fresh:
            raise UnusableError("nothing_new")
        conversations = []
        for text in fresh:
            question = Message(role="user", content=text)
            answer = Message(role="assistant", content=asker.answer([question]))
            conversations.append([question, answer])
        return conversations

    def _shown(self, draw: random.Random) -> list[str]:
        """Examples to show: a quarter of them made before, as far as there are."""
        made = draw.sample(self._made, min(len(self._made), self._config.shown // 4))
        count = min(len(self._seeds), self._config.shown - len(made))
        shown = [*draw.sample(self._seeds, count), *made]
        draw.shuffle(shown)
        return shown

    def _is_new(self, text: str, fresh: Sequence[str]) -> bool:
        mine = tokens(text)
        least, most = LENGTHS
        long_enough = len(text) + sum("\u3400" <= c <= "\u9fff" for c in text) >= least
        if not long_enough or len(text) > most or _NOT_IN_WRITING.search(text):
            return False
        others = [*self._known, *map(tokens, fresh)]
        return all(rouge_l(mine, other) < self._config.most_alike for other in others)


def tokens(text: str) -> list[str]:
    """Words, and Chinese or Japanese characters, in lower case."""
    return _TOKEN.findall(text.lower())


def rouge_l(left: Sequence[str], right: Sequence[str]) -> float:
    """F1 of the longest common subsequence (Lin 2004, eq. 4 with beta 1)."""
    if not left or not right:
        return 0.0
    row = [0] * (len(right) + 1)
    for mine in left:
        before = 0
        for place, other in enumerate(right, 1):
            kept = row[place]
            row[place] = before + 1 if mine == other else max(row[place], row[place - 1])
            before = kept
    return 2 * row[-1] / (len(left) + len(right))
