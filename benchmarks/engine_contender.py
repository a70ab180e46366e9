"""One contender of benchmarks/engine.py, in a process of its own: questions in, rates out.

    python benchmarks/engine_contender.py SIDE '{"model": ..., "gguf": ..., ...}'

Reads ["decode", streams] or ["prefill", 1] from each line of stdin, measures once, and answers
with tokens a second.  The llama.cpp side knows no fledge.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable
from typing import Any

Job = dict[str, Any]
Measure = Callable[[str, int], float]


def prompts(count: int, length: int, vocabulary: int) -> list[list[int]]:
    """Tokens that no earlier prompt had."""
    return [[random.randrange(vocabulary) for _ in range(length)] for _ in range(count)]


def fledge(job: Job) -> Measure:
    """Through Engine: scheduler, sampler, text."""
    from fledge.engine.chain.settings import Settings
    from fledge.engine.loading import load_engine

    engine = load_engine(job["model"], dtype=job["dtype"], threads=job["threads"], runner="native")

    def measure(what: str, streams: int) -> float:
        if what == "prefill":
            [prompt] = prompts(1, job["long"], engine.vocabulary)
            begun = time.perf_counter()
            engine.generate([prompt], Settings(max_new_tokens=1), ())
            return float(job["long"] / (time.perf_counter() - begun))
        how = Settings(max_new_tokens=job["drawn"])
        asked = [(p, how) for p in prompts(streams, job["prompt"], engine.vocabulary)]
        begun, drawn, started = 0.0, 0, 0
        for _ in engine.tokens(asked, stop_ids=()):
            if begun:
                drawn += 1
            elif (started := started + 1) == streams:
                begun = time.perf_counter()
        return drawn / (time.perf_counter() - begun)

    return measure


def llama(job: Job) -> Measure:
    """Through llama_decode, all streams in one batch; greedy by numpy."""
    import llama_cpp as L
    import numpy as np

    L.llama_log_set(_quiet(L), None)
    L.llama_backend_init()
    model = L.llama_model_load_from_file(job["gguf"].encode(), L.llama_model_default_params())
    settings = L.llama_context_default_params()
    settings.n_ctx, settings.n_batch, settings.n_ubatch = 8 * job["context"], 2048, 512
    settings.n_threads = settings.n_threads_batch = job["threads"]
    settings.n_seq_max = 8
    context = L.llama_init_from_model(model, settings)
    vocabulary = L.llama_vocab_n_tokens(L.llama_model_get_vocab(model))
    batch = L.llama_batch_init(2048, 0, 8)

    def decode(rows: list[tuple[int, int, int, bool]]) -> None:
        """(token, position, stream, whether its logits are wanted) of each row."""
        batch.n_tokens = len(rows)
        for place, (token, position, stream, wanted) in enumerate(rows):
            batch.token[place], batch.pos[place] = token, position
            batch.n_seq_id[place], batch.seq_id[place][0] = 1, stream
            batch.logits[place] = wanted
        if L.llama_decode(context, batch):
            raise SystemExit("llama_decode failed")

    def best(place: int) -> int:
        row = L.llama_get_logits_ith(context, place)
        return int(np.ctypeslib.as_array(row, shape=(vocabulary,)).argmax())

    def read(texts: list[list[int]]) -> list[int]:
        rows = [
            (token, position, stream, position == len(text) - 1)
            for stream, text in enumerate(texts)
            for position, token in enumerate(text)
        ]
        decode(rows)
        return [best(place) for place, row in enumerate(rows) if row[3]]

    def measure(what: str, streams: int) -> float:
        L.llama_memory_clear(L.llama_get_memory(context), True)
        if what == "prefill":
            texts = prompts(1, job["long"], vocabulary)
            begun = time.perf_counter()
            read(texts)
            return float(job["long"] / (time.perf_counter() - begun))
        tokens = read(prompts(streams, job["prompt"], vocabulary))
        begun = time.perf_counter()
        for step in range(job["drawn"] - 1):
            decode([(t, job["prompt"] + step, s, True) for s, t in enumerate(tokens)])
            tokens = [best(place) for place in range(streams)]
        return float(streams * (job["drawn"] - 1) / (time.perf_counter() - begun))

    return measure


def _quiet(L: Any) -> Any:
    global _SILENCE
    _SILENCE = L.llama_log_callback(lambda *_: None)
    return _SILENCE


def transformers(job: Job) -> Measure:
    """Through generate, one stream."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(job["threads"])
    dtype = torch.bfloat16 if job["dtype"] == "bfloat16" else torch.float32
    model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=dtype)
    model.generation_config.eos_token_id = None

    def measure(what: str, streams: int) -> float:
        length, new = (job["long"], 1) if what == "prefill" else (job["prompt"], job["drawn"])
        ids = torch.tensor(prompts(streams, length, model.config.vocab_size))
        begun = time.perf_counter()
        with torch.inference_mode():
            model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=new,
                min_new_tokens=new,
                do_sample=False,
                pad_token_id=0,
            )
        return float((length if what == "prefill" else new) / (time.perf_counter() - begun))

    return measure


SIDES: dict[str, Callable[[Job], Measure]] = {
    "fledge": fledge,
    "llama.cpp": llama,
    "transformers": transformers,
}


def main() -> None:
    random.seed(7)
    measure = SIDES[sys.argv[1]](json.loads(sys.argv[2]))
    measure("decode", 1)  # warm
    for line in sys.stdin:
        what, streams = json.loads(line)
        print(measure(what, streams), flush=True)


if __name__ == "__main__":
    main()
