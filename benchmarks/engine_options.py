"""What options of a request cost or gain: structure, adapters, prompt lookup, smaller weights.

    python benchmarks/engine_options.py --like MODEL [--size 8M|90M] [--text FILE] [--json]

Speed: a model of random weights with MODEL's tokenizer (as in benchmarks/engine.py), eight streams
of 128 greedy tokens, each option in turn with the plain request, five rounds, the best counts.
Structure is JSON whose end is far, so that every token is drawn under a mask.  Lookup: MODEL itself
continues a passage that it has in its prompt.  Weights: MODEL's perplexity on FILE (its first
200,000 characters) in bfloat16 and int8 over that in float32.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine import write_model
from fledge.engine.chain.settings import Settings
from fledge.engine.engine import Engine
from fledge.engine.loading import load_engine
from fledge.model.checkpoint import load_model
from fledge.model.lora import add_lora, lora_state
from fledge.model.lora_checkpoint import save_lora
from fledge.model.lora_config import LoraConfig

DRAWN, ROUNDS = 128, 5
FAR = {"type": "array", "items": {"type": "string"}, "minItems": 1000}
PASSAGE = (
    "The main span of the Golden Gate Bridge measures 1280 metres. It opened in 1937 and crosses"
    " the Golden Gate in California. "
)


def eight(engine: Engine, how: Settings, form: Any, adapters: Sequence[str] = ()) -> float:
    """Tokens a second of eight streams at once, prompts counted; each with its adapter."""
    prompts = [[(7 * stream + at) % engine.vocabulary for at in range(8)] for stream in range(8)]
    begun = time.perf_counter()
    named = adapters or ""
    made = engine.generate(prompts, how, None if form else (), form, adapter=named)
    return sum(len(one.token_ids) for one in made) / (time.perf_counter() - begun)


def options(engine: Engine) -> list[dict[str, Any]]:
    """Each option's rate over the plain one."""
    plain = Settings(max_new_tokens=DRAWN)
    form = engine.grammars.json_schema(FAR)
    cases: dict[str, tuple[Settings, Any]] = {
        "structure": (plain, form),
        "sampled (top-k 40, top-p .9)": (
            replace(plain, temperature=0.8, top_k=40, top_p=0.9, seed=1),
            None,
        ),
        "inspect": (replace(plain, inspect=True), None),
    }
    rows = []
    for name, (how, grammar) in cases.items():
        base = rate = 0.0
        for _ in range(ROUNDS):  # in turn: the machine's own speed changes within seconds
            base = max(base, eight(engine, plain, None))
            rate = max(rate, eight(engine, how, grammar))
        rows.append(
            {"what": name, "of_plain": round(rate / base, 3), "tokens_per_second": round(rate)}
        )
    return rows


def adapters(engine: Engine, model: Path, scratch: Path) -> dict[str, Any]:
    """Eight streams, each with a LoRA adapter of its own (rank 16, all layers), over none."""
    plain = Settings(max_new_tokens=DRAWN)
    names = [f"adapter {number}" for number in range(8)]
    for number, name in enumerate(names):
        config = LoraConfig(rank=16)
        decoder = load_model(model)
        add_lora(decoder, config, seed=number)
        for key, tensor in lora_state(decoder).items():
            if key.endswith("lora_B"):
                tensor.data.normal_(0, 0.01)
        save_lora(decoder, scratch / name, config)
        engine.adapters.load(name, scratch / name)
    base = rate = 0.0
    for _ in range(ROUNDS):
        base = max(base, eight(engine, plain, None))
        rate = max(rate, eight(engine, plain, None, names))
    return {
        "what": "eight adapters",
        "of_plain": round(rate / base, 3),
        "tokens_per_second": round(rate),
    }


def lookup(engine: Engine) -> dict[str, Any]:
    """One stream that continues a passage it has read twice."""
    ids = engine.encode_text(PASSAGE * 2)
    room = engine.context - len(ids) - 1
    how = Settings(max_new_tokens=min(DRAWN, room))
    rates, told = {}, {}
    for guesses in (0, 8):
        best_rate = 0.0
        for _ in range(ROUNDS):
            begun = time.perf_counter()
            [made] = engine.generate([ids], replace(how, lookup=guesses), ())
            seconds = time.perf_counter() - begun
            best_rate = max(best_rate, len(made.token_ids) / seconds)
            told = {"drafted": made.drafted, "accepted": made.accepted}
        rates[guesses] = best_rate
    return {"what": "lookup", "of_plain": round(rates[8] / rates[0], 3), **told}


def perplexity(model: Path, text: str, dtype: str) -> float:
    """A token, over windows of half a context each, the first token of each given."""
    engine = load_engine(model, dtype=dtype, runner="native")
    ids = engine.tokenizer.encode(text)
    size, nats = engine.context // 2, 0.0
    for start in range(0, len(ids) - 1, size):
        nats -= sum(engine.logprobs(ids[start : start + size + 1]))
    return math.exp(nats / max(len(ids) - 1, 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--like", type=Path, required=True)
    parser.add_argument("--size", choices=["8M", "90M"], default="8M")
    parser.add_argument("--text", type=Path, help="a text to measure the weights' types by")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = write_model(asked.size, asked.like, Path(scratch) / "model")
        engine = load_engine(folder, dtype="bfloat16", runner="native")
        rows += options(engine)
        rows.append(adapters(engine, folder, Path(scratch)))
    rows.append(lookup(load_engine(asked.like, runner="native")))
    if asked.text:
        text = asked.text.read_text(encoding="utf-8")[:200_000]
        exact = perplexity(asked.like, text, "float32")
        for dtype in ("bfloat16", "int8"):
            found = perplexity(asked.like, text, dtype)
            rows.append({"what": f"{dtype} weights", "perplexity_of_float32": found / exact})
    for row in rows:
        print(json.dumps(row) if asked.json else ", ".join(f"{k} {v}" for k, v in row.items()))


if __name__ == "__main__":
    main()
