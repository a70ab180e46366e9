"""Training speed: fledge's step against transformers on the same model, batch and machine.

    python benchmarks/training.py [--depth 4 --width 192 --context 128 --rows 64 --vocab 4096]

Both train the same Qwen3 layout on random tokens with AdamW, in turn, three rounds; the median
step counts.  transformers runs as its users run it on CPU: bf16 autocast, eager.  fledge runs as
``fledge pretrain`` does: bf16 products of fp32 weights, compiled when a compiler is there.  The
ceiling is the machine's own matrix product rate, measured in the same run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch

from fledge.core import Silent
from fledge.model.config import ModelConfig, derive
from fledge.model.decoder import Decoder
from fledge.train.batch import Batch
from fledge.train.compile import compiled
from fledge.train.objective import cross_entropy


def matmul_rate(dtype: torch.dtype, size: int = 1024) -> float:
    """Floating-point operations per second of a square matrix product, best of ten."""
    a, b = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
    best = float("inf")
    for _ in range(10):
        begun = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - begun)
    return 2 * size**3 / best


def fledge_step(shape: ModelConfig, ids: torch.Tensor) -> Callable[[], None]:
    """One optimizer step of fledge on ``ids`` (B,T+1)."""
    model = Decoder(shape).initialize(0)
    model.compute_dtype = torch.bfloat16
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    rows = ids[:, :-1]
    batch = Batch(rows, ids[:, 1:], torch.zeros_like(rows), torch.ones(rows.shape))
    plain = cross_entropy()
    objective = compiled(plain, model, batch, Silent()) or plain

    def step() -> None:
        (objective(model, batch) / rows.numel()).backward()
        optimizer.step()
        model.zero_grad(set_to_none=True)

    return step


def peer_step(shape: ModelConfig, ids: torch.Tensor) -> Callable[[], None]:
    """One optimizer step of transformers' Qwen3 of the same shape on ``ids``."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=shape.vocab_size,
        hidden_size=shape.width,
        num_hidden_layers=shape.depth,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_size,
        intermediate_size=shape.ffn,
        tie_word_embeddings=shape.tied,
        use_cache=False,
    )
    model = Qwen3ForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    rows = ids[:, :-1]

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            model(rows, labels=rows).loss.backward()
        optimizer.step()
        model.zero_grad(set_to_none=True)

    return step


def seconds(step: Callable[[], None], count: int) -> list[float]:
    """Durations of ``count`` steps."""
    found = []
    for _ in range(count):
        begun = time.perf_counter()
        step()
        found.append(time.perf_counter() - begun)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name, value in {
        "depth": 4,
        "width": 192,
        "context": 128,
        "rows": 64,
        "vocab": 4096,
    }.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    arguments = parser.parse_args()
    shape = derive(arguments.depth, arguments.vocab, arguments.context, width=arguments.width)
    ids = torch.randint(0, arguments.vocab, (arguments.rows, arguments.context + 1))
    steps = {"fledge": fledge_step(shape, ids), "transformers": peer_step(shape, ids)}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        seconds(step, 3)
    for _ in range(3):
        for name, step in steps.items():
            times[name] += seconds(step, 8)
    tokens = arguments.rows * arguments.context
    rates = {name: tokens / statistics.median(found) for name, found in times.items()}
    ceiling = matmul_rate(torch.bfloat16)
    row = {
        "parameters": shape.parameters,
        "tokens_per_second": {name: round(rate) for name, rate in rates.items()},
        "ratio": round(rates["fledge"] / rates["transformers"], 3),
        "bf16_matmul_gflops": round(ceiling / 1e9, 1),
        "share_of_ceiling": {
            name: round(rate * shape.training_flops_per_token / ceiling, 3)
            for name, rate in rates.items()
        },
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    print(json.dumps(row, indent=2))


if __name__ == "__main__":
    main()
