"""An instruction in; harder and rarer ones with answers out (Evol-Instruct, arXiv:2304.12244).

Each round deepens the instruction in one of four ways (section 3.2, in-depth evolving), or, one
time in five, leaves it for a new one of its kind (in-breadth).  What came out no harder, copies
the prompt, or is answered by an apology is given up (elimination evolving).
"""

from __future__ import annotations

import random
import re

from fledge.core.types import Message
from fledge.data.synthesis.asking import Asker, Template, UnusableError
from fledge.data.synthesis.config import SynthesisConfig
from fledge.data.synthesis.inputs import Question

DEEPER: Template = {
    "en": """\
Rewrite the task below so that it is somewhat harder, but still reasonable and answerable in
writing. {way} Add no more than twenty words. Keep all material that the task brings with it, such
as tables or code. Write only the rewritten task.

Task:
{task}""",
    "zh-Hans": """\
请改写下面的任务，使它稍难一些，但仍然合理，并且可以用文字回答。{way}
增加的内容不要超过三十个字。任务自带的材料（如表格、代码）要全部保留。只写改写后的任务。

任务：
{task}""",
    "zh-Hant": """\
請改寫下面的任務，使它稍難一些，但仍然合理，並且可以用文字回答。{way}
增加的內容不要超過三十個字。任務自帶的材料（如表格、程式碼）要全部保留。只寫改寫後的任務。

任務：
{task}""",
}
WAYS: dict[str, Template] = {
    "constraint": {
        "en": "Add one more condition that the answer has to meet.",
        "zh-Hans": "请增加一个回答必须满足的条件。",
        "zh-Hant": "請增加一個回答必須滿足的條件。",
    },
    "deepening": {
        "en": "Ask for more depth or breadth on the matter at issue.",
        "zh-Hans": "请就所问的事情要求更深或更广的回答。",
        "zh-Hant": "請就所問的事情要求更深或更廣的回答。",
    },
    "concrete": {
        "en": "Replace general notions by more specific ones.",
        "zh-Hans": "请把笼统的概念换成更具体的概念。",
        "zh-Hant": "請把籠統的概念換成更具體的概念。",
    },
    "reasoning": {
        "en": "Make it so that the answer takes several steps of reasoning.",
        "zh-Hans": "请改成需要多步推理才能回答。",
        "zh-Hant": "請改成需要多步推理才能回答。",
    },
}
BROADER: Template = {
    "en": """\
Take the task below as inspiration for a quite different one: from the same field, rarer, of the
same length and difficulty, and answerable in writing. Write only the new task.

Task:
{task}""",
    "zh-Hans": """\
请以下面的任务为启发，写一个截然不同的新任务：同一领域，更少见，长度和难度相近，并且可以用文字回答。
只写新任务。

任务：
{task}""",
    "zh-Hant": """\
請以下面的任務為啟發，寫一個截然不同的新任務：同一領域，更少見，長度和難度相近，並且可以用文字回答。
只寫新任務。

任務：
{task}""",
}
BREADTH_ONE_IN = 5

_COPIED = re.compile(
    r"rewritten task|given task|new task\s*:|改写后的任务|改寫後的任務|新任务[：:]|新任務[：:]",
    re.IGNORECASE,
)
_APOLOGY = re.compile(r"\b(?:sorry|apologi[sz]e)\b|抱歉|对不起|對不起", re.IGNORECASE)
_APOLOGY_WITHIN = 80


def evolve(
    question: Question, key: str, asker: Asker, config: SynthesisConfig
) -> list[tuple[list[Message], list[str]]]:
    """(conversation, ways so far) of each round; raises UnusableError when the first fails."""
    draw = random.Random(f"evolve/{config.seed}/{key}")
    task, ways = question.text, list[str]()
    found: list[tuple[list[Message], list[str]]] = []
    for _ in range(config.rounds):
        way = "breadth" if draw.randrange(BREADTH_ONE_IN) == 0 else draw.choice(sorted(WAYS))
        try:
            harder = _evolved(task, way, asker)
            asked = Message(role="user", content=harder)
            answer = asker.answer([asked])
            if _APOLOGY.search(answer[:_APOLOGY_WITHIN]):
                raise UnusableError("apology")
        except UnusableError:
            if found:
                break
            raise
        task, ways = harder, [*ways, way]
        found.append(([asked, Message(role="assistant", content=answer)], ways))
    return found


def _evolved(task: str, way: str, asker: Asker) -> str:
    if way == "breadth":
        harder = asker.ask(BROADER, task=task)
    else:
        harder = asker.ask(DEEPER, task=task, way=WAYS[way][asker.language])
    if _COPIED.search(harder):
        raise UnusableError("copies_the_prompt")
    if " ".join(harder.lower().split()) == " ".join(task.lower().split()):
        raise UnusableError("unchanged")
    return harder
