"""Text to verdict: secrets, unsafe text, prompt injection, poisoned pages.  Pure functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fledge.core.lazy import facade

if TYPE_CHECKING:
    from fledge.guard.injection import injection_verdict as injection_verdict
    from fledge.guard.poison import poison_verdict as poison_verdict
    from fledge.guard.secrets import find_secrets as find_secrets
    from fledge.guard.secrets import secret_verdict as secret_verdict
    from fledge.guard.unsafe import unsafe_verdict as unsafe_verdict

__all__ = [
    "find_secrets",
    "injection_verdict",
    "poison_verdict",
    "secret_verdict",
    "unsafe_verdict",
]
__getattr__ = facade(
    __name__,
    {
        "find_secrets": "secrets",
        "injection_verdict": "injection",
        "poison_verdict": "poison",
        "secret_verdict": "secrets",
        "unsafe_verdict": "unsafe",
    },
)
