"""The stage ``[ground]``: the documents of a run made searchable, and asked."""

from __future__ import annotations

from pathlib import Path

from fledge.cli.stage import Work
from fledge.core.config import Config
from fledge.core.errors import InputError
from fledge.core.run import Outcome
from fledge.rag.ground_config import GroundConfig


def run_ground(work: Work) -> Outcome:
    """An index in ``<stage>/index``, and its answers to the ladder's questions."""
    from fledge.evals.grounded import measure_grounding
    from fledge.index.config import IndexConfig
    from fledge.index.embed import default_cache, open_embedder
    from fledge.index.folder import build_index
    from fledge.rag.grounding import opened

    config, place = work.config, work.out / "index"
    assert isinstance(config, GroundConfig)
    index = IndexConfig(
        input=config.input or [str(work.folder("corpus"))],
        embedder=config.embedder,
        split=config.split,
    )
    embedder = open_embedder(config.embedder, cache=default_cache(), progress=work.progress)
    try:
        report = build_index(index, place, embedder, progress=work.progress)
    finally:
        embedder.close()
    figures: dict[str, float] = {}
    if "samples" in work.folders:
        sets = work.folders["samples"] / "evals"
        with opened(place) as ground:
            figures = measure_grounding(
                ground, sets, work.out / "answers", work.progress,
                limit=config.limit, seed=config.seed,
            )  # fmt: skip
    sizes = report.sizes
    counts = {name: int(sizes[name]) for name in ("documents", "chunks", "bytes")}
    return Outcome(counts={**counts, "failed": len(report.failed)}, figures=figures)


def ground_files(config: Config) -> list[Path]:
    """Files and folders that the config names; addresses and globs are read when it runs."""
    assert isinstance(config, GroundConfig)
    paths = [Path(each) for each in config.input if "://" not in each and "*" not in each]
    for path in paths:
        if not path.exists():
            raise InputError(f"[ground] input: {path} is not there", remedy="check the path")
    return paths
