"""``fledge scale``: token shards in; a ladder of models, their law and a checked prediction out.

Each run has its own folder below ``out/runs``, like a stage's: a finished one is never trained
again, an interrupted one goes on.  ``out/scaling.json`` holds the figures (no timings),
``out/logs/rates.json`` how fast the runs were on this machine.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fledge.core.errors import InputError
from fledge.core.files import write_json
from fledge.core.protocols import Bar, Progress
from fledge.core.run import Clock, StageFolder, input_digest, stage_key
from fledge.metrics.scaling import fit_law
from fledge.train.pretrain import FINAL_TOKENS, pretrain
from fledge.train.scale_config import ScaleConfig
from fledge.train.scale_findings import Measured, Study, findings
from fledge.train.scale_plan import Rung, plan_ladder
from fledge.train.shards import TokenShards
from fledge.train.validate import documents_read

FIGURES = "scaling.json"
MOST_EPOCHS = 4.0
"""Passes over the data up to which repeated tokens are worth about as much as fresh ones
(arXiv:2305.16264)."""


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What the user wants sized: operations, or hours at the rate measured here."""

    flops: tuple[float, ...] = ()
    hours: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where the runs read and write."""

    tokens: Path
    tokenizer: Path
    runs: Path
    inputs: dict[str, str]


def scale(
    config: ScaleConfig,
    tokens: Path,
    tokenizer: Path,
    out: Path,
    progress: Progress,
    ask: Ask | None = None,
) -> dict[str, Any]:
    """Train the ladder, fit it, predict the held-out run, train that too, compare; the figures.

    Each figure is in ``out/scaling.json``, the prediction before the run it predicts begins.
    Raises InputError when the data or the config cannot make a ladder.
    """
    data = TokenShards(tokens, "train")
    text = _text_rate(tokens)
    rungs, held_out = plan_ladder(config, data.vocab_size, data.tokens)
    notes = _say_plan(rungs, held_out, data, progress)
    mixed = {folder: input_digest(Path(folder)) for folder in config.pretrain.mixture}
    inputs = {"tokens": input_digest(tokens), "tokenizer": input_digest(tokenizer), **mixed}
    place = _Place(tokens=tokens, tokenizer=tokenizer, runs=out / "runs", inputs=inputs)
    total = sum(rung.flops for rung in (*rungs, held_out))
    done = 0.0
    runs: list[Measured] = []
    for number, rung in enumerate(rungs, 1):
        label = f"{number}/{len(rungs) + 1} {rung.name}"
        runs.append(_measure(rung, config, place, text, _Labelled(progress, label)))
        done += rung.flops
        _say_done(runs, done, total, progress)
    fit = fit_law(
        [run.parameters for run in runs],
        [run.tokens for run in runs],
        [run.loss for run in runs],
        draws=config.draws,
        seed=config.seed,
    )
    rates = {run.name: run.flops / run.seconds for run in runs}
    fastest = rates[max(runs, key=lambda run: run.flops).name]
    study = Study(
        config=config,
        vocab_size=data.vocab_size,
        tokens_per_byte=text,
        runs=runs,
        held_out=held_out,
        fit=fit,
        notes=notes,
        budgets=_budgets(ask or Ask(), fastest),
    )
    write_json(out / FIGURES, findings(study, None))
    label = f"{len(rungs) + 1}/{len(rungs) + 1} {held_out.name} (held out)"
    measured = _measure(held_out, config, place, text, _Labelled(progress, label))
    rates[measured.name] = measured.flops / measured.seconds
    figures = findings(study, measured)
    write_json(out / FIGURES, figures)
    write_json(out / "logs" / "rates.json", {"flops_per_second": rates})
    return figures


def _measure(
    rung: Rung, ladder: ScaleConfig, place: _Place, text: float, progress: Progress
) -> Measured:
    """The run's figures: from its manifest when it is done, or by training it."""
    config = rung.config(ladder)
    folder = StageFolder(place.runs, rung.name)
    key = stage_key("pretrain", config, place.inputs)
    folder.recover()
    manifest = folder.manifest()
    if manifest is None or not folder.finished(key):
        out = folder.begin(key)
        clock = Clock()
        try:
            outcome = pretrain(config, place.tokens, place.tokenizer, out, progress)
        except BaseException:
            folder.pause(clock.seconds())
            raise
        manifest = folder.finish("pretrain", config, place.inputs, outcome, clock.seconds())
    bits = float(manifest["figures"]["pretrain.bits_per_byte"])
    return Measured(
        name=rung.name,
        depth=rung.depth,
        width=rung.width,
        parameters=int(manifest["counts"]["parameters"]),
        tokens=int(manifest["counts"]["tokens"]),
        bits_per_byte=bits,
        loss=bits * math.log(2) / text,
        seconds=float(manifest["seconds"]),
    )


def _text_rate(tokens: Path) -> float:
    """Tokens a byte of the held-out text that ``pretrain`` measures: turns bits a byte to nats.

    <|endoftext|> is not counted, as there.  Raises InputError when no text is held out.
    """
    held_out = TokenShards(tokens, "validation")
    if not held_out.bytes:
        raise InputError(
            f"{tokens} holds no validation text, so a law has nothing to predict",
            remedy="hold some documents out when the corpus is built",
        )
    documents = documents_read(held_out, FINAL_TOKENS)
    counted = int(held_out.lengths[:documents].sum()) - documents
    return counted / int(held_out.document_bytes()[:documents].sum())


def _say_plan(
    rungs: list[Rung], held_out: Rung, data: TokenShards, progress: Progress
) -> list[str]:
    """Tell what will be trained; returns what the reader of the figures must know."""
    total = sum(rung.flops for rung in (*rungs, held_out))
    progress.say(f"ladder of {len(rungs)} runs and a held-out one, {total:.2e} operations (6 N D)")
    for rung in (*rungs, held_out):
        progress.say(
            f"  {rung.depth} layers x {rung.width}: N = {rung.parameters:>11,}, "
            f"D = {rung.tokens:>11,} tokens, {rung.flops:.2e} operations"
            + (" (held out)" if rung.held_out else "")
        )
    epochs = max(rung.tokens for rung in (*rungs, held_out)) / data.tokens
    if epochs <= 1:
        return []
    worth = "as good as fresh ones" if epochs <= MOST_EPOCHS else "worth less than fresh ones"
    note = (
        f"the longest run reads the {data.tokens:,} training tokens {epochs:.1f} times over; "
        f"repeated tokens are {worth}, and the law takes them for fresh ones"
    )
    progress.say(note)
    return [note]


def _say_done(runs: list[Measured], done: float, total: float, progress: Progress) -> None:
    last = runs[-1]
    rate = max(run.flops / run.seconds for run in runs)  # tiny runs are all start-up
    progress.say(
        f"{last.name}: {last.loss:.4f} nats a token, {last.bits_per_byte:.4f} bits a byte; "
        f"{done / total:.0%} of the ladder's operations done, about "
        f"{(total - done) / rate / 60:,.0f} min left"
    )


def _budgets(ask: Ask, rate: float) -> list[tuple[str, float]]:
    """(what was asked, operations) of each budget."""
    asked = [(f"{flops:.3g} operations", flops) for flops in ask.flops]
    return asked + [
        (f"{hours:g} h at {rate:.3g} operations/s", hours * 3600 * rate) for hours in ask.hours
    ]


class _Labelled:
    """The same progress, every line and bar of which says which run it is about.

    Indented lines, a run's whole plan, are not repeated for each: see its ``plan.json``.
    """

    def __init__(self, progress: Progress, label: str) -> None:
        self._progress = progress
        self._label = label

    def say(self, line: str) -> None:
        if not line.startswith("  "):
            self._progress.say(f"{self._label}: {line}")

    def bar(
        self, label: str, total: float | None, unit: str, done: float = 0
    ) -> AbstractContextManager[Bar]:
        return self._progress.bar(f"{self._label}: {label}", total, unit, done)
