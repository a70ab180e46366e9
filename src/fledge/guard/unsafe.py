"""Unsafe text: threats, incitement, hatred, sexual advertising, self-harm; English and Chinese.

A small rule set of our own.  It catches the plain cases and is honest about no more: each phrase
has a weight, a text is unsafe when the weights, set against its length, reach the threshold.
"""

from __future__ import annotations

import re

from fledge.core.types import Verdict
from fledge.guard.rules import Rule, matches, rule

_PEOPLE = "(?:你|妳|他|她|它|您|所有人|每一?[个個]|全家)"

RULES: tuple[Rule, ...] = (
    # threats against a person
    rule("threat", 3, "kill |murder |hurt |stab |strangle |shoot ",
         r"\b(?:i|we)(?:'m| am| are|'re)? (?:will|shall|going to|gonna|swear)?[\w ,']{0,20}"
         r"\b(?:kill|murder|hurt|stab|strangle|shoot) (?:you|him|her|them|everyone)\b"),
    rule("threat", 3, "break your|cut off your|smash your",
         r"\b(?:break|cut off|smash) your (?:legs|arms|neck|bones|face|skull|head)\b"),
    rule("threat", 2, "i know where you", r"\bi know where you (?:live|sleep|work)\b"),
    rule("threat", 2, "regret this|pay for this| die",
         r"\byou(?:'ll| will| shall) (?:all )?(?:regret this|pay for this|die)\b"),
    rule("threat", 3, "弄死|杀了|殺了|宰了|捅死|打死|砍死|掐死",
         rf"(?:弄死|杀了|殺了|宰了|捅死|打死|砍死|掐死){_PEOPLE}"),
    rule("threat", 3, "打断|打斷|我知道你",
         r"打[断斷](?:你|妳|他)[们們]?的?(?:腿|手|骨[头頭])|我知道你[们們]?住在[哪那]"),
    rule("threat", 2, "全家", r"全家(?:都)?(?:别想|別想|不得好死|死光)"),
    # incitement to violence
    rule("incitement", 3, "burn |torch |no mercy|beat them",
         r"\b(?:burn|torch) (?:down )?(?:their|his|her|the) (?:houses?|homes?|shops?)\b"
         r"|\bshow (?:them )?no mercy\b|\bbeat them (?:up|to death)\b"),
    rule("incitement", 3, "烧|燒|往死|不要手",
         r"[烧燒](?:了|掉|光)(?:他|她|它)[们們]的?(?:房子|家|店)|往死[里裡]打|不要手[软軟]"),
    # hatred of a group
    rule("hatred", 3, "vermin|subhuman|parasites|cockroaches|filth|human garbage|a plague",
         r"\b(?:are|is|as) (?:all |nothing but |just |mere )*"
         r"(?:vermin|subhumans?|parasites|cockroaches|filth|human garbage|a plague)\b"),
    rule("hatred", 3, "subhuman|to die|wipe ",
         r"\bsubhuman\b|\b(?:deserve|ought) to die\b|\bwipe (?:them|these people) out\b"),
    rule("hatred", 2, "hate |despise |driven out of",
         r"\b(?:we|i) (?:hate|despise) (?:every|all)\b|\bdriven out of (?:our|the) \w+"),
    rule("hatred", 3, "害虫|害蟲|人渣|寄生|蟑螂|劣等|畜生|该死|該死",
         r"(?:都|全|就)是?(?:害[虫蟲]|人渣|寄生[虫蟲]|蟑螂|劣等|畜生)|(?:他|她)[们們]都[该該]死"),
    rule("hatred", 2, "滚出|滾出|痛恨每一|都该死|都該死",
         r"[滚滾]出(?:我|咱)[们們]的?|痛恨每一|都[该該]死"),
    # abuse of a person
    rule("abuse", 2, "you stupid|you worthless|you pathetic|you filthy|you disgusting|shut your",
         r"\byou (?:stupid|worthless|pathetic|filthy|disgusting)[\w, ]{0,20}"
         r"(?:idiot|scum|moron|trash|bitch|bastard)\b|\bshut your (?:mouth|face)\b"),
    rule("abuse", 2, "嘴|垃圾|废物|廢物|败类|敗類|人渣",
         r"[闭閉]上你的臭?嘴|[没沒]用的(?:垃圾|[废廢]物)"
         r"|你[这這個个]{0,2}(?:败类|敗類|[废廢]物|人渣)"),
    # self-harm
    rule("self_harm", 4, "yourself",
         r"\b(?:you should|go(?: and)?|just) (?:kill|hang|cut) yourself\b"),
    rule("self_harm", 2, "miss you|best way",
         r"\bnobody (?:would|will) miss you\b"
         r"|\bbest ways? to (?:kill yourself|commit suicide)\b"),
    rule("self_harm", 4, "去自杀|去自殺|去死|不如去死",
         r"(?:怎么不|怎麼不|快|赶紧|趕緊|你)去(?:自[杀殺]|死)|^去死吧|不如去死"),
    rule("self_harm", 1, "想念你", r"[没沒]有人会?會?想念你"),
    # sexual advertising
    rule("sexual", 3, "porn|sex ",
         r"\b(?:hardcore|explicit|hot|free|xxx) (?:porn\w*|sex (?:videos?|pics|pictures|chat))"),
    rule("sexual", 2, "xxx|porn|nude |naked girls|hardcore sex|adult ",
         r"\bxxx\b|\bporn(?:o|ography)?\b|\bnude (?:pictures|girls|pics|photos)\b"
         r"|\bnaked girls\b|\bhardcore sex\b|\badult (?:content|videos?) (?:inside|only)"),
    rule("sexual", 1, "18+ only|uncensored", r"\b18\+ only\b|\buncensored\b"),
    rule("sexual", 3, "色情|黄色",
         r"色情(?:[图圖]片|影片|[视視][频頻]|[电電]影|[内內]容)|黄色[电電]影|[无無][码碼]色情"),
    rule("sexual", 2, "成人|裸聊|约炮|約炮",
         r"成人(?:[视視][频頻]|影片|[电電]影|[图圖]片)|裸聊|[约約]炮"),
    rule("sexual", 2, "十八", r"未[满滿]十八[岁歲]?(?:勿|[请請]勿|禁止)"),
    # instructions for serious harm
    rule("weapons", 4, "pipe bomb|nail bomb|nerve agent|meth",
         r"\bhow to (?:make|build|cook) (?:a |an )?(?:pipe bomb|nail bomb|nerve agent|meth\b)"),
    rule("weapons", 4, "炸弹|炸彈|雷管|毒气|毒氣|冰毒|枪支|槍枝",
         r"(?:自制|自製|如何制造|如何製造|制作|製作)(?:炸[弹彈]|雷管|毒[气氣]|冰毒|枪支|槍枝)"),
)  # fmt: skip

THRESHOLD = 4.0
"""Weight per 300 words from which a text is unsafe."""

_WORD = re.compile(r"[A-Za-z]+|[\u4e00-\u9fff]")


def unsafe_verdict(text: str, threshold: float = THRESHOLD) -> Verdict | None:
    """A verdict "unsafe.<family>" with the phrases seen, or None.

    One heavy phrase in a long text (a novel, a report on hate speech) does not suffice.
    """
    weights: dict[str, float] = {}
    seen: list[str] = []
    for item, found in matches(RULES, text):
        weights[item.family] = weights.get(item.family, 0.0) + item.weight * len(found)
        seen += sorted(found)[:2]
    if sum(weights.values()) < threshold:
        return None
    length = max(1.0, len(_WORD.findall(text)) / 300)
    if sum(weights.values()) / length < threshold:
        return None
    family = max(sorted(weights), key=lambda name: weights[name])
    return Verdict(reason=f"unsafe.{family}", evidence=" | ".join(seen[:6])[:300])
