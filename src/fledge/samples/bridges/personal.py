"""Invented personal data, and numbers that only look like it, planted into main text.

Nothing here belongs to anybody: telephone numbers come from ranges kept for fiction or from
unlikely series, cards from issuers' test ranges, addresses from networks that serve no homes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from string import ascii_letters, ascii_uppercase, digits

from fledge.samples.bridges.page import Block, Page


def luhn_digit(number: str) -> str:
    """The check digit that makes ``number`` + digit pass the Luhn test (ISO/IEC 7812-1)."""
    total = 0
    for position, digit in enumerate(reversed(number)):
        value = int(digit) * (2 if position % 2 == 0 else 1)
        total += value - 9 if value > 9 else value
    return str(-total % 10)


def resident_id_digit(number: str) -> str:
    """The check character of a Chinese resident identity number (GB 11643-1999, mod 11-2)."""
    weights = [pow(2, 17 - i, 11) for i in range(17)]
    total = sum(int(d) * w for d, w in zip(number, weights, strict=True))
    return "10X98765432"[total % 11]


def iban(country: str, account: str) -> str:
    """The IBAN with its two check digits (ISO 13616, mod 97)."""
    letters = "".join(str(int(c, 36)) for c in f"{account}{country}00")
    return f"{country}{98 - int(letters) % 97:02d}{account}"


def _email(rng: Random) -> str:
    first = rng.choice(
        ("r.tesk", "mila_oberon", "Quill-Feather", "j.varn+web", "lin.xiaoqiao", "hsu")
    )
    host = rng.choice(
        ("postbox-mail.com", "mail.river-walk.net", "bridgeclub.org", "qiaomail.com.cn")
    )
    return f"{first}{rng.randrange(1, 999)}@{host}"


def _phone_us(rng: Random) -> str:
    area, line = rng.choice(("212", "415", "503", "718")), rng.randrange(100, 200)
    return rng.choice((f"({area}) 555-0{line}", f"+1 {area}-555-0{line}", f"{area}-555-0{line}"))


def _phone_uk(rng: Random) -> str:
    line = rng.randrange(1000)
    return rng.choice(
        (f"020 7946 0{line:03d}", f"+44 20 7946 0{line:03d}", f"0161 496 0{line:03d}")
    )


def _phone_cn(rng: Random) -> str:
    line = f"{rng.randrange(10000):04d}"
    return rng.choice((f"138 0000 {line}", f"1390000{line}", f"+86 138 0000 {line}"))


def _phone_tw(rng: Random) -> str:
    line = f"{rng.randrange(1000):03d}"
    return rng.choice((f"0912-000-{line}", f"+886 912 000 {line}", f"(02) 2700-0{line}"))


def _resident_id(rng: Random) -> str:
    """County codes that were never issued; a birthday of the last century."""
    place = rng.choice(("119901", "319907", "449903", "519905"))
    born = f"{rng.randrange(1930, 1999)}{rng.randrange(1, 13):02d}{rng.randrange(1, 29):02d}"
    number = f"{place}{born}{rng.randrange(1000):03d}"
    return number + resident_id_digit(number)


def _ipv4(rng: Random) -> str:
    first = rng.choice((11, 22, 26, 30, 33))  # networks of one ministry: public, no homes
    return f"{first}.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(1, 255)}"


def _card(rng: Random) -> str:
    prefix = rng.choice(("400000", "411111", "510510", "555555"))
    number = prefix + "".join(rng.choice(digits) for _ in range(9))
    number += luhn_digit(number)
    parts = (number[0:4], number[4:8], number[8:12], number[12:16])
    return rng.choice(("", " ", "-")).join(parts)


def _iban(rng: Random) -> str:
    account = "".join(rng.choice(digits) for _ in range(10))
    plain = rng.choice((iban("DE", f"00000000{account}"), iban("GB", f"TEST0000{account[:10]}")))
    if rng.random() < 0.5:
        return plain
    return " ".join(plain[i : i + 4] for i in range(0, len(plain), 4))


def _pick(rng: Random, alphabet: str, count: int) -> str:
    return "".join(rng.choice(alphabet) for _ in range(count))


def secret(rng: Random) -> str:
    """A string shaped like an access key."""
    return rng.choice(
        (
            "sk-" + _pick(rng, ascii_letters + digits, 48),
            "AKIA" + _pick(rng, ascii_uppercase + "234567", 16),
            "ghp_" + _pick(rng, ascii_letters + digits, 36),
        )
    )


PERSONAL: dict[str, Callable[[Random], str]] = {
    "email": _email,
    "phone_us": _phone_us,
    "phone_uk": _phone_uk,
    "phone_cn": _phone_cn,
    "phone_tw": _phone_tw,
    "resident_id": _resident_id,
    "ipv4": _ipv4,
    "card": _card,
    "iban": _iban,
    "secret": secret,
}

_BY_LANGUAGE = {
    "en": ("email", "email", "phone_us", "phone_uk", "ipv4", "card", "iban", "secret"),
    "zh-Hans": ("email", "phone_cn", "phone_cn", "resident_id", "ipv4", "card", "secret"),
    "zh-Hant": ("email", "phone_tw", "phone_tw", "ipv4", "card", "iban"),
}

_LINES = {
    "en": {
        "email": ("Questions about this page? Write to {}.", "E-mail: {}"),
        "phone": ("Call me on {} after six.", "Tel. {}", "For group visits ring {} and ask."),
        "ipv4": ("Posted from {}.", "The server log shows {} again."),
        "card": ("I paid the tour with card {}, never again.",),
        "iban": ("Donations for the photo club: {}, thank you.",),
        "secret": ("My script uses the key {} for the map.",),
    },
    "zh-Hans": {
        "email": ("对本页有疑问请写信到 {} 。", "联系邮箱：{}", "有照片的朋友请发到{}，谢谢。"),
        "phone": ("团体参观请拨打 {} 联系我。", "电话：{}", "手机{}，晚上六点以后打。"),
        "resident_id": ("报名参观时我登记的身份证号是{}。", "身份证：{}"),
        "ipv4": ("发自 {} 。", "服务器日志里又出现了{}。"),
        "card": ("我用卡号 {} 付的导览费，再也不去了。",),
        "secret": ("我的脚本用密钥 {} 读取地图。",),
    },
    "zh-Hant": {
        "email": ("對本頁有疑問請寫信到 {} 。", "聯絡信箱：{}", "有照片的朋友請寄到{}，謝謝。"),
        "phone": ("團體參觀請撥打 {} 聯絡我。", "電話：{}", "手機{}，晚上六點以後打。"),
        "ipv4": ("發自 {} 。", "伺服器紀錄裡又出現了{}。"),
        "card": ("我用卡號 {} 付導覽費，再也不去了。",),
        "iban": ("攝影社的捐款帳號：{}，謝謝。",),
    },
}


def _isbn(rng: Random) -> str:
    body = f"978{rng.choice((0, 1, 7, 9))}{rng.randrange(10**8):08d}"
    check = -sum(int(d) * (3 if i % 2 else 1) for i, d in enumerate(body)) % 10
    return f"978-{body[3]}-{body[4:8]}-{body[8:12]}-{check}"


def _serial(rng: Random) -> str:
    """Sixteen digits that fail the Luhn test."""
    number = "7" + "".join(rng.choice(digits) for _ in range(14))
    number += str((int(luhn_digit(number)) + 1 + rng.randrange(9)) % 10)
    return " ".join(number[i : i + 4] for i in range(0, 16, 4))


def _clause(rng: Random) -> str:
    parts = rng.choice((2, 3, 3, 4))
    return ".".join(str(rng.randrange(1, 13)) for _ in range(parts))


def _version(rng: Random) -> str:
    return f"v{rng.randrange(1, 12)}.{rng.randrange(40)}.{rng.randrange(99)}.{rng.randrange(999)}"


def _date(rng: Random) -> str:
    return f"2019-0{rng.randrange(1, 10)}-1{rng.randrange(10)} 10:{rng.randrange(10, 60)}"


def _drawing(rng: Random) -> str:
    series = _pick(rng, ascii_uppercase, 2)
    return f"{series}-{rng.randrange(1000, 9999)}-{rng.randrange(100, 999)}"


LOOKALIKES: dict[str, Callable[[Random], str]] = {
    "year": lambda rng: f"{rng.randrange(1850, 2020)}-{rng.randrange(2020, 2024)}",
    "length": lambda rng: f"{rng.randrange(1, 40)},{rng.randrange(1000):03d}.{rng.randrange(10)} m",
    "clause": _clause,
    "version": _version,
    "isbn": _isbn,
    "serial": _serial,
    "scale": lambda rng: f"1:{rng.randrange(1, 60) * 500}",
    "date": _date,
    "drawing": _drawing,
    "place": lambda rng: f"{rng.uniform(20, 60):.4f}, {rng.uniform(100, 130):.4f}",
    "stamp": lambda rng: (
        f"2018{rng.randrange(10, 13)}{rng.randrange(10, 29)}{rng.randrange(10**6):06d}"
    ),
    "handle": lambda rng: f"@bridge_walker{rng.randrange(99)}",
}

_LOOKALIKE_LINES = {
    "en": {
        "year": "The album covers {}.",
        "length": "The walking tour is {} long.",
        "clause": "Compare clause {} of the handbook.",
        "version": "Drawn with plan editor {}.",
        "isbn": "Further reading: ISBN {}.",
        "serial": "The plate shows serial number {}.",
        "scale": "The map beside it is at {}.",
        "date": "Photographed on {}.",
        "drawing": "See drawing {}.",
        "place": "The camera stood at {}.",
        "stamp": "File name IMG_{}.",
        "handle": "Pictures by {}.",
    },
    "zh-Hans": {
        "year": "相册收录{}年的照片。",
        "length": "步行路线全长{}。",
        "clause": "参见手册第{}条。",
        "version": "用绘图软件{}绘制。",
        "isbn": "延伸阅读：ISBN {}。",
        "serial": "铭牌上的编号是 {} 。",
        "scale": "旁边的地图比例为{}。",
        "date": "拍摄于{}。",
        "drawing": "参见图纸{}。",
        "place": "相机位置：{}。",
        "stamp": "文件名 IMG_{}。",
        "handle": "图片作者：{}。",
    },
    "zh-Hant": {
        "year": "相簿收錄{}年的照片。",
        "length": "步行路線全長{}。",
        "clause": "參見手冊第{}條。",
        "version": "用繪圖軟體{}繪製。",
        "isbn": "延伸閱讀：ISBN {}。",
        "serial": "銘牌上的編號是 {} 。",
        "scale": "旁邊的地圖比例為{}。",
        "date": "拍攝於{}。",
        "drawing": "參見圖紙{}。",
        "place": "相機位置：{}。",
        "stamp": "檔名 IMG_{}。",
        "handle": "圖片作者：{}。",
    },
}


def plant(page: Page, rng: Random) -> Page:
    """``page`` with one to three lines of personal data and one or two lookalikes."""
    kinds = rng.sample(_BY_LANGUAGE[page.language], rng.randrange(1, 4))
    kinds = list(dict.fromkeys(kinds))
    strings = [PERSONAL[kind](rng) for kind in kinds]
    lines = [
        rng.choice(_LINES[page.language][kind.split("_")[0] if "phone" in kind else kind]).format(
            string
        )
        for kind, string in zip(kinds, strings, strict=True)
    ]
    names = rng.sample(sorted(LOOKALIKES), rng.randrange(1, 3))
    decoys = [LOOKALIKES[name](rng) for name in names]
    lines += [
        _LOOKALIKE_LINES[page.language][name].format(decoy)
        for name, decoy in zip(names, decoys, strict=True)
    ]
    rng.shuffle(lines)
    return replace(
        page,
        blocks=(*page.blocks, *(Block("paragraph", line) for line in lines)),
        pii=tuple(strings),
        pii_kinds=tuple(kinds),
        not_pii=tuple(decoys),
    )
