"""The top of the page: headline figures and the way from pages to the assistant."""

from __future__ import annotations

from collections.abc import Mapping

from fledge.report.gather import DONE, RunFiles, StageFiles
from fledge.report.html import Html, element, join, term
from fledge.report.words import STAGES, compact, count, duration, name, percent, rung, size

HEADLINES = (
    ("facts_en", "Facts in English", "英文事实", percent),
    ("facts_zh", "Facts in Chinese", "中文事实", percent),
    ("unanswerable", "Unanswerable declined", "正确拒答", percent),
    ("over_refusal", "Wrongly declined", "误拒", percent),
)

COUNTS = {
    "samples": ("bridges", "pages", "conversations", "questions"),
    "corpus": ("records", "documents", "dropped", "bytes"),
    "tokenizer": ("vocab_size",),
    "tokens": ("train_tokens", "train_documents", "validation_tokens"),
    "pretrain": ("parameters", "tokens", "steps"),
    "sft": ("trained", "conversations", "target_tokens", "steps"),
    "honesty": ("facts", "known", "unknown", "steps"),
    "reward": ("pairs", "trained", "held_out", "steps"),
    "dpo": ("pairs", "trained", "target_tokens", "steps"),
    "grpo": ("prompts", "rollouts", "target_tokens", "steps"),
    "ppo": ("prompts", "rollouts", "target_tokens", "steps"),
    "evals": ("rungs", "questions", "documents"),
    "ground": ("documents", "chunks", "bytes"),
}
"""Counts of the manifests that tell most about a stage."""

RATED = {"samples": "pages", "corpus": "records", "tokens": "train_tokens", "pretrain": "tokens"}
"""The count of a stage that is also shown per second."""

LONG = 9
"""Letters from which on a figure of a card is written smaller."""


def headline(run: RunFiles, figures: Mapping[str, float]) -> Html:
    """Cards with the figures of the last rung, text density, time and memory."""
    last = next((r for r in _rungs(run) if f"{r}.facts_en" in figures), None)
    cards = [
        _card(show(figures[f"{last}.{key}"]), english, chinese, f"after {rung(last)}")
        for key, english, chinese, show in HEADLINES
        if last and f"{last}.{key}" in figures
    ]
    held_out = figures.get("base.bits_per_byte", figures.get("pretrain.bits_per_byte"))
    if held_out is not None:
        value = f"{held_out:.3f}"
        cards.append(_card(value, "Bits per byte", "每字节比特数", "base model, held-out text"))
    finished = len(run.finished)
    cards.append(
        _card(duration(figures["seconds.total"]), "Time", "用时", f"{finished} stages finished")
    )
    if figures["peak_memory_bytes"]:
        cards.append(_card(size(figures["peak_memory_bytes"]), "Peak memory", "峰值内存", ""))
    return element("div", cards, class_="cards")


def pipeline(run: RunFiles) -> Html:
    """One box per stage: state, time, counts."""
    return element("ol", [_box(stage) for stage in run.stages], class_="pipeline")


def _rungs(run: RunFiles) -> list[str]:
    """Names of models' stages, highest first: documents that answer are no model."""
    models = [stage.name for stage in run.stages if stage.name != "ground"]
    return ["base" if name == "pretrain" else name for name in reversed(models)]


def _card(value: str, english: str, chinese: str, note: str) -> Html:
    return element(
        "div",
        element("div", value, class_="figure long" if len(value) > LONG else "figure"),
        element("div", term(english, chinese), class_="what"),
        element("div", note, class_="quiet"),
        class_="card",
    )


def _box(stage: StageFiles) -> Html:
    english, chinese = STAGES.get(stage.name, (name(stage.name), ""))
    note = stage.state
    if stage.state == DONE:
        note = duration(stage.seconds)
    counts = [key for key in COUNTS.get(stage.name, ()) if stage.count(key)]
    return element(
        "li",
        element("b", term(english, chinese)),
        element("span", note, class_="quiet"),
        element("span", join(_counted(stage, key) for key in counts), class_="counts"),
        class_=stage.state.replace(" ", "-"),
    )


def _counted(stage: StageFiles, key: str) -> Html:
    value = stage.count(key)
    shown = size(value) if key == "bytes" else count(value) if value < 1e6 else compact(value)
    label = "" if key == "bytes" else " " + name(key)
    rate = f" · {compact(value / stage.seconds)}/s" if _has_rate(stage, key) else ""
    return element("span", shown + label + rate)


def _has_rate(stage: StageFiles, key: str) -> bool:
    return stage.seconds >= 0.1 and RATED.get(stage.name) == key
