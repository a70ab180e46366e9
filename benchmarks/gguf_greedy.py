"""Greedy text of a checkpoint: fledge against llama.cpp, which reads the GGUF that fledge wrote.

    python benchmarks/gguf_greedy.py MODEL [--llama-python PATH] [--tokens 100] [--prompt TEXT]...

Exports MODEL as F32 and F16, and compares, prompt by prompt: the token ids of the text, the
largest difference between the logits of the prompt, and the greedy tokens after it (both sides
from the same ids; llama.cpp with a float32 KV cache, fledge from the same GGUF in float32).
llama-cpp-python runs in this interpreter, or in another one named by --llama-python.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

PROMPTS = (
    "Once upon a time, there was a little girl who",
    "The bridge was opened in",
    "def main():\n    print(",
    "这座桥建于",
    "金门大桥的主跨",
)

IDS = {True: "same", False: "DIFFER", None: "not asked (unknown characters)"}


def peer() -> None:
    """The llama.cpp side: a JSON job on stdin, its findings on stdout.  Knows no fledge."""
    import numpy as np
    from llama_cpp import Llama

    job = json.load(sys.stdin)
    rows = []
    llama = Llama(
        job["gguf"],
        n_ctx=job["context"],
        n_batch=job["context"],
        n_threads=1,
        n_threads_batch=1,
        logits_all=True,
        type_k=0,  # GGML_TYPE_F32
        type_v=0,
        verbose=False,
    )
    for text, ids in zip(job["texts"], job["prompts"], strict=True):
        # Without byte tokens llama.cpp does not survive a character it does not know.
        read = text and llama.tokenize(text.encode(), add_bos=False, special=False)
        llama.reset()
        llama.eval(ids)
        logits = np.array(llama.scores[: len(ids)])
        drawn: list[int] = []
        while len(drawn) < job["tokens"]:
            drawn.append(int(np.argmax(llama.scores[llama.n_tokens - 1])))
            if len(drawn) < job["tokens"]:
                llama.eval(drawn[-1:])
        rows.append({"read": read, "logits": logits.tolist(), "drawn": drawn})
    json.dump(rows, sys.stdout)


def ask_peer(python: str, job: dict[str, Any]) -> list[dict[str, Any]]:
    """The findings of ``peer`` in the interpreter ``python``."""
    done = subprocess.run(
        [python, __file__, "--peer"], input=json.dumps(job), capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"llama-cpp-python failed in {python}:\n{done.stderr[-2000:]}")
    rows: list[dict[str, Any]] = json.loads(done.stdout[done.stdout.index("[{") :])
    return rows


def has_llama(python: str) -> bool:
    """Whether llama_cpp can be imported there."""
    done = subprocess.run([python, "-c", "import llama_cpp"], capture_output=True)
    return done.returncode == 0


def compare(
    folder: Path, kind: str, texts: list[str], tokens: int, python: str
) -> list[dict[str, Any]]:
    """One row a prompt for the checkpoint in ``folder`` exported as ``kind``."""
    import torch

    from fledge.model.checkpoint import load_model
    from fledge.model.gguf import load_gguf, write_gguf
    from fledge.model.gguf.vocabulary import TokenizerFiles

    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / f"{kind}.gguf"
        for note in write_gguf(load_model(folder), folder, file, kind):
            print(f"note: {note}", file=sys.stderr)
        model = load_gguf(file)
        reader = TokenizerFiles.load(folder).reader()
        reader.encode_special_tokens = True
        ids = [reader.encode(text, add_special_tokens=False).ids for text in texts]
        unknown = reader.token_to_id(reader.model.unk_token or "")
        begin = [] if model.config.bos_id is None else [model.config.bos_id]
        prompts = [(begin + row)[: model.config.context - tokens] for row in ids]
        job = {
            "gguf": str(file),
            "context": model.config.context,
            "tokens": tokens,
            "texts": ["" if unknown in row else text for text, row in zip(texts, ids, strict=True)],
            "prompts": prompts,
        }
        peers = ask_peer(python, job)
    rows = []
    for text, own, prompt, other in zip(texts, ids, prompts, peers, strict=True):
        logits, drawn, margins = greedy(model, prompt, tokens)
        same = next((i for i in range(tokens) if drawn[i] != other["drawn"][i]), tokens)
        rows.append(
            {
                "kind": kind,
                "prompt": text,
                "same_ids": own == other["read"] if other["read"] else None,
                "logits_delta": float((logits - torch.tensor(other["logits"])).abs().max()),
                "logits_largest": float(logits.abs().max()),
                "same_tokens": same,
                "tokens": tokens,
                "margin_at_difference": margins[same] if same < tokens else None,
            }
        )
    return rows


def greedy(model: Any, prompt: list[int], tokens: int) -> tuple[Any, list[int], list[float]]:
    """(logits of the prompt (T,V), greedy tokens, how far each led before the second)."""
    import torch

    drawn: list[int] = []
    margins: list[float] = []
    first = None
    with torch.inference_mode():
        while len(drawn) < tokens:
            logits = model(torch.tensor([prompt + drawn]))[0]
            first = logits if first is None else first
            best = logits[-1].topk(2)
            drawn.append(int(best.indices[0]))
            margins.append(float(best.values[0] - best.values[1]))
    return first, drawn, margins


def main() -> None:
    """Compare, print a table (or JSON), exit 1 when a greedy token differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, nargs="?", help="run, stage or HF directory")
    parser.add_argument("--llama-python", default=sys.executable, metavar="PATH")
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--prompt", action="append", default=None, metavar="TEXT")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--peer", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peer:
        return peer()
    if arguments.model is None:
        parser.error("name a model")
    if not has_llama(arguments.llama_python):
        raise SystemExit(
            f"llama_cpp cannot be imported in {arguments.llama_python}: pip install"
            " llama-cpp-python there, or name another interpreter with --llama-python"
        )
    from fledge.model.locate import find_checkpoint

    folder = find_checkpoint(arguments.model)
    texts = arguments.prompt or list(PROMPTS)
    rows = [
        row
        for kind in ("f32", "f16")
        for row in compare(folder, kind, texts, arguments.tokens, arguments.llama_python)
    ]
    if arguments.json:
        print(json.dumps(rows, ensure_ascii=False))
    else:
        for row in rows:
            print(
                f"{row['kind']}  {row['same_tokens']:>3} of {row['tokens']} greedy tokens,"
                f" max |Δ logit| {row['logits_delta']:.1e} of {row['logits_largest']:.1f},"
                f" ids {IDS[row['same_ids']]}  {row['prompt']!r}"
            )
    if any(row["same_tokens"] < row["tokens"] for row in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
