"""Quality rules: each looks at one page and returns a verdict, or None to keep it.

After Gopher (arXiv:2112.11446, table A1), C4 (arXiv:1910.10683) and FineWeb (arXiv:2406.17557),
with Chinese, Japanese and Korean characters counted as tokens.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator

from fledge.core.types import Verdict
from fledge.data.config import QualityConfig
from fledge.data.page import Page
from fledge.data.spam import address_list, gibberish, source_code, spam_words

_BULLET = re.compile(r"\s*(?:[-*•●▪‣◦·]|\d{1,3}[.)])\s")
_LOREM = re.compile(r"lorem ipsum|dolor sit amet", re.IGNORECASE)
_ERROR_PAGE = re.compile(
    r"\b(?:404|403|500|502|503)\b.{0,40}(?:not found|error|forbidden)|page (?:you requested )?"
    r"(?:could not be|cannot be|was not|not) found|(?:enable|turn on|requires?) javascript"
    r"|access denied|account has been suspended|verify you are (?:a )?human|index of /"
    r"|under construction|[页頁]面不存在|(?:启用|啟用|[开開][启啟]) ?JavaScript"
    r"|[访訪][问問]被拒|存取被拒"
    r"|[账帳][号號戶户]已被?停用|找不到(?:[该該您你])?(?:[页頁]面|[网網][页頁])",
    re.IGNORECASE,
)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_FUNCTION_EN = _words(
    "the be to of and that have with a in is was it for on as at by from are this an or"
)
_FUNCTION_ZH = frozenset("的是在了和有不为為以于於之与與及其这這那也而由从從到")
_STOP = _FUNCTION_EN | _words(
    "he she they we you i his her their its were been has had not but which one two who will would "
    "can could may all more when where there than then so if into also after before over under "
    "der die das und de la le les et en el los des du un une im von zu den mit"
)


Rule = Callable[[Page, QualityConfig], Verdict | None]


def quality_verdict(page: Page, config: QualityConfig) -> Verdict | None:
    """The first verdict of ``RULES``, or None."""
    return next((verdict for rule in RULES if (verdict := rule(page, config))), None)


def placeholder(page: Page, config: QualityConfig) -> Verdict | None:
    """Error pages, filler text, pages that only ask for JavaScript."""
    if not page.web:
        return None
    if len(_LOREM.findall(page.text)) >= 2 or (_LOREM.search(page.text) and len(page.words) < 300):
        return Verdict(reason="quality.placeholder", evidence="lorem ipsum")
    found = _ERROR_PAGE.search(page.text)
    if found and _length(page, config) < 80:
        return Verdict(reason="quality.placeholder", evidence=found[0])
    return None


def too_short(page: Page, config: QualityConfig) -> Verdict | None:
    """Too few words to learn from."""
    length = _length(page, config)
    least = config.min_words if page.web else config.min_words_text
    if length < least:
        return Verdict(reason="quality.too_short", evidence=f"{length:.0f} words, least {least:g}")
    return None


def _length(page: Page, config: QualityConfig) -> float:
    return len(page.words) - page.cjk + config.cjk_word * page.cjk


def word_length(page: Page, config: QualityConfig) -> Verdict | None:
    """Alphabetic words too short or too long on average: tables of symbols, encoded data."""
    words = [word for word in page.words if word.isascii() and word.isalpha()]
    if len(words) < 40 or page.cjk > len(words):
        return None
    mean = sum(map(len, words)) / len(words)
    if not config.min_word_length <= mean <= config.max_word_length:
        return Verdict(reason="quality.word_length", evidence=f"mean word length {mean:.1f}")
    return None


def letters(page: Page, config: QualityConfig) -> Verdict | None:
    """Too few letters: numbers, symbols, drawing characters."""
    solid = len("".join(page.text.split()))
    if solid < 40:
        return None
    share = sum(len(word) for word in page.words if not word.isdigit()) / solid
    least = config.min_letter_share * (1.0 if page.web else TEXT_LENIENCY)
    if share < least:
        return Verdict(reason="quality.letters", evidence=f"{share:.2f} of the characters")
    return None


TEXT_LENIENCY = 0.6
"""Plain text may have tables: it needs only this part of a web page's share of letters."""


def list_only(page: Page, config: QualityConfig) -> Verdict | None:
    """A web page of bullets, or of lines cut off by an ellipsis (teasers)."""
    if not page.web or len(page.lines) < 8:
        return None
    bullets = sum(bool(_BULLET.match(line)) for line in page.lines) / len(page.lines)
    if bullets > config.max_bullet_share:
        return Verdict(reason="quality.list", evidence=f"{bullets:.2f} of the lines are bullets")
    cut = sum(line.rstrip().endswith(("...", "…")) for line in page.lines) / len(page.lines)
    if cut > config.max_ellipsis_share:
        return Verdict(reason="quality.teasers", evidence=f"{cut:.2f} of the lines are cut off")
    return None


def function_words(page: Page, config: QualityConfig) -> Verdict | None:
    """A web page in English or Chinese without the words that hold sentences together."""
    if not page.web or not page.language.startswith(("en", "zh")):
        return None
    found = set(page.words) & (_FUNCTION_EN if page.language == "en" else _FUNCTION_ZH)
    if len(found) < config.min_function_words:
        return Verdict(reason="quality.function_words", evidence=f"only {len(found)} of them")
    return None


def repeated_lines(page: Page, config: QualityConfig) -> Verdict | None:
    """The same lines again and again."""
    total = sum(map(len, page.lines))
    if len(page.lines) < 4 or not total:
        return None
    seen: set[str] = set()
    again = 0
    for line in page.lines:
        again += len(line) if line in seen and len(line) > 12 else 0
        seen.add(line)
    if again / total > config.max_duplicate_lines:
        return Verdict(
            reason="quality.repetition", evidence=f"{again / total:.2f} in repeated lines"
        )
    return None


def repeated_ngrams(page: Page, config: QualityConfig) -> Verdict | None:
    """The same phrases again and again: repeated 8-grams, or text that compresses too well."""
    if len(page.words) < 60:
        return None
    n = 16 if 2 * page.cjk > len(page.words) else 8
    share = repeated_share(page.words, n)
    most = config.max_duplicate_ngrams if page.web else config.max_duplicate_ngrams_text
    if share > most:
        return Verdict(reason="quality.repetition", evidence=f"{share:.2f} in repeated {n}-grams")
    data = page.text.encode("utf-8", "replace")[:100_000]
    ratio = len(zlib.compress(data, 6)) / len(data)
    if len(data) >= 1000 and ratio < config.min_compressed:
        return Verdict(reason="quality.repetition", evidence=f"compresses to {ratio:.2f}")
    return None


def repeated_share(words: list[str], n: int) -> float:
    """Share of tokens that lie in an n-gram seen before in the text."""
    if len(words) < n:
        return 0.0
    seen: set[tuple[str, ...]] = set()
    covered, until = 0, 0
    for start in range(len(words) - n + 1):
        gram = tuple(words[start : start + n])
        if gram in seen:
            covered += start + n - max(until, start)
            until = start + n
        else:
            seen.add(gram)
    return covered / len(words)


def stuffing(page: Page, config: QualityConfig) -> Verdict | None:
    """A few content words that make up far too much of the page."""
    if not page.web or len(page.words) < 40:
        return None
    words = list(_content(page))
    counts = Counter(words).most_common(3)
    if not counts:
        return None
    if counts[0][1] >= 6 and counts[0][1] / len(page.words) > config.max_top_word:
        named = ", ".join(f"{word!r} {count}×" for word, count in counts)
        return Verdict(reason="quality.stuffing", evidence=f"{named} in {len(page.words)} words")
    return None


def _content(page: Page) -> Iterator[str]:
    """Content words; for Chinese, pairs of neighbouring characters that are no function words."""
    if 2 * page.cjk < len(page.words):
        yield from (word for word in page.words if len(word) > 2 and word not in _STOP)
        return
    for left, right in zip(page.words, page.words[1:], strict=False):
        if len(left) == len(right) == 1 and not {left, right} & _FUNCTION_ZH:
            yield left + right


RULES: tuple[Rule, ...] = (
    placeholder,
    too_short,
    source_code,
    gibberish,
    address_list,
    spam_words,
    word_length,
    letters,
    list_only,
    function_words,
    repeated_lines,
    repeated_ngrams,
    stuffing,
)
"""In the order they are asked."""
