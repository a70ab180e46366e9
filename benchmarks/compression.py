"""Bits per byte of a model against ``xz -9e`` on the same bytes.

    python benchmarks/compression.py --model runs/documents FILE.txt ...

Each file is read whole by the model, in windows of its context that move on by half of it, and
compressed whole by xz (which sees the whole file behind it).  The ratio is model / xz: below 1,
the model wins.  The model's own size is not counted: it is a measure of what it has learnt.
"""

from __future__ import annotations

import argparse
import json
import lzma
from pathlib import Path

from fledge.engine import load_engine
from fledge.evals.text import evaluate_text, stride_of


def xz_bits_per_byte(data: bytes) -> float:
    """Bits per byte of ``xz -9e`` (container included)."""
    return 8 * len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)) / len(data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("files", nargs="+", type=Path)
    arguments = parser.parse_args()
    engine = load_engine(arguments.model)
    for row in evaluate_text(engine, arguments.files):
        peer = xz_bits_per_byte(Path(row["path"]).read_bytes())
        row |= {
            "xz_bits_per_byte": round(peer, 4),
            "ratio": round(row["bits_per_byte"] / peer, 4),
            "context": engine.context,
            "stride": stride_of(engine, None),
        }
        print(
            json.dumps(row, ensure_ascii=False)
            if arguments.json
            else f"{row['ratio']:.3f} of xz -9e: {row['bits_per_byte']:.3f} against {peer:.3f} bits"
            f" per byte, {row['bytes']:,} bytes, context {engine.context}, stride"
            f" {row['stride']}  {row['path']}"
        )


if __name__ == "__main__":
    main()
