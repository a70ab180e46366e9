"""Text to verdict: secrets, unsafe text, prompt injection, poisoned pages; code to a sandbox."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fledge.core.lazy import facade

if TYPE_CHECKING:
    from fledge.guard.exam import ExamResult as ExamResult
    from fledge.guard.exam import run_tests as run_tests
    from fledge.guard.injection import injection_verdict as injection_verdict
    from fledge.guard.limits import SandboxLimits as SandboxLimits
    from fledge.guard.poison import poison_verdict as poison_verdict
    from fledge.guard.sandbox import choose_sandbox as choose_sandbox
    from fledge.guard.secrets import find_secrets as find_secrets
    from fledge.guard.secrets import secret_verdict as secret_verdict
    from fledge.guard.unsafe import unsafe_verdict as unsafe_verdict

__all__ = [
    "ExamResult",
    "SandboxLimits",
    "choose_sandbox",
    "find_secrets",
    "injection_verdict",
    "poison_verdict",
    "run_tests",
    "secret_verdict",
    "unsafe_verdict",
]
__getattr__ = facade(
    __name__,
    {
        "ExamResult": "exam",
        "SandboxLimits": "limits",
        "choose_sandbox": "sandbox",
        "find_secrets": "secrets",
        "injection_verdict": "injection",
        "poison_verdict": "poison",
        "run_tests": "exam",
        "secret_verdict": "secrets",
        "unsafe_verdict": "unsafe",
    },
)
