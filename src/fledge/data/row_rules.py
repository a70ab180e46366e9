"""Rules for examples of post-training data: each looks at one and returns a verdict, or None."""

from __future__ import annotations

import re
from collections.abc import Callable

from fledge.core.types import Verdict
from fledge.data.chat_forms import Conversation
from fledge.data.checking import oddities
from fledge.data.examples import Example, answers, asked, text_of_messages, wholes
from fledge.data.language import UNKNOWN, Cld2, language_of
from fledge.data.preference_forms import Judged
from fledge.data.sifting_config import SiftingConfig

Rule = Callable[[Example, SiftingConfig], Verdict | None]


def rule_verdict(example: Example, config: SiftingConfig) -> Verdict | None:
    """The first verdict of ``RULES``, or None."""
    return next((verdict for rule in RULES if (verdict := rule(example, config))), None)


ODD = {
    "same_answers": "pair.same_answers",
    "empty_answer": "rule.empty",
    "empty_question": "rule.empty",
    "roles": "rule.roles",
}
"""What a check warns of and no training can use, by the reason it is dropped for."""


def unusable(example: Example, config: SiftingConfig) -> Verdict | None:
    """Empty answers or questions, no answer, roles out of order, a pair of one answer."""
    roles = ", ".join(message.role for message in wholes(example)[0])
    if isinstance(example, Conversation) and not taught(example):
        return Verdict(reason="rule.no_answer", evidence=roles)
    found = next((what for what in oddities(example) if what in ODD), None)
    if found is None:
        return None
    evidence = roles if found == "roles" else found.replace("_", " ")
    return Verdict(reason=ODD[found], evidence=evidence)


def length(example: Example, config: SiftingConfig) -> Verdict | None:
    """Answers too short to learn, rows too long."""
    shortest = min((len(text.strip()) for text in taught(example)), default=None)
    if shortest is not None and shortest < config.min_answer:
        evidence = f"{shortest} characters, least {config.min_answer}"
        return Verdict(reason="rule.too_short", evidence=evidence)
    longest = max(len(text_of_messages(whole)) for whole in wholes(example))
    if longest > config.max_characters:
        evidence = f"{longest:,} characters, most {config.max_characters:,}"
        return Verdict(reason="rule.too_long", evidence=evidence)
    return None


def taught(example: Example) -> list[str]:
    """The texts that are learnt: the assistant's, of a pair the chosen one, no bad answer."""
    if isinstance(example, Judged) and not example.good:
        return []
    messages = example.messages if isinstance(example, Conversation) else answers(example)[0]
    aside = example.untaught if isinstance(example, Conversation) else frozenset[int]()
    return [
        text_of_messages([message])
        for number, message in enumerate(messages)
        if message.role == "assistant" and number not in aside
    ]


_UNIT = re.compile(r"[^\n.!?。！？]+[.!?。！？]*")
_LEAST_UNIT = 8
"""Letters of a line or sentence that should not come again; shorter ones ("}", "No.") may."""


def repeated(example: Example, config: SiftingConfig) -> Verdict | None:
    """An answer that says the same lines or sentences over and over."""
    for text in taught(example):
        again, seen, worst = 0, set[str](), ""
        for unit in (unit.strip() for unit in _UNIT.findall(text)):
            if unit in seen:
                again, worst = again + len(unit), worst or unit
            elif sum(map(str.isalpha, unit)) >= _LEAST_UNIT:
                seen.add(unit)
        if again > config.max_repeated * len(text):
            evidence = f"{again / len(text):.0%} repeats, such as {worst[:80]!r}"
            return Verdict(reason="rule.repeated", evidence=evidence)
    return None


_REFUSAL = re.compile(
    r"\b(?:I'?m sorry|I apologi[sz]e|sorry|unfortunately),? (?:but )?(?:as an AI\b.{0,60}?)?"
    r"I(?: am|'m)? (?:can ?not|can't|unable|not able|won't|will not)\b"
    r"|\bas an AI(?: language)?(?: model)?,? I (?:can ?not|can't|do not|don't|am not|am unable)\b"
    r"|\bI (?:can ?not|can't|won't|will not|am unable to|must decline to) "
    r"(?:assist|help|fulfil|comply|provide|answer|do that)"
    r"|(?:抱歉|对不起|對不起|很遗憾|很遺憾)[，,、\s]*(?:但)?我?(?:不能|无法|無法|没有办法|沒有辦法)"
    r"|作[为為]一?[个個]?(?:AI|人工智[能慧])[^。\n]{0,20}?(?:不能|无法|無法|没有|沒有)"
    r"|我(?:不能|无法|無法)(?:提供|回答|协助|協助|帮助|幫助|满足|滿足)",
    re.IGNORECASE,
)
_REFUSES_WITHIN = 120
"""Characters of an answer in which a refusal shows, if it is one."""


def refusal(example: Example, config: SiftingConfig) -> Verdict | None:
    """An answer that begins by refusing."""
    for text in taught(example) if config.refusals else []:
        found = _REFUSAL.search(text[:_REFUSES_WITHIN])
        if found:
            return Verdict(reason="rule.refusal", evidence=found[0])
    return None


_NAMED = re.compile(
    r"translat|languag|in (?:english|chinese|mandarin|french|german|spanish|japanese|italian)"
    r"|翻[译譯]|[语語]言|英文|中文|[英汉漢法德日俄韩韓西][语語]|[日韩韓]文|单词|單詞|生词|拼写|拼寫",
    re.IGNORECASE,
)
"""A question that names a language may well be answered in it."""

_SURE = 0.9
"""Least share of a text in one language for it to be of that language."""

_LEAST_LETTERS = {"zh": 8, "ja": 8, "ko": 8}
"""Letters or characters below which a text says too little of its language; others: 50."""


def language_mismatch(example: Example, config: SiftingConfig) -> Verdict | None:
    """An answer in another language than the question, where the prompt names none."""
    questions = [message.content for message in asked(example) if message.role == "user"]
    said = taught(example)
    named = any(_NAMED.search(message.content) for message in asked(example))
    if not config.languages_agree or not said or not questions or named:
        return None
    question, answer = _language(questions[-1]), _language(said[-1])
    if not question or not answer or question == answer:
        return None
    evidence = f"asked in {question}, answered in {answer}: {said[-1][:80]}"
    return Verdict(reason="rule.language", evidence=evidence)


def _language(text: str) -> str:
    """The language without its script; empty where it cannot be told for certain."""
    code, share = language_of(text, Cld2())
    language = code.partition("-")[0]
    letters = sum(character.isalpha() for character in text)
    if code in (UNKNOWN, "code") or share < _SURE or letters < _LEAST_LETTERS.get(language, 50):
        return ""
    return language


RULES: tuple[Rule, ...] = (unusable, length, repeated, refusal, language_mismatch)
