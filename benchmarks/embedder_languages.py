"""Which languages an embedder serves: mean reciprocal rank at 10, per language.

    FLEDGE_DATA=… python benchmarks/embedder_languages.py [--embedder minilm] [--write FOLDER]

Questions of the public sets against the passages of their language.  ``--write`` keeps the figures
as ``languages.json`` in the embedder's folder, where ``fledge index`` reads them.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict
from pathlib import Path

from retrieval_terms import tasks

from fledge.index.embed import measure_languages, open_embedder, write_languages


def main() -> None:
    """Print a line for each language."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--embedder", default="minilm")
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    pairs = [
        (question, task.passages[next(iter(answers))])
        for task in tasks(Path(os.environ["FLEDGE_DATA"]))
        if task.name not in ("cranfield", "drcd, asked in Simplified")
        for question, answers in zip(task.questions, task.answers, strict=True)
    ]
    scores = measure_languages(open_embedder(arguments.embedder), pairs)
    for language, score in scores.items():
        print(json.dumps({"language": language, **asdict(score)}))
    if arguments.write:
        enough = {language: score for language, score in scores.items() if score.questions >= 100}
        write_languages(arguments.write, enough)


if __name__ == "__main__":
    main()
