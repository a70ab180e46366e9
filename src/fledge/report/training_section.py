"""How the model learnt: curves of every stage that trained, and what went wrong on the way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fledge.report.gather import RunFiles, StageFiles
from fledge.report.html import Html, Number, element, join, table, term
from fledge.report.svg import Event, Series, line_chart, smooth
from fledge.report.words import CURVES, STAGES, count, duration, size

TRAINING = ("pretrain", "sft", "honesty", "reward", "dpo", "grpo", "ppo")
HELD_OUT = {
    "loss": ("Held-out conversations or pairs, loss", "留出数据的损失"),
    "accuracy": ("Held-out pairs, rightly judged", "留出偏好对的准确率"),
    "prefers": ("Held-out pairs, likelier a token", "留出偏好对，更可能的回答"),
    "logp_chosen": ("Chosen answers, log-probability", "优选回答的对数概率"),
    "logp_rejected": ("Rejected answers, log-probability", "劣选回答的对数概率"),
    "bits_per_byte": ("Held-out text, bits per byte", "留出文本，每字节比特数"),
}
"""Figures measured before and after a checkpoint is trained on: key -> label, in Chinese."""

SAMPLED = 4
"""Steps whose samples are shown."""

PREFERENCES = (
    "accuracy",
    "margin",
    "reward_chosen",
    "reward_rejected",
    "logp_chosen",
    "logp_rejected",
)
"""Curves of the stages that learn from preferences."""

MOST_SPIKES = 12
"""Rows of the table of skipped batches."""

Point = tuple[float, float]
Rows = Sequence[dict[str, Any]]


def training_section(run: RunFiles) -> Html | None:
    """Curves of every stage that trained."""
    stages = [stage for name in TRAINING if (stage := run.stage(name))]
    blocks = [block for stage in stages if (block := _training(stage))]
    return join(blocks) if blocks else None


def _training(stage: StageFiles) -> Html | None:
    losses, measured = stage.rows("loss.jsonl"), stage.rows("logs/metrics.jsonl")
    if not losses:
        return None
    spikes = stage.rows("logs/spikes.jsonl")
    events = [Event(float(row["step"]), _what(row)) for row in spikes if _is_number(row, "step")]
    validation = stage.rows("validation.jsonl")
    charts = [_loss_chart(losses, validation, events), *_validation_chart(validation)]
    for key in PREFERENCES:
        charts += _preference_chart(measured, validation, key)
    for key in ("lr", "grad_norm", "tokens_per_second", "mfu"):
        charts += _measured_chart(measured, key, events)
    return join(
        element("h3", term(*STAGES.get(stage.name, (stage.name, "")))),
        element("p", _facts(stage, losses, measured), class_="quiet"),
        _before_and_after(stage),
        element("div", charts, class_="charts"),
        _sample_table(stage.rows("samples.jsonl")),
        _spike_table(spikes),
    )


def _before_and_after(stage: StageFiles) -> Html | None:
    """Held-out figures of the checkpoint that was trained on, and of what it became."""
    figures = stage.manifest.get("figures", {})
    rows = []
    for key, label in HELD_OUT.items():
        after = figures.get(f"{stage.name}.{key}")
        before = figures.get(f"{stage.name}.{key}_before")
        if isinstance(before, int | float) and isinstance(after, int | float) and before:
            change = f"{100 * (after / before - 1):+.1f} %"
            rows.append((term(*label), f"{before:.4f}", f"{after:.4f}", change))
    if not rows:
        return None
    heads = ("", Number("before"), Number("after"), Number("change"))
    return table(heads, rows)


def _loss_chart(losses: Rows, validation: Rows, events: Sequence[Event]) -> Html:
    raw = _points(losses, "step", "loss")
    series = [
        Series(name="each step", points=raw, colour=1, faint=True),
        Series(name="training, running mean", points=smooth(raw, max(1, len(raw) // 40))),
    ]
    held_out = _points(validation, "step", "loss")
    if held_out:
        series.append(Series(name="held out", points=held_out, colour=2, dots=True))
    return _chart("loss", series, events)


def _validation_chart(validation: Rows) -> list[Html]:
    points = _points(validation, "step", "bits_per_byte")
    if not points:
        return []
    series = [Series(name="held-out text", points=points, colour=2, dots=True)]
    return [_chart("bits_per_byte", series)]


def _preference_chart(measured: Rows, validation: Rows, key: str) -> list[Html]:
    """A figure of pairs: of those that are learnt, and of those held out."""
    series = [
        Series(name="training", points=_points(measured, "step", key), colour=3),
        Series(name="held out", points=_points(validation, "step", key), colour=2, dots=True),
    ]
    drawn = [one for one in series if one.points]
    return [_chart(key, drawn)] if drawn else []


def _measured_chart(measured: Rows, key: str, events: Sequence[Event]) -> list[Html]:
    scale = 100 if key == "mfu" else 1
    points = [(x, scale * y) for x, y in _points(measured, "step", key)]
    if not points:
        return []
    series = [Series(name=CURVES[key][0], points=points, colour=3)]
    return [_chart(key, series, events if key == "grad_norm" else (), zero=True)]


def _chart(
    key: str, series: Sequence[Series], events: Sequence[Event] = (), *, zero: bool = False
) -> Html:
    title, chinese, label = CURVES[key]
    return line_chart(
        series,
        x_label="steps",
        y_label=label,
        title=title,
        chinese=chinese,
        zero=zero,
        events=events,
    )


def _spike_table(spikes: Rows) -> Html | None:
    """Batches that were skipped, the first ones, and what was done about them."""
    if not spikes:
        return None
    heads = (Number("step"), Number("batch"), "what was seen", "what was done")
    rows = [(row.get("step"), row.get("batch"), row.get("reason"), _what(row)) for row in spikes]
    more = len(rows) - MOST_SPIKES
    return join(
        element("h3", term("Batches passed over", "跳过的批次")),
        element("p", "A step whose loss is no number or far above the usual does not reach the"
                " weights. The batches are kept in logs/spikes.", class_="quiet"),
        table(heads, rows[:MOST_SPIKES]),
        element("p", f"and {count(more)} more", class_="quiet") if more > 0 else None,
    )  # fmt: skip


def _sample_table(samples: Rows) -> Html | None:
    """What the model made of the same texts as it learnt, at some of the steps."""
    if not samples:
        return None
    steps = sorted({row["step"] for row in samples if _is_number(row, "step")})
    last = len(steps) - 1
    shown = {steps[round(last * part / (SAMPLED - 1))] for part in range(SAMPLED)}
    rows = [
        (row["prompt"], row["step"], row["text"])
        for row in sorted(samples, key=lambda row: (row["prompt"], row["step"]))
        if row["step"] in shown
    ]
    return join(
        element("h3", term("What it wrote as it learnt", "学习过程中的输出")),
        table(("text", Number("step"), "continued"), rows),
    )


def _what(row: dict[str, Any]) -> str:
    back = row.get("rewound_to")
    return "batch skipped" if back is None else f"batch skipped, back to step {back}"


def _points(rows: Rows, x: str, y: str) -> list[Point]:
    return [(float(r[x]), float(r[y])) for r in rows if _is_number(r, x) and _is_number(r, y)]


def _is_number(row: dict[str, Any], key: str) -> bool:
    return isinstance(row.get(key), int | float)


def _facts(stage: StageFiles, losses: Rows, measured: Rows) -> str:
    """What was trained, on how much, how fast."""
    parts = []
    if stage.count("parameters"):
        parts.append(f"{count(stage.count('parameters'))} parameters")
    tokens = int(losses[-1].get("tokens", 0))
    parts.append(f"{count(losses[-1].get('step', len(losses)))} steps")
    if tokens:
        parts.append(f"{count(tokens)} tokens")
    if stage.seconds:
        parts.append(duration(stage.seconds))
        if tokens:
            parts.append(f"{count(tokens / stage.seconds)} tokens a second, all included")
    waiting = [share for _, share in _points(measured, "step", "waiting")]
    if waiting:
        parts.append(f"{100 * sum(waiting) / len(waiting):.1f} % of it waiting for data")
    if stage.manifest.get("peak_memory_bytes"):
        parts.append(f"peak memory {size(stage.manifest['peak_memory_bytes'])}")
    if not stage.manifest.get("finished"):
        parts.append("not finished")
    return " · ".join(parts)
