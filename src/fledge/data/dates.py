"""A date as somebody wrote it to ISO 8601."""

from __future__ import annotations

import re


def iso_date(text: str) -> str:
    """The date in ``text`` as ISO 8601, or empty."""
    match = re.match(r"(\d{4})[-/.]?(\d{2})[-/.]?(\d{2})(?:\D|$)", text)
    if match is None or not ("01" <= match[2] <= "12" and "01" <= match[3] <= "31"):
        return ""
    return f"{match[1]}-{match[2]}-{match[3]}"
