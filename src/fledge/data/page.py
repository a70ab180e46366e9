"""A text measured once, for all quality rules."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fledge.metrics.curation import tokens

_CJK = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]")


@dataclass(frozen=True, kw_only=True)
class Page:
    """A text, measured once for all rules."""

    text: str
    language: str
    web: bool
    words: list[str]
    lines: list[str]
    cjk: int
    """How many of ``words`` are Chinese, Japanese or Korean characters."""

    link_share: float = 0.0
    links: int = 0

    @classmethod
    def of(
        cls, text: str, language: str, *, web: bool, link_share: float = 0.0, links: int = 0
    ) -> Page:
        return cls(
            text=text,
            language=language,
            web=web,
            words=tokens(text),
            lines=[line for line in text.split("\n") if line.strip()],
            cjk=len(_CJK.findall(text)),
            link_share=link_share,
            links=links,
        )
