"""How the model reads and how it learnt: tokenizer view and training curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fledge.report.gather import RunFiles, StageFiles
from fledge.report.html import Html, element, join, term
from fledge.report.svg import Series, bars, line_chart, smooth
from fledge.report.words import STAGES, count, duration, language, size

TRAINING = ("pretrain", "sft", "honesty", "dpo", "ppo", "grpo")
Point = tuple[float, float]


def tokenizer_section(run: RunFiles) -> Html | None:
    """Bytes per token and a few sentences cut into their tokens."""
    stage = run.stage("tokenizer")
    report = stage.json("report.json") if stage else None
    if not isinstance(report, dict):
        return None
    density = [
        (language(code), value, f"{value:.2f}")
        for code, value in report.get("bytes_per_token", {}).items()
    ]
    return join(
        element("p", f"Byte-level BPE with {count(report.get('vocab_size', 0))} tokens."),
        element("h3", term("Bytes per token on held-out text, more is better", "每词元字节数")),
        bars(density, colour=3),
        element("h3", term("How it cuts text", "切分示例")),
        element("p", "One colour, one token. A narrow block is a further token of the character"
                " before it: its bytes are not yet one token.", class_="quiet"),
        [_example(example) for example in report.get("examples", [])],
    )  # fmt: skip


def _example(example: dict[str, Any]) -> Html:
    """A text, its tokens in turning colours; further tokens of one character are narrow blocks."""
    text, pieces, end = str(example["text"]), [], 0
    for number, (token, start, stop) in enumerate(example["tokens"]):
        if start > end:
            pieces.append(text[end:start])
        shown = text[max(start, end) : stop]
        look = f"token t{number % 5}" + ("" if shown else " part")
        visible = shown.replace("\n", "⏎\n")
        pieces.append(element("span", visible, class_=look, title=f"token {token}"))
        end = max(end, stop)
    note = f"{language(example['lang'])}: {len(example['tokens'])} tokens"
    note += f", {len(text.encode('utf-8', 'replace'))} bytes"
    return element(
        "figure",
        element("figcaption", note),
        element("div", pieces, class_="tokens", lang=example["lang"]),
    )


def training_section(run: RunFiles) -> Html | None:
    """Curves of every stage that trained."""
    stages = [stage for name in TRAINING if (stage := run.stage(name))]
    blocks = [block for stage in stages if (block := _training(stage))]
    return join(blocks) if blocks else None


def _training(stage: StageFiles) -> Html | None:
    losses, measured = stage.rows("loss.jsonl"), stage.rows("logs/metrics.jsonl")
    if not losses:
        return None
    validation = stage.rows("validation.jsonl")
    english, chinese = STAGES.get(stage.name, (stage.name, ""))
    charts = [_loss_chart(losses, validation), *_validation_charts(validation)]
    for key, title, label in (
        ("lr", "Learning rate", "peak rate of the matrices"),
        ("tokens_per_second", "Speed", "tokens per second"),
        ("grad_norm", "Gradient norm", "before clipping"),
    ):
        points = _points(measured, "step", key)
        if points:
            series = [Series(name=title, points=points, colour=3)]
            charts.append(
                line_chart(series, x_label="steps", y_label=label, title=title, zero=True)
            )
    return join(
        element("h3", term(english, chinese)),
        element("p", _facts(stage, losses), class_="quiet"),
        element("div", charts, class_="charts"),
    )


def _loss_chart(losses: Sequence[dict[str, Any]], validation: Sequence[dict[str, Any]]) -> Html:
    raw = _points(losses, "step", "loss")
    series = [
        Series(name="each step", points=raw, colour=1, faint=True),
        Series(name="training, running mean", points=smooth(raw, max(1, len(raw) // 40))),
    ]
    held_out = _points(validation, "step", "loss")
    if held_out:
        series.append(Series(name="held out", points=held_out, colour=2, dots=True))
    return line_chart(series, x_label="steps", y_label="nats per target token", title="Loss")


def _validation_charts(validation: Sequence[dict[str, Any]]) -> list[Html]:
    points = _points(validation, "step", "bits_per_byte")
    if not points:
        return []
    series = [Series(name="held-out text", points=points, colour=2, dots=True)]
    return [line_chart(series, x_label="steps", y_label="bits per byte", title="Held-out text")]


def _points(rows: Sequence[dict[str, Any]], x: str, y: str) -> list[Point]:
    return [
        (float(row[x]), float(row[y]))
        for row in rows
        if isinstance(row.get(x), int | float) and isinstance(row.get(y), int | float)
    ]


def _facts(stage: StageFiles, losses: Sequence[dict[str, Any]]) -> str:
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
    if stage.manifest.get("peak_memory_bytes"):
        parts.append(f"peak memory {size(stage.manifest['peak_memory_bytes'])}")
    if not stage.manifest.get("finished"):
        parts.append("not finished")
    return " · ".join(parts)
