"""Where the run comes from: time per stage, machine, versions, configs, digests, all figures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fledge.report.gather import DONE, RunFiles, StageFiles
from fledge.report.html import Html, Number, element, join, table, term
from fledge.report.svg import bars
from fledge.report.words import STAGES, duration, name, percent, size


def timings_section(run: RunFiles) -> Html | None:
    """A bar per finished stage, and its peak memory."""
    if not run.finished:
        return None
    total = sum(stage.seconds for stage in run.finished) or 1.0
    rows = [
        (
            STAGES.get(stage.name, (name(stage.name), ""))[0],
            stage.seconds,
            f"{duration(stage.seconds)} · {percent(stage.seconds / total, 0)}",
        )
        for stage in run.finished
    ]
    note = "Peak memory is that of the process up to the end of the stage."
    heads = ("Stage", Number("Seconds"), Number("Peak memory"), "Finished")
    body = [
        (
            stage.name,
            f"{stage.seconds:,.1f}",
            size(stage.manifest.get("peak_memory_bytes", 0)),
            stage.manifest.get("finished", ""),
        )
        for stage in run.finished
    ]
    return join(
        bars(rows, colour=1),
        element("details", element("summary", "Numbers"), table(heads, body),
                element("p", note, class_="quiet")),
    )  # fmt: skip


def origin_section(run: RunFiles, figures: Mapping[str, float]) -> Html:
    """Machine and versions, configs and digests per stage, every figure."""
    begun = [stage for stage in run.stages if stage.manifest]
    return join(
        _machines(run),
        element("h3", term("Configs and digests", "配置与摘要")),
        [_stage(stage) for stage in begun],
        element("h3", term("All figures", "全部指标")),
        element("details", element("summary", f"{len(figures)} figures of report.json"),
                table(("Figure", Number("Value")),
                      [(key, f"{figures[key]:,.6g}") for key in sorted(figures)])),
    )  # fmt: skip


def _machines(run: RunFiles) -> Html | None:
    """Machine, versions and commit; stages that ran elsewhere are told apart."""
    groups: dict[str, list[str]] = {}
    for stage in run.finished:
        about = {key: stage.manifest.get(key) for key in ("machine", "versions", "commit")}
        groups.setdefault(json.dumps(about, sort_keys=True), []).append(stage.name)
    return join(_machine(json.loads(text), names) for text, names in groups.items())


def _machine(about: Mapping[str, Any], stages: list[str]) -> Html:
    machine, versions = about.get("machine") or {}, about.get("versions") or {}
    rows = [
        ("Stages", ", ".join(stages)),
        (
            "Machine",
            f"{machine.get('system', '')} {machine.get('architecture', '')},"
            f" {machine.get('cores', '?')} cores, {size(machine.get('memory_bytes', 0))} memory",
        ),
        ("Versions", ", ".join(f"{package} {version}" for package, version in versions.items())),
        ("Commit", about.get("commit") or "unknown"),
    ]
    return table(("Made by", ""), rows)


def _stage(stage: StageFiles) -> Html:
    manifest = stage.manifest
    english, _ = STAGES.get(stage.name, (name(stage.name), ""))
    state = "" if stage.state == DONE else f" ({stage.state})"
    lines = [
        ("Key", manifest.get("key", "")),
        ("Digest of all outputs", manifest.get("digest", "")),
        *[(f"Input: {key}", value) for key, value in (manifest.get("inputs") or {}).items()],
    ]
    outputs = (manifest.get("outputs") or {}).items()
    config = json.dumps(manifest.get("config", {}), ensure_ascii=False, indent=2)
    return element(
        "details",
        element("summary", english, element("span", state, class_="quiet")),
        element("pre", config),
        table(("What", "SHA-256"), [(key, _digest(value)) for key, value in lines]),
        table(("Output", "SHA-256"), [(path, _digest(value)) for path, value in outputs])
        if outputs
        else None,
    )


def _digest(value: str) -> Html:
    return element("code", value)
