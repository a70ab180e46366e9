"""Spam rules: advertising vocabulary by density, address lists, random letters, source code."""

from __future__ import annotations

import re

from fledge.core.types import Verdict
from fledge.data.config import QualityConfig
from fledge.data.language import code_share
from fledge.data.page import Page

_TERMS = re.compile(
    r"\b(?:casinos?|slots?|jackpots?|free spins|no deposit|bonus(?:es)?|betting|sportsbook"
    r"|viagra|cialis|pills?|no prescription|weight loss|miracle (?:diet|cure|pill)"
    r"|lose \d+ (?:kilos|pounds|kg)|replica (?:watches|bags)?"
    r"|(?:pay ?day|instant|fast|quick) loans?"
    r"|no credit check|free (?:download|trial|money|gift|shipping)s?|click here|buy now|order now"
    r"|act now|best price|cheap\w*|lowest price|money back|100% (?:free|guaranteed)"
    r"|guaranteed income"
    r"|work from home|make money|earn \$?\d+|win big|buy (?:followers|likes|backlinks)|seo services"
    r"|backlinks|crypto giveaway|limited (?:time )?offer|discount\w*|call us today"
    r"|best \w+ in town)\b"
    r"|[赌賭][场場]|[娱娛][乐樂]城|百家[乐樂]|老虎[机機]|彩金|六合彩|[时時][时時]彩|返水|[荷]官"
    r"|[减減]肥[药藥]|[瘦]\w{0,3}斤|壮阳|壯陽|高仿|精仿|一比一|[货貨]到付款|全[国國]包[邮郵]|全台免[运運]"
    r"|代[开開][发發]票|刷[单單粉]|[买買]粉|日[赚賺]|月入\w{0,4}[万萬]|[轻輕][松鬆][赚賺]|[稳穩][赚賺]"
    r"|快速[贷貸]款|极速贷款|極速貸款|[无無免]需?抵押|不看征信|免[徵征]信"
    r"|[点點][击擊我这這][里裡]?[领領进進]|[点點][击擊这這][里裡]|免[费費]下[载載]|全[网網]最低|特[价價]"
    r"|[无無]效退[费費款]|加群|加微信|[领領]取\w{0,4}大?[礼禮]包|注册[即就]?送|註冊[即就]?送|立即(?:咨询|洽詢|諮詢)",
    re.IGNORECASE,
)
_SHOUTING = re.compile(r"[!！]{3,}|\${2,}|>{3,}|(?:\b[A-Z]{4,}\b[ !,]*){4,}")
_ADDRESS = re.compile(r"(?:https?://|www\.)\S+")

MIN_TERMS = 4
LONG_PAGE = 80
"""Words from which a page is worth its text, however many links surround it."""


def spam_words(page: Page, config: QualityConfig) -> Verdict | None:
    """Advertising vocabulary, dense: at least four terms, and a share of the words."""
    if not page.web:
        return None
    found = [match[0].lower() for match in _TERMS.finditer(page.text)]
    shouts = len(_SHOUTING.findall(page.text))
    length = max(len(page.words) - 0.5 * page.cjk, 1)
    weight = len(found) + 0.5 * shouts
    if len(found) >= MIN_TERMS and weight / length > config.max_spam_share:
        named = ", ".join(sorted(set(found))[:5])
        return Verdict(reason="quality.spam", evidence=f"{len(found)} terms: {named}")
    return None


def address_list(page: Page, config: QualityConfig) -> Verdict | None:
    """Mostly web addresses, or mostly link text."""
    short = len(page.words) < LONG_PAGE
    if short and page.links >= config.min_links and page.link_share > config.max_link_share:
        seen = f"{page.links} links, {page.link_share:.2f} of the text"
        return Verdict(reason="quality.link_farm", evidence=seen)
    addresses = _ADDRESS.findall(page.text)
    if len(addresses) < config.min_links // 2:
        return None
    share = sum(map(len, addresses)) / len(page.text)
    if share > config.max_link_share / 2:
        return Verdict(reason="quality.link_farm", evidence=f"{len(addresses)} addresses")
    return None


def gibberish(page: Page, config: QualityConfig) -> Verdict | None:
    """Letters that are no language: nothing recognised, and hardly a vowel."""
    words = [word for word in page.words if word.isascii() and word.isalpha() and len(word) > 3]
    if len(words) < 10 or 2 * page.cjk > len(page.words):
        return None
    without = sum(not re.search("[aeiouy]", word) for word in words) / len(words)
    if without > 0.4 or (page.language == "und" and page.web):
        return Verdict(reason="quality.gibberish", evidence=" ".join(words[:6]))
    return None


def source_code(page: Page, config: QualityConfig) -> Verdict | None:
    """A web page of source code or markup."""
    if page.web and page.language == "code":
        seen = f"{code_share(page.text):.2f} of the lines"
        return Verdict(reason="quality.code", evidence=seen)
    return None
