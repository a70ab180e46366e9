"""The stage ``[ground]``: the documents of a run made searchable, and asked."""

from __future__ import annotations

from pathlib import Path

from fledge.cli.stage import Work
from fledge.core.config import Config
from fledge.core.errors import InputError
from fledge.core.run import Outcome
from fledge.model.locate import RUNGS
from fledge.rag.ground_config import GroundConfig


def run_ground(work: Work) -> Outcome:
    """An index in ``<stage>/index``, and its answers to the ladder's questions."""
    from fledge.index.config import IndexConfig
    from fledge.index.embed import default_cache, open_embedder
    from fledge.index.folder import build_index

    config, place = work.config, work.out / "index"
    assert isinstance(config, GroundConfig)
    index = IndexConfig(
        input=config.input or _documents(work), embedder=config.embedder, split=config.split
    )
    embedder = open_embedder(config.embedder, cache=default_cache(), progress=work.progress)
    try:
        report = build_index(index, place, embedder, progress=work.progress)
    finally:
        embedder.close()
    figures = _measured(work, config, place) if "samples" in work.folders else {}
    sizes = report.sizes
    counts = {name: int(sizes[name]) for name in ("documents", "chunks", "bytes")}
    return Outcome(counts={**counts, "failed": len(report.failed)}, figures=figures)


def _documents(work: Work) -> list[str]:
    """The clean documents, and those of the sample world that no model was trained on."""
    unseen = _unseen(work, "pages")
    return [str(work.folder("corpus")), *([str(unseen)] if unseen else [])]


def _unseen(work: Work, name: str) -> Path | None:
    """A file or folder of the sample world's unseen bridges, where it has any."""
    path = work.folders["samples"] / "unseen" / name if "samples" in work.folders else None
    return path if path is not None and path.exists() else None


def _measured(work: Work, config: GroundConfig, place: Path) -> dict[str, float]:
    """The sample world's questions, asked of the index and of the run's last model with it."""
    from fledge.client.open import open_model
    from fledge.evals.grounded import measure_grounding
    from fledge.rag.grounding import opened
    from fledge.rag.room import counter_of

    chats = [name for name in RUNGS[1:] if name in work.folders]
    model = open_model(str(work.folders[chats[-1]]), progress=work.progress) if chats else None
    with opened(place, model=model, count=counter_of(model)) as ground:
        return measure_grounding(
            ground, work.folders["samples"] / "evals", work.out / "answers", work.progress,
            unseen=None if config.input else _unseen(work, "questions.jsonl"),
            limit=config.limit, seed=config.seed,
        )  # fmt: skip


def ground_files(config: Config) -> list[Path]:
    """Files and folders that the config names; addresses and globs are read when it runs."""
    assert isinstance(config, GroundConfig)
    paths = [Path(each) for each in config.input if "://" not in each and "*" not in each]
    for path in paths:
        if not path.exists():
            raise InputError(f"[ground] input: {path} is not there", remedy="check the path")
    return paths
