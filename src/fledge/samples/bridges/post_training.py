"""What SFT and the stages after it learn from, as files: calculations, reading, preferences,
probes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fledge.core.files import write_json, write_jsonl
from fledge.samples.bridges.calculations import (
    TOOL,
    write_calculations,
    write_practice,
    write_prompts,
)
from fledge.samples.bridges.config import SamplesConfig
from fledge.samples.bridges.fact_prompts import write_fact_prompts
from fledge.samples.bridges.facts import Bridge
from fledge.samples.bridges.invented import Invented
from fledge.samples.bridges.preferences import PairSource, write_preferences
from fledge.samples.bridges.probing import write_probes
from fledge.samples.bridges.reading import write_reading

SUMS = 300
"""Conversations with a bare sum."""


def write_post_training(
    config: SamplesConfig,
    out: Path,
    taught: Sequence[Bridge],
    strangers: Sequence[Bridge],
    names: Invented,
) -> dict[str, int]:
    """Write the files below ``out``; returns how many rows each has.

    Only ``taught`` bridges give facts: what is asked in the evaluation is told nowhere.
    """
    seed, per_bridge = config.seed, config.calculations_per_bridge
    rows = {
        "calculations/train": write_calculations(taught, names.sft, per_bridge, SUMS, seed),
        "calculations/practice": write_practice(config.practice, seed),
        "reading/train": write_reading([*taught, *names.sft, *strangers], config.reading, seed),
        "prompts/train": _prompts(config, taught, names.sft),
        "preferences/train": write_preferences(
            PairSource(who="train", bridges=taught[::2], invented=names.sft),
            config.preferences,
            seed,
        ),
        "preferences/judge": write_preferences(
            PairSource(who="judge", bridges=taught[1::2] or taught, invented=names.judge),
            config.judge_preferences,
            seed,
        ),
        "honesty/facts": write_probes(taught, strangers, names.probes, config.honesty_facts, seed),
    }
    write_json(out / "calculations" / "tools.json", [{"type": "function", "function": TOOL}])
    return {
        name.replace("/", "_"): write_jsonl(out / f"{name}.jsonl", records)
        for name, records in rows.items()
    }


def _prompts(
    config: SamplesConfig, taught: Sequence[Bridge], invented: Sequence[Bridge]
) -> list[dict[str, Any]]:
    """Calculations, facts and what nobody knows, shuffled."""
    per_bridge, seed = config.calculation_prompts_per_bridge, config.seed
    rows = write_prompts(taught, invented, per_bridge, seed)
    rows += write_fact_prompts(taught, invented, config.fact_prompts, seed)
    random.Random(f"prompts/{seed}").shuffle(rows)
    return rows
