"""A chat model in; a function that scores answers from 1 to 10 out.

After L. Zheng et al., "Judging LLM-as-a-judge" (arXiv:2306.05685), single answer grading.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from fledge.core.errors import FledgeError
from fledge.core.protocols import ChatModel, Sampling
from fledge.core.types import Message
from fledge.data.sifting import ScoreError
from fledge.data.synthesis.asking import Asker, Language, Template, UnusableError

JUDGE: Template = {
    "en": """\
You check the work of an assistant. Read the conversation and the answer to its last question.

Conversation:
{conversation}

Answer:
{answer}

Is the answer correct, complete, to the point and harmless? Name its greatest weakness in one or two
sentences. A long answer is not better for being long. Then write the last line exactly as
"Score: N", where N is a whole number from 1 (useless) to 10 (nothing to improve).""",
    "zh-Hans": """\
你负责检查助手的回答。请阅读对话，以及对最后一个问题的回答。

对话：
{conversation}

回答：
{answer}

回答是否正确、完整、切题、无害？先用一两句话指出它最大的不足。回答并不因为长就更好。
最后一行请严格写成“分数：N”，N 为 1（毫无用处）到 10（无可改进）之间的整数。""",
    "zh-Hant": """\
你負責檢查助手的回答。請閱讀對話，以及對最後一個問題的回答。

對話：
{conversation}

回答：
{answer}

回答是否正確、完整、切題、無害？先用一兩句話指出它最大的不足。回答並不因為長就更好。
最後一行請嚴格寫成「分數：N」，N 為 1（毫無用處）到 10（無可改進）之間的整數。""",
}

_SCORE = re.compile(r"(?:score|分数|分數)\s*[:：]\s*\**\s*(\d{1,2})(?![\d.])", re.IGNORECASE)


def judge_score(
    model: ChatModel, sampling: Sampling, language: Language
) -> Callable[[Sequence[Message], str], float]:
    """``score(messages, answer)`` by ``model``; raises ScoreError when it fails or names none."""

    def score(messages: Sequence[Message], answer: str) -> float:
        told = "\n".join(f"{message.role}: {message.content}" for message in messages)
        asker = Asker(model, sampling, language, f"{told}\n{answer}")
        try:
            return read_score(asker.ask(JUDGE, conversation=told, answer=answer))
        except (UnusableError, FledgeError) as error:
            raise ScoreError(f"{model.name}: {error}") from None

    return score


def read_score(text: str) -> float:
    """The last score that a judgement names."""
    found = _SCORE.findall(text)
    if not found or not 1 <= int(found[-1]) <= 10:
        raise UnusableError("no_score")
    return float(found[-1])
