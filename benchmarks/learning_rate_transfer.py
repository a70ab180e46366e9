"""Does the best learning rate of a narrow model suit a wide one?  A sweep of rate x width.

    python benchmarks/learning_rate_transfer.py --tokens runs/NAME/tokens

``--tokens`` is a folder of `fledge tokens`; without it the tokens of the built-in sample world are
made first.  Every run is planned as `fledge pretrain` plans it, then all its peak rates are
multiplied by the same factor: if the rules of docs/learning-rates.md transfer, every width is best
at about the same factor.  A finished run is a line of WORK/results.jsonl and is not done again.
Afterwards docs/learning-rate-transfer.json and .svg are written.

The defaults (2 optimizers x 3 widths x 7 factors x 1.5 M tokens) take about an hour on two quiet
cores; ``--train-tokens 100000 --widths 64 128 --factors 0.25 1 4`` takes about two minutes.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from fledge.core import Silent
from fledge.core.errors import FledgeError
from fledge.core.files import replacing, write_json
from fledge.model.config import derive
from fledge.model.decoder import Decoder
from fledge.train.config import PretrainConfig
from fledge.train.device import choose_device, choose_precision
from fledge.train.loader import PackedLoader
from fledge.train.loop import Training, train
from fledge.train.objective import cross_entropy
from fledge.train.optimizers import build_optimizers
from fledge.train.plan import plan
from fledge.train.shards import TokenShards
from fledge.train.validate import bits_per_byte

ROOT = Path(__file__).parents[1]
COLOURS = ("#3b6fb6", "#c2571a", "#2f8f5b", "#8a4fa3", "#b3a21a", "#4d4d4d")

Result = dict[str, Any]


def sample_tokens(work: Path) -> Path:
    """The token shards of the built-in sample world, made below ``work`` unless they are there."""
    recipe = ROOT / "recipes" / "bridges.toml"
    command = [sys.executable, "-m", "fledge", "run", str(recipe), "--runs", str(work / "runs")]
    subprocess.run([*command, "--until", "tokens"], check=True)
    return work / "runs" / "bridges" / "tokens"


def measure(job: Result, tokens: Path, options: argparse.Namespace, work: Path) -> Result:
    """Train one model; its held-out bits per byte (None: it diverged) and its rates."""
    data, held_out = TokenShards(tokens, "train"), TokenShards(tokens, "validation")
    settings = {name: job[name] for name in ("optimizer", "tokens", "seed")}
    config = PretrainConfig(**settings, context=options.context, spike_sigma=0.0)
    shape = derive(options.depth, data.vocab_size, options.context, width=job["width"])
    planned = plan(config, shape, data.tokens)
    config = config.model_copy(update={"batch_rows": planned.batch_rows})
    rates = {
        "matrix_rate": planned.matrix_rate * job["factor"],
        "other_rate": planned.other_rate * job["factor"],
    }
    device = choose_device(config)
    model = Decoder(shape).initialize(job["seed"]).to(device)
    model.compute_dtype = choose_precision(config, device)
    out = work / "run"
    shutil.rmtree(out, ignore_errors=True)
    training = Training(
        label="rate",
        model=model,
        objective=cross_entropy(),
        batches=PackedLoader(
            data, context=options.context, batch_rows=planned.batch_rows, seed=job["seed"]
        ),
        steps=planned.steps,
        context=options.context,
        optimizers=build_optimizers(model, config, **rates),
        config=config,
        validate=dict,
        out=out,
    )
    found = {"batch_rows": planned.batch_rows, "steps": planned.steps, **rates}
    try:
        train(training, Silent())
    except FledgeError:
        return {**job, **found, "bits_per_byte": None}
    figure = bits_per_byte(
        model,
        held_out,
        context=options.context,
        stride=options.context,
        tokens=options.held_out_tokens,
    )
    return {**job, **found, "bits_per_byte": round(figure, 5) if math.isfinite(figure) else None}


def jobs_of(options: argparse.Namespace) -> list[Result]:
    """The runs, narrow ones first."""
    return [
        {
            "optimizer": optimizer,
            "width": width,
            "factor": factor,
            "seed": seed,
            "depth": options.depth,
            "tokens": options.train_tokens,
        }
        for width in options.widths
        for optimizer in options.optimizers
        for seed in range(options.seeds)
        for factor in options.factors
    ]


def sweep(options: argparse.Namespace) -> list[Result]:
    """All runs; those that ``results.jsonl`` has are taken from there."""
    work: Path = options.work
    work.mkdir(parents=True, exist_ok=True)
    tokens = options.tokens or sample_tokens(work)
    path = work / "results.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    done = [json.loads(line) for line in lines]
    jobs = jobs_of(options)
    results = []
    for number, job in enumerate(jobs, 1):
        result = next((row for row in done if job.items() <= row.items()), None)
        if result is None:
            result = measure(job, tokens, options, work)
            with path.open("a") as handle:
                handle.write(json.dumps(result) + "\n")
        print(f"{number}/{len(jobs)} {json.dumps(result)}", flush=True)
        results.append(result)
    return results


def curves(results: Sequence[Result]) -> dict[str, dict[int, list[tuple[float, float]]]]:
    """Optimizer -> width -> (factor, mean bits per byte), for factors at which no seed diverged."""
    found: dict[tuple[str, int, float], list[float | None]] = defaultdict(list)
    for row in results:
        found[row["optimizer"], row["width"], row["factor"]].append(row["bits_per_byte"])
    lines: dict[str, dict[int, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for (optimizer, width, factor), figures in sorted(found.items()):
        known = [figure for figure in figures if figure is not None]
        if len(known) == len(figures):
            lines[optimizer][width].append((factor, sum(known) / len(known)))
    return lines


def best(line: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The bottom of the parabola in log2(factor) through the lowest point and its neighbours."""
    i = min(range(len(line)), key=lambda n: line[n][1])
    if not 0 < i < len(line) - 1:
        return line[i]
    (a, fa), (b, fb), (c, fc) = ((math.log2(x), y) for x, y in line[i - 1 : i + 2])
    above = (b - a) ** 2 * (fb - fc) - (b - c) ** 2 * (fb - fa)
    below = (b - a) * (fb - fc) - (b - c) * (fb - fa)
    return (2 ** (b - above / below / 2), fb) if below else line[i]


def picture(lines: dict[str, dict[int, list[tuple[float, float]]]]) -> str:
    """A panel for each optimizer: bits per byte over the factor, a curve a width, as one SVG."""
    wide, high = 380, 330
    panels = [
        f'<g transform="translate({n * wide},0)">{panel(name, widths, wide, high)}</g>'
        for n, (name, widths) in enumerate(sorted(lines.items()))
    ]
    style = (
        "text{font:12px sans-serif;fill:#555}.title{font-weight:bold}"
        ".grid{stroke:#8884;stroke-width:1}.line{fill:none;stroke-width:2}"
        "@media(prefers-color-scheme:dark){text{fill:#bbb}}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide * len(panels)} {high}" '
        f'role="img"><title>Held-out loss over learning rate, by width</title>'
        f"<style>{style}</style>{''.join(panels)}</svg>\n"
    )


def panel(name: str, widths: dict[int, list[tuple[float, float]]], wide: int, high: int) -> str:
    """One optimizer's curves."""
    everything = [point for line in widths.values() for point in line]
    factors = sorted({x for x, _ in everything})
    low, top = min(y for _, y in everything), max(y for _, y in everything)
    low, top = low - 0.05 * (top - low + 1e-3), top + 0.05 * (top - low + 1e-3)
    span = math.log2(factors[-1] / factors[0]) or 1.0
    above = 40 + 15 * len(widths)  # title and legend

    def x(factor: float) -> float:
        return round(56 + math.log2(factor / factors[0]) / span * (wide - 76), 1)

    def y(figure: float) -> float:
        return round(high - 44 - (figure - low) / (top - low) * (high - 44 - above), 1)

    parts = [f'<text class="title" x="56" y="18">{escape(name)}: bits per byte</text>']
    for n in range(5):
        figure = low + (top - low) * n / 4
        parts.append(
            f'<line class="grid" x1="56" x2="{wide - 20}" y1="{y(figure)}" y2="{y(figure)}"/>'
        )
        parts.append(f'<text text-anchor="end" x="50" y="{y(figure) + 4}">{figure:.2f}</text>')
    parts += [
        f'<text text-anchor="middle" x="{x(factor)}" y="{high - 26}">{factor:g}</text>'
        for factor in factors
    ]
    parts.append(
        f'<text text-anchor="middle" x="{wide / 2 + 18}" y="{high - 8}">'
        "learning rate as a multiple of the derived one</text>"
    )
    for n, (width, line) in enumerate(sorted(widths.items())):
        colour = COLOURS[n % len(COLOURS)]
        points = " ".join(f"{x(a)},{y(b)}" for a, b in line)
        where = best(line)
        tip = f"{width} wide: best at {where[0]:.2f}, {where[1]:.4f}"
        parts.append(f'<polyline class="line" style="stroke:{colour}" points="{points}"/>')
        parts += [
            f'<circle cx="{x(a)}" cy="{y(b)}" r="3" style="fill:{colour}">'
            f"<title>{width} wide, x {a:g}: {b:.4f}</title></circle>"
            for a, b in line
        ]
        parts.append(f'<text x="56" y="{36 + 15 * n}" style="fill:{colour}">{tip}</text>')
    return "".join(parts)


def report(results: Sequence[Result], out: Path) -> None:
    """Write ``learning-rate-transfer.json`` and ``.svg`` into ``out``; print the best factors."""
    lines = curves(results)
    found = {
        optimizer: {str(width): round(best(line)[0], 3) for width, line in sorted(widths.items())}
        for optimizer, widths in lines.items()
    }
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "learning-rate-transfer.json", {"best_factor": found, "runs": list(results)})
    with replacing(out / "learning-rate-transfer.svg") as temporary:
        temporary.write_text(picture(lines))
    print(json.dumps({"best_factor": found}, indent=2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tokens", type=Path, help="folder of `fledge tokens`")
    parser.add_argument("--optimizers", nargs="+", default=["muon", "adamw"])
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 128, 256])
    factors = [0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0]
    parser.add_argument("--factors", type=float, nargs="+", default=factors)
    parser.add_argument("--depth", type=int, default=3)
    parser.add_argument("--context", type=int, default=128)
    parser.add_argument("--train-tokens", type=int, default=1_500_000)
    parser.add_argument("--held-out-tokens", type=int, default=60_000)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path("runs") / "learning-rate-transfer")
    parser.add_argument("--out", type=Path, default=ROOT / "docs")
    options = parser.parse_args()
    report(sweep(options), options.out)


if __name__ == "__main__":
    main()
