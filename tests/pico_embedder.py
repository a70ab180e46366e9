"""Small worlds of words for embedder tests: two invented languages that name the same things."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fledge.core.files import write_jsonl
from fledge.core.protocols import Silent
from fledge.core.run import Outcome
from fledge.tune.embedder import train_embedder
from fledge.tune.embedder_config import EmbedderConfig

THINGS = {
    "stone": "石头",
    "water": "河水",
    "fire": "火焰",
    "wood": "木材",
    "iron": "钢铁",
    "gold": "黄金",
    "cloud": "云彩",
    "river": "江河",
    "bridge": "桥梁",
    "tower": "高塔",
    "moon": "月亮",
    "sun": "太阳",
    "fish": "鱼类",
    "bird": "飞鸟",
    "horse": "马匹",
}
ENGLISH, CHINESE = list(THINGS), list(THINGS.values())

SMALL: dict[str, Any] = {
    "table": {"dimensions": 16},
    "batch_rows": 16,
    "epochs": 6.0,
    "learning_rate": 0.02,
    "embedding_learning_rate": 0.02,
    "held_out": 0.1,
    "threads": 1,
    "precision": "fp32",
    "seed": 3,
    "checkpoint_every_seconds": 1e9,
}


def sentences(count: int, seed: int = 0) -> list[dict[str, str]]:
    """Rows of three things each, in both languages."""
    letters = random.Random(seed)
    rows = []
    for _ in range(count):
        things = letters.sample(range(len(ENGLISH)), 3)
        english = " ".join(ENGLISH[thing] for thing in things)
        rows.append({"en": english, "zh": "，".join(CHINESE[thing] for thing in things)})
    return rows


def words() -> list[dict[str, str]]:
    """The dictionary."""
    return [{"en": en, "zh": zh} for en, zh in zip(ENGLISH, CHINESE, strict=True)]


def write_pairs(file: Path, rows: Iterable[dict[str, Any]]) -> Path:
    write_jsonl(file, rows)
    return file


def write_world(folder: Path) -> list[Path]:
    """Files of words and of sentences."""
    return [
        write_pairs(folder / "words.jsonl", words()),
        write_pairs(folder / "sentences.jsonl", sentences(200)),
    ]


def run_embedder(
    files: list[Path], out: Path, progress: Any = None, model: Path | None = None, **changes: Any
) -> Outcome:
    config = EmbedderConfig.model_validate({**SMALL, **changes})
    return train_embedder(config, files, out, progress or Silent(), model=model)


CHILD = """
import json, sys
from pathlib import Path
from fledge.core.protocols import Silent
from fledge.tune.embedder import train_embedder
from fledge.tune.embedder_config import EmbedderConfig
values, out, *files = sys.argv[1:]
config = EmbedderConfig.model_validate(json.loads(values))
train_embedder(config, [Path(file) for file in files], Path(out), Silent())
"""


def child_arguments(files: list[Path], out: Path, **changes: Any) -> list[str]:
    return ["-c", CHILD, json.dumps({**SMALL, **changes}), str(out), *map(str, files)]
