"""Language and quality rules: each drops its kind and spares good pages."""

from __future__ import annotations

import pytest
from web_pages import prose

from fledge.data.config import QualityConfig
from fledge.data.language import chinese_script, language_of
from fledge.data.page import Page
from fledge.data.quality import quality_verdict, repeated_share

SHORT_EN = (
    "The Old Mill Bridge crosses the Arrow at Farley. It was built of limestone in 1784 and has "
    "three arches, of which the middle one is the widest. The miller paid for it, because his "
    "carts had to go around by Holloway whenever the river was high. It still carries a lane, "
    "and the council inspects it every autumn."
)
SHORT_ZH = (
    "老磨坊桥位于法利镇，横跨阿罗河。这座桥建于一七八四年，用石灰岩砌成，共有三个桥拱，中间的一个最宽。"
    "当年磨坊主出钱修桥，因为每逢河水上涨，他的马车就得绕道霍洛韦。如今桥上仍有一条小路，镇政府每年秋天都会派人检查桥墩。"
)


def reason(text: str, *, web: bool = True, **more: float) -> str | None:
    page = Page.of(text, language_of(text)[0], web=web, **more)  # type: ignore[arg-type]
    verdict = quality_verdict(page, QualityConfig())
    return verdict.reason if verdict else None


@pytest.mark.parametrize("text", [SHORT_EN, SHORT_ZH, prose(1), prose(2, 60)])
def test_good_pages_survive(text: str) -> None:
    assert reason(text) is None


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        ("quality.too_short", "A bridge in Farley."),
        ("quality.placeholder", "404 - The page you requested could not be found. " * 2),
        ("quality.placeholder", "Lorem ipsum dolor sit amet, consectetur. " * 20),
        ("quality.repetition", "The bridge was opened by the mayor of the old town.\n" * 30),
        ("quality.code", "def f(x):\n    y = x + 1\n    return y\n" * 20),
        ("quality.gibberish", "hvpkshh nxjm wfmpjv kdbvn whhmvv bkpqb pxnkm " * 12),
        ("quality.letters", "12 34 | 55.1 % 88/91 ## -- 7,000 == " * 40),
        (
            "quality.spam",
            "Best online casino bonus! Click here for free spins, no deposit. Buy now at the best "
            "price, order now, limited time offer!!! Fast loans, no credit check, work from home "
            "and make money. Cheap pills without a prescription, click here!!!",
        ),
        (
            "quality.spam",
            "注册送彩金，老虎机返水，百家乐天天有奖！！！代开发票，刷单日赚五百，轻松赚钱。"
            "高仿名表，货到付款，全国包邮。极速贷款，无需抵押，不看征信，点击领取大礼包。" * 2,
        ),
        (
            "quality.link_farm",
            "\n".join(f"pills http://x{i}.example/aa/{i} watches" for i in range(30)),
        ),
    ],
)
def test_bad_pages_fall_for_their_reason(expected: str, text: str) -> None:
    assert reason(text) == expected


def test_a_link_farm_needs_links_and_little_text() -> None:
    assert reason(SHORT_EN, links=40, link_share=0.9) == "quality.link_farm"
    assert reason(prose(3, 40), links=40, link_share=0.9) is None
    assert reason(SHORT_EN, links=5, link_share=0.9) is None


def test_chosen_text_is_held_to_less() -> None:
    poem = "白日依山尽，黄河入海流。欲穷千里目，更上一层楼。"
    assert reason(poem, web=False) is None
    assert reason(poem, web=True) == "quality.too_short"
    assert reason("import os\nx = os.name\nprint(x)\n", web=False) is None


def test_names_repeated_in_short_facts_are_no_stuffing() -> None:
    facts = [
        "The Auckland Harbour Bridge crosses Waitemata Harbour.",
        "The main span of the Auckland Harbour Bridge is 244 metres long.",
        "The Auckland Harbour Bridge was opened in the year 1959.",
        "People paint the Auckland Harbour Bridge all year round.",
        "Engineers widened the Auckland Harbour Bridge ten years after that.",
        "It takes about half an hour to climb the arch of it.",
    ]
    assert reason("\n".join(facts)) is None


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", SHORT_EN),
        ("zh-Hans", SHORT_ZH),
        ("zh-Hant", "這座橋建於十八世紀，橫跨長江，是當地最長的橋樑，每年吸引許多遊客參觀。"),
        ("zh-Hant", "橋塔承受斜張索的載重，橋塔的設計要符合規定。"),
        ("fr", "Le pont franchit la rivière depuis le dix-huitième siècle et porte une route."),
        ("ja", "この橋は十八世紀に建てられ、川を渡る道を支えています。"),
        ("ru", "Этот мост был построен в восемнадцатом веке и пересекает реку."),
        ("code", "#include <stdio.h>\nint main() {\n  return 0;\n}\n"),
    ],
)
def test_languages(language: str, text: str) -> None:
    assert language_of(text)[0] == language


def test_english_about_foreign_names_is_english() -> None:
    text = (
        "The Tsurumi Tsubasa Bridge is the pride of Tsurumi. It was built by the city of Kobe. " * 2
    )
    assert language_of(text)[0] == "en"


def test_control_characters_do_not_stop_detection() -> None:
    assert language_of("\x00\x1b" + SHORT_EN + "\ufffe\ud800")[0] == "en"


def test_script_is_told_by_characters_of_one_script() -> None:
    assert chinese_script("长江大桥", "zh-Hant") == "zh-Hans"
    assert chinese_script("長江大橋", "zh-Hans") == "zh-Hant"
    assert chinese_script("山水人口", "zh-Hans") == "zh-Hans"


def test_repeated_share() -> None:
    words = list("abcdefgh")
    assert repeated_share(words, 8) == 0
    assert repeated_share(words * 2, 8) == 0.5
    assert repeated_share(words * 4, 8) == 0.75
