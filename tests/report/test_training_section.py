"""The training section: curves of what was measured, spikes marked, old and broken files read."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

from fledge.core.config import Config
from fledge.core.files import write_jsonl, write_text
from fledge.core.run import Outcome, StageFolder
from fledge.report.gather import read_run
from fledge.report.html import Html
from fledge.report.svg import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH
from fledge.report.training_section import MOST_SPIKES, training_section

LOSSES = [{"step": i, "tokens": i * 9, "loss": 5 / i} for i in range(1, 101)]
METRICS = [
    {
        "step": i,
        "loss": 5 / i,
        "lr": 0.01,
        "grad_norm": 0.5,
        "tokens_per_second": 9000.0,
        "mfu": 0.645,
        "waiting": 0.02,
        "memory_bytes": 10**9,
    }
    for i in range(10, 101, 10)
]


def spike(step: int, back: int | None = None) -> dict[str, Any]:
    seen = {"step": step, "batch": step - 1, "loss": None, "grad_norm": None}
    return {**seen, "reason": "loss nan <b>", "rewound_to": back}


def section(run: Path, **files: list[dict[str, Any]]) -> Html:
    place = StageFolder(run, "pretrain")
    place.begin("key")
    write_jsonl(place.partial / "loss.jsonl", LOSSES)
    for name, rows in files.items():
        write_jsonl(place.partial / "logs" / f"{name}.jsonl", rows)
    place.finish("pretrain", Config(), {}, Outcome(), 2.0)
    made = training_section(read_run(run))
    assert made is not None
    ET.fromstring(f"<div>{made}</div>")
    return made


def test_every_curve_is_there_in_english_and_chinese(tmp_path: Path) -> None:
    made = section(tmp_path, metrics=METRICS)
    for title in ("Loss", "Learning rate", "Gradient norm", "Speed", "Use of the processor"):
        assert f"<b>{title}</b>" in made
    for title in ("损失", "学习率", "梯度范数", "速度", "算力利用率"):
        assert title in made
    assert "Use of the processor: 64.5 at 50 steps" in made  # per cent
    assert "2.0 % of it waiting for data" in made
    assert 'class="event"' not in made
    assert "Batches passed over" not in made


def test_a_checkpoint_trained_on_is_compared_with_itself(tmp_path: Path) -> None:
    place = StageFolder(tmp_path, "sft")
    place.begin("key")
    write_jsonl(place.partial / "loss.jsonl", LOSSES)
    figures = {"sft.loss_before": 2.0, "sft.loss": 1.5}
    place.finish("sft", Config(), {}, Outcome(figures=figures), 2.0)
    made = training_section(read_run(tmp_path))
    assert made is not None
    assert "Held-out conversations" in made
    assert "留出数据" in made
    for cell in ("2.0000", "1.5000", "-25.0 %"):
        assert f">{cell}</td>" in made
    assert "Held-out" not in section(tmp_path / "fresh", metrics=METRICS)


def test_spikes_are_marked_where_they_were_and_told(tmp_path: Path) -> None:
    made = section(tmp_path, metrics=METRICS, spikes=[spike(25), spike(60), spike(60, back=50)])
    marks = re.findall(r"<title>(batch skipped[^<]*)</title>", made)
    assert marks.count("batch skipped at 25 steps") == 2  # beside the losses and the norms
    assert marks.count("batch skipped, back to step 50 at 60 steps") == 2
    places = re.findall(
        rf"M([\d.]+) {HEIGHT - BOTTOM}V{TOP}M[^>]*><title>batch skipped at 25", made
    )
    wide = WIDTH - RIGHT - LEFT  # from step 1 on the losses, from step 10 on the norms
    assert [float(at) for at in places] == [
        round(LEFT + wide * (25 - 1) / 99, 1),
        round(LEFT + wide * (25 - 10) / 90, 1),
    ]
    assert "<td>batch skipped, back to step 50</td>" in made
    assert "loss nan &lt;b&gt;" in made


def test_of_many_spikes_the_first_are_told(tmp_path: Path) -> None:
    made = section(tmp_path, spikes=[spike(i) for i in range(1, 41)])
    assert made.count("<td>batch skipped</td>") == MOST_SPIKES
    assert f"and {40 - MOST_SPIKES} more" in made


def test_figures_of_older_runs_and_torn_files_are_shown_as_far_as_they_go(tmp_path: Path) -> None:
    older = [{"step": 10, "lr": 0.01, "grad_norm": 0.5, "tokens_per_second": 9000.0}]
    made = section(tmp_path, metrics=older, spikes=[{"reason": "a row without a step"}])
    assert "Use of the processor" not in made
    assert "waiting" not in made
    write_text(tmp_path / "pretrain/logs/spikes.jsonl", '{"step": 5, "rew')
    assert training_section(read_run(tmp_path))


def test_preferences_show_what_became_of_both_answers(tmp_path: Path) -> None:
    place = StageFolder(tmp_path, "dpo")
    place.begin("key")
    told = {"accuracy": 0.8, "margin": 0.3, "logp_chosen": -9.0, "logp_rejected": -12.0}
    write_jsonl(place.partial / "loss.jsonl", LOSSES)
    write_jsonl(place.partial / "logs" / "metrics.jsonl", [{"step": 1, **told}])
    write_jsonl(place.partial / "validation.jsonl", [{"step": 1, "loss": 0.6, **told}])
    figures = {"dpo.accuracy_before": 0.5, "dpo.accuracy": 0.75}
    place.finish("dpo", Config(), {}, Outcome(figures=figures), 2.0)
    made = training_section(read_run(tmp_path))
    assert made is not None
    for title in ("Preference accuracy", "Reward margin", "Chosen answers", "Rejected answers"):
        assert f"<b>{title}</b>" in made
    assert "偏好准确率" in made
    for cell in ("0.5000", "0.7500", "+50.0 %"):
        assert f">{cell}</td>" in made
