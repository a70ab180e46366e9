"""Secrets in a text: keys and tokens with a known prefix, private keys, labelled passwords."""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import NamedTuple

from fledge.core.types import Verdict


class Hit(NamedTuple):
    """Characters [start, end) of a text that are of ``kind``."""

    start: int
    end: int
    kind: str


_PREFIXED = re.compile(
    r"\b(?:"
    r"(?:AKIA|ASIA)[A-Z0-9]{16}"  # Amazon
    r"|gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{40,}"
    r"|glpat-[A-Za-z0-9_-]{18,}"  # GitLab
    r"|xox[abeoprs]-[A-Za-z0-9-]{10,}"  # Slack
    r"|[sprk]{2}_(?:live|test)_[A-Za-z0-9]{16,}|whsec_[A-Za-z0-9]{20,}"  # Stripe
    r"|sk-(?:proj-|ant-|or-|svcacct-)?[A-Za-z0-9_-]{20,}"  # model providers
    r"|AIza[A-Za-z0-9_-]{35}|ya29\.[A-Za-z0-9_-]{20,}"  # Google
    r"|npm_[A-Za-z0-9]{30,}|pypi-[A-Za-z0-9_-]{30,}|hf_[A-Za-z0-9]{30,}|dop_v1_[a-f0-9]{40,}"
    r"|SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}"  # SendGrid
    r"|eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}"  # JSON Web Token
    r")(?![A-Za-z0-9])",
    re.ASCII,
)
_PREFIXES = (
    *("AKIA", "ASIA", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "xox"),
    *("_live_", "_test_", "whsec_", "sk-", "AIza", "ya29.", "npm_", "pypi-", "hf_", "dop_v1_"),
    *("SG.", "eyJ"),
)
_LABELS = (
    *("passw", "pwd", "passphrase", "secret", "key", "token"),
    *("密码", "密碼", "口令", "密钥", "密鑰"),
)
_PRIVATE_KEY = re.compile(
    r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----.*?"
    r"(?:-----END (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----|\Z)",
    re.DOTALL,
)
_IN_URL = re.compile(
    r"\b[a-z][a-z0-9+.-]{1,15}://[^\s/:@]{1,64}:([^\s/@]{3,128})@[\w.-]+", re.ASCII
)
_LABELLED = re.compile(
    r"(?:(?<![a-z])(?:password|passwd|pwd|passphrase|secret(?:[_ -]?(?:access)?[_ -]?key)?"
    r"|api[_ -]?key|api[_ -]?token|auth[_ -]?token|access[_ -]?(?:token|key)|client[_ -]?secret"
    r"|private[_ -]?key|token)(?![a-z])|密码|密碼|口令|密钥|密鑰)"
    r"[\"'”」]?\s*(?:[:=：]|=>|is\b|是|为|為)\s*[\"'“「]?([^\s\"'“”「」，。；、<>]{6,200})",
    re.IGNORECASE,
)
_EXAMPLE = re.compile(
    r"(?i)^(?:your|my|the|example|changeme|placeholder|none|null|true|false|string|required|x{3,}"
    r"|\*{3,}|\.{3,}|<|\$\{|\$\(|%|\{)"
)


def find_secrets(text: str) -> list[Hit]:
    """Secrets in ``text``, in order, without overlaps."""
    hits: list[Hit] = []
    if any(prefix in text for prefix in _PREFIXES):
        hits += [Hit(match.start(), match.end(), "SECRET") for match in _PREFIXED.finditer(text)]
    if "PRIVATE KEY" in text:
        hits += [Hit(match.start(), match.end(), "SECRET") for match in _PRIVATE_KEY.finditer(text)]
    if "://" in text:
        hits += [Hit(match.start(1), match.end(1), "SECRET") for match in _IN_URL.finditer(text)]
    lowered = text.lower()
    labelled = any(label in lowered for label in _LABELS)
    for match in _LABELLED.finditer(text) if labelled else ():
        quoted = match[0][match.start(1) - match.start() - 1] in "\"'“「"
        value = match[1] if quoted else match[1].rstrip(".,;:!?)]}")
        if _is_secret(value):
            hits.append(Hit(match.start(1), match.start(1) + len(value), "SECRET"))
    return disjoint(hits)


def disjoint(hits: list[Hit]) -> list[Hit]:
    """``hits`` in order; of two that overlap the one that starts first, then the longer."""
    kept: list[Hit] = []
    for hit in sorted(hits, key=lambda hit: (hit.start, -hit.end)):
        if not kept or hit.start >= kept[-1].end:
            kept.append(hit)
    return kept


def _is_secret(value: str) -> bool:
    """Whether a labelled value looks random rather than like a word or an example."""
    if len(value) < 6 or _EXAMPLE.match(value):
        return False
    kinds = sum(bool(re.search(pattern, value)) for pattern in ("[a-z]", "[A-Z]", r"\d", r"[^\w]"))
    return (kinds >= 3 or (kinds >= 2 and bool(re.search(r"\d", value)))) and entropy(value) >= 2.3


def entropy(text: str) -> float:
    """Shannon entropy of the characters, in bits per character."""
    counts = Counter(text)
    total = len(text)
    return -sum(count / total * math.log2(count / total) for count in counts.values())


def secret_verdict(text: str, hits: list[Hit] | None = None) -> Verdict | None:
    """A verdict on a page that is leaked secrets and little else.

    That is at least two secrets, and fewer than 40 words (or 80 Chinese characters) to each.
    """
    found = find_secrets(text) if hits is None else hits
    if len(found) < 2:
        return None
    rest = text
    for hit in reversed(found):
        rest = rest[: hit.start] + " " + rest[hit.end :]
    words = len(re.findall(r"[A-Za-z]{2,}", rest)) + len(re.findall("[\u4e00-\u9fff]", rest)) / 2
    if words / len(found) >= 40:
        return None
    return Verdict(reason="secret.leak", evidence=f"{len(found)} secrets in {words:.0f} words")
