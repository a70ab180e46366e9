"""``fledge doctor``: what this machine can do, and what is missing."""

from __future__ import annotations

import importlib.util
import json
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path

import click

from fledge.core.compiler import find_compiler
from fledge.core.run import memory_bytes, usable_cores, versions

_SIMD = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "avx_vnni", "amx_bf16", "asimd", "sve")
_EXTRAS = (
    ("transformers", "checking exported checkpoints against a peer"),
    ("openai", "calling the server with the OpenAI client"),
    ("tensorboard", "viewing the TensorBoard events of a training run"),
)


@dataclass(frozen=True)
class Finding:
    """One line of the report; ``remedy`` is empty when nothing is missing."""

    name: str
    value: str
    ok: bool = True
    remedy: str = ""


def findings() -> list[Finding]:
    """Everything worth knowing before a run."""
    return [
        Finding("python", platform.python_version()),
        *(Finding(name, version) for name, version in versions().items() if name != "python"),
        Finding("system", f"{platform.system()} {platform.machine()}"),
        _cores(),
        Finding("SIMD", " ".join(_simd()) or "unknown"),
        _memory(),
        _disk(),
        *_accelerators(),
        _compiler(),
        *_sandboxes(),
        *(_extra(name, purpose) for name, purpose in _EXTRAS),
    ]


def _cores() -> Finding:
    cores = usable_cores()
    return Finding("cores", str(cores), cores >= 2, "" if cores >= 2 else "the demo wants two")


def _memory() -> Finding:
    size = memory_bytes()
    enough = size == 0 or size >= 6e9
    return Finding(
        "memory", f"{size / 1e9:.1f} GB", enough, "" if enough else "the demo wants 6 GB"
    )


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free
    enough = free >= 2e9
    return Finding(
        "free disk here", f"{free / 1e9:.1f} GB", enough, "" if enough else "free 2 GB for the demo"
    )


def _simd() -> list[str]:
    """The CPU's vector extensions that matter here, as Linux or macOS name them."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        words = set(cpuinfo.read_text(encoding="utf-8", errors="replace").split())
        return [name for name in _SIMD if name in words]
    return ["neon"] if platform.machine() == "arm64" else []


def _accelerators() -> list[Finding]:
    from fledge.train.hardware import describe_torch

    rows = describe_torch()
    return [Finding(name, value) for name, value in rows.items()]


def _compiler() -> Finding:
    found = find_compiler()
    remedy = "" if found else "install a C++ compiler: training runs uncompiled and slower"
    return Finding("C++ compiler", found or "none", bool(found), remedy)


def _sandboxes() -> list[Finding]:
    """Each kind, tried with a line of code; one that works is enough."""
    from fledge.guard.sandbox import KINDS, why_not

    reasons = {name: why_not(name) for name in KINDS}
    enough = "" in reasons.values()
    return [
        Finding(f"sandbox {name}", "does not work" if reason else "works", enough, reason)
        for name, reason in reasons.items()
    ]


def _extra(name: str, purpose: str) -> Finding:
    present = importlib.util.find_spec(name) is not None
    return Finding(
        name,
        "installed" if present else "not installed (optional)",
        True,
        "" if present else f"pip install {name}, for {purpose}",
    )


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def command(as_json: bool) -> None:
    """Show what this machine can do and what is missing."""
    for row in findings():
        if as_json:
            click.echo(json.dumps(row.__dict__, ensure_ascii=False))
        else:
            mark = "ok " if row.ok else "!! "
            note = f"  ({row.remedy})" if row.remedy else ""
            click.echo(f"{mark} {row.name:18} {row.value}{note}")
