"""Pieces of dropped pages for people to look at: short, without secrets and personal data."""

from __future__ import annotations

from fledge.data.pii import find_pii, mask
from fledge.guard.secrets import Hit, find_secrets

SAMPLE_CHARACTERS = 160
HEAD_CHARACTERS = 20_000
"""Characters searched: far more than shown, so that the cut goes through nothing private."""

_TELLING = 4
"""Characters of something private that a cut must not leave at the end."""


def shown(text: str) -> str:
    """The beginning of a text as a report may repeat it."""
    head = text[:HEAD_CHARACTERS]
    masked, _ = mask(head, _private(head))
    return " ".join(masked[: 2 * SAMPLE_CHARACTERS].split())[:SAMPLE_CHARACTERS]


def shown_evidence(evidence: str, text: str) -> str:
    """Evidence as a report may repeat it; it may be cut out of ``text``, through anything."""
    head = text[:HEAD_CHARACTERS]
    for hit in _private(head):
        original = head[hit.start : hit.end]
        evidence = evidence.replace(original, f"<{hit.kind}>")
        for size in range(len(original) - 1, _TELLING - 1, -1):
            if evidence.endswith(original[:size]):
                evidence = evidence[:-size] + f"<{hit.kind}>"
                break
    return mask(evidence, _private(evidence))[0][:SAMPLE_CHARACTERS]


def _private(text: str) -> list[Hit]:
    secrets = find_secrets(text)
    return sorted([*secrets, *find_pii(text, secrets)])
