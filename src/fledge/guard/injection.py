"""Prompt injection in pages: text that gives orders to an AI system which reads it.

Visible orders, and any order in text a reader does not see (comments, invisible elements).
"""

from __future__ import annotations

import re

from fledge.core.types import Verdict
from fledge.guard.rules import Rule, matches, rule

_MACHINE = (
    r"(?:a\.?i\.? (?:assistants?|models?|systems?|agents?|bots?)|(?:large )?language models?|llms?"
    r"|chat ?bots?|(?:virtual )?assistants?|chatgpt|claude|gemini|copilot)"
)
_MACHINES = "assistant|ai |a.i.|language model|llm|chatbot|chat bot|chatgpt|claude|gemini|copilot"
_MACHINE_ZH = (
    r"(?:人工智[能慧](?:助[手理]|模型|系[统統])|[语語]言模型|大模型|ai\s*(?:助[手理]|模型)"
    r"|聊天机器人|聊天機器人|智能助手)"
)
_MACHINES_ZH = "人工智|言模型|大模型|ai|聊天机器人|聊天機器人|智能助手"

RULES: tuple[Rule, ...] = (
    # setting earlier instructions aside
    rule("override", 3, "instruction|prompt|rules|guidelines|directions|context|message|above",
         r"\b(?:ignore|disregard|forget|override|bypass) (?:all |any |everything |the |your |of )*"
         r"(?:(?:previous|prior|earlier|preceding|existing|original|system)[\w ]{0,15}"
         r"(?:instructions?|prompts?|rules|guidelines|directions|context|messages?)|above)\b"),
    rule("override", 3, "ignore |disregard |forget |override ",
         r"\b(?:ignore|disregard|forget|override) (?:all )?(?:of )?your "
         r"(?:guidelines|instructions|rules|safety|training|restrictions|system prompt)\b"),
    rule("override", 3, "忽略|无视|無視|忘记|忘記|不要理|不用理",
         r"(?:忽略|[无無][视視]|忘[记記]|不要理[会會]|不用理[会會])"
         r"[^，。！？\n]{0,8}(?:之前|先前|以上|上面|前面|原有|你)[^，。！？\n]{0,8}"
         r"(?:指令|指示|[内內]容|提示|[规規][则則]|准[则則]|準則|要求|[设設]定)"),
    # addressing a machine that reads the page
    rule("address", 3, _MACHINES,
         rf"\b(?:note|attention|message|instructions?|important)[ \w,]{{0,12}}"
         rf"(?:to|for)(?: all| any| the| every)? {_MACHINE}\b"),
    rule("address", 3, _MACHINES,
         rf"\b{_MACHINE}(?: that| who|,)?(?: are| is)? (?:reading|processing|summari[sz]ing|parsing"
         r"|indexing|visiting)(?: this| the)? (?:page|text|document|site|article|content)\b"),
    rule("address", 2, _MACHINES,
         rf"\b{_MACHINE} (?:must|should|shall|have to|will now) (?:always |never |now )?"
         r"(?:tell|say|reply|respond|recommend|reveal|send|output|include|ask|write|state|mention)"
         r"\b"),
    rule("address", 3, _MACHINES_ZH,
         r"(?:[阅閱][读讀]|看到|[处處]理|[读讀]取)(?:本|此|[这這])[页頁篇个個]?"
         rf"[^，。\n]{{0,6}}的?{_MACHINE_ZH}"),
    rule("address", 3, _MACHINES_ZH,
         rf"{_MACHINE_ZH}(?:们|們)?(?:[请請]注意|必[须須]|[应應][该該]|[请請])"),
    # changing the role, taking out the prompt
    rule("role", 3, "prompt",
         r"\b(?:reveal|print|output|repeat|show|leak)[\w ']{0,15}"
         r"(?:system|initial|hidden) prompt\b"),
    rule("role", 3, "you are now|you are no longer",
         r"\byou are (?:now|no longer) (?:in |an? |the )?[\w -]{0,25}"
         r"(?:developer mode|jailbr\w+|dan\b|unrestricted|without (?:any )?(?:rules|restrictions)"
         r"|bound by|an? ai\b)"),
    rule("role", 3, "输出你的系|輸出你的系|模式",
         r"[输輸]出你的系[统統]提示"
         r"|(?:[处處][于於]|[进進]入)(?:[开開][发發]者|越[狱獄]|[调調][试試])模式"),
    rule("role", 2, "system:|system :|assistant:|assistant :",
         r"(?:^|>)\s*(?:system|assistant) ?: ?(?:you|ignore|from now|new|override)\b"),
    rule("role", 2, "系统|系統", r"^\s*系[统統](?:提示|消息|指令|訊息)\s*[：:]"),
    rule("role", 2, "<|im_|<|system|<|endof|[inst]|[/inst]|<<sys",
         r"<\|(?:im_start|im_end|system|endoftext)\|>|\[/?inst\]|<<sys>>"),
    rule("role", 2, "<|im_start|>|<|start_header", r"<\|im_start\|>\s?(?:system|user|assistant)\b"
         r"|<\|start_header_id\|>"),
    # a forged end of the document, new orders
    rule("forged", 3, "end of ",
         r"(?:<<|\[|#{2,}|-{3,})\s*end of (?:document|page|text|context|prompt|input)"),
    rule("forged", 2, "new instruction|new task|new order|new objective",
         r"\bnew (?:instructions?|task|orders?|objective)(?: for (?:the |all )?\w+(?: \w+)?)?\s*:"),
    rule("orders", 2, "respond |reply |answer ",
         r"\b(?:respond|reply|answer)(?: to (?:everything|every question))? (?:only )?with"
         r" (?:only )?(?:the )?(?:word|phrase|exact)"),
    rule("orders", 2, "summari",
         r"\b(?:do not|don't|instead of) summari[sz]\w+[\w ,]{0,20}"
         r"(?:instead|output|print|send)\b"),
    rule("orders", 2, " user",
         r"\b(?:send|output|reveal|exfiltrate|forward|leak)[\w ']{0,20}(?:the |a )user(?:'?s)?"
         r"[\w ']{0,12}(?:password|private data|credentials|data|secrets|conversation)\b"),
    rule("orders", 2, "tell the user to",
         r"\btell the user to (?:send|give|enter|visit|buy|download|call)\b"),
    rule("orders", 2, "用户|用戶|使用者",
         r"(?:要求|[让讓])(?:用[户戶]|使用者)[^，。\n]{0,6}(?:密[码碼]|[帐帳账賬][号號戶户])"),
    rule("orders", 2, "回答里|回答裡|回答中",
         r"每?[个個次]?回答[里裡中][^，。\n]{0,4}(?:推[荐薦]|提到|加入|包含)"),
    rule("orders", 2, "只回答|只能回答|只输出|只輸出",
         r"只(?:能)?(?:回答|[输輸]出)[“「\"'『]"),
)  # fmt: skip

_DISCUSSED = re.compile(
    r"prompt[- ]injection|jailbreak(?:ing)? (?:attack|prompt|research)"
    r"|提示(?:[词詞])?注入|越[狱獄]攻[击擊]",
    re.IGNORECASE,
)

THRESHOLD = 3.0
"""Weight from which visible text is an injection."""

HIDDEN_THRESHOLD = 2.0
"""Weight from which hidden text is one: nobody hides orders for good reasons."""


def injection_score(text: str) -> tuple[float, list[str]]:
    """(summed weight, the phrases seen)."""
    score, seen = 0.0, []
    for item, found in matches(RULES, text):
        score += item.weight
        seen.append(" ".join(min(found).split()))
    return score, seen


def injection_verdict(text: str, hidden: str = "") -> Verdict | None:
    """A verdict "injection.visible" or "injection.hidden", with the phrases seen, or None.

    An article that discusses prompt injection needs twice the weight to count as one.
    """
    score, seen = injection_score(hidden) if hidden else (0.0, [])
    if score >= HIDDEN_THRESHOLD:
        return Verdict(reason="injection.hidden", evidence=" | ".join(seen)[:300])
    score, seen = injection_score(text)
    if score >= THRESHOLD * (2 if _DISCUSSED.search(text) else 1):
        return Verdict(reason="injection.visible", evidence=" | ".join(seen)[:300])
    return None
