"""One contender of benchmarks/training.py, in a process of its own: steps on request, times out.

    python benchmarks/training_contender.py NAME '{"depth": 6, ...}'

Reads the number of steps from each line of stdin, takes them and answers with one JSON line:
seconds of each step, peak memory so far.  The first answer, unasked, describes the model.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

Step = Callable[[Tensor, Tensor], None]
"""One optimizer step on ids and targets, (B,T) each."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What all contenders train: the same shape, tokens and machine."""

    depth: int
    width: int
    heads: int
    vocab: int
    context: int
    rows: int
    micro_rows: int
    """Rows at once, for peers; fledge chooses its own."""
    peers: str
    """Folder with the peers' checkouts: nanoGPT/ and nanochat/."""

    @property
    def pieces(self) -> int:
        return self.rows // self.micro_rows


def fledge(job: Job) -> tuple[Step, int]:
    """As ``fledge pretrain`` steps: products in the faster type, fp32 weights, compiled, Muon."""
    from fledge.core import Silent
    from fledge.model.config import derive
    from fledge.model.decoder import Decoder
    from fledge.train.batch import Batch
    from fledge.train.compile import compiled
    from fledge.train.config import PretrainConfig
    from fledge.train.device import arithmetic, choose_micro_rows, choose_precision
    from fledge.train.objective import cross_entropy
    from fledge.train.optimizers import build_optimizers

    config = PretrainConfig(batch_rows=job.rows)
    contextlib.ExitStack().enter_context(arithmetic(config, torch.device("cpu")))
    shape = derive(
        job.depth,
        job.vocab,
        job.context,
        width=job.width,
        heads=job.heads,
        kv_heads=job.heads,
        tied=True,
    )
    model = Decoder(shape).initialize(0)
    model.compute_dtype = choose_precision(config, torch.device("cpu"))
    optimizers = build_optimizers(model, config, matrix_rate=1e-3, other_rate=1e-3)
    micro = choose_micro_rows(config, job.context, torch.device("cpu"), model.compute_dtype)
    plain = cross_entropy()
    ids = torch.zeros((micro, job.context), dtype=torch.int64)
    example = Batch(ids, ids, ids, torch.ones(ids.shape))
    objective = compiled(plain, model, example, Silent()) or plain

    def step(ids: Tensor, targets: Tensor) -> None:
        whole = Batch(ids, targets, torch.zeros_like(ids), torch.ones(ids.shape))
        for piece in whole.micro(micro):
            (objective(model, piece) / ids.numel()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        model.zero_grad(set_to_none=True)

    return step, shape.depth * shape.layer_parameters + shape.vocab_size * shape.width


def nanogpt(job: Job, *, bf16: bool, compile: bool) -> tuple[Step, int]:
    """nanoGPT's model and optimizer; ``bf16``: autocast, ``compile``: torch.compile."""
    sys.path.insert(0, str(Path(job.peers) / "nanoGPT"))
    with contextlib.redirect_stdout(sys.stderr):
        from model import GPT, GPTConfig

        gpt = GPT(
            GPTConfig(
                block_size=job.context,
                vocab_size=job.vocab,
                n_layer=job.depth,
                n_head=job.heads,
                n_embd=job.width,
                bias=False,
            )
        )
        optimizer = gpt.configure_optimizers(0.1, 1e-3, (0.9, 0.95), "cpu")
    matrices = sum(p.numel() for name, p in gpt.named_parameters() if p.ndim == 2)
    model = torch.compile(gpt) if compile else gpt

    def step(ids: Tensor, targets: Tensor) -> None:
        for x, y in zip(ids.split(job.micro_rows), targets.split(job.micro_rows), strict=True):
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                loss = model(x, y)[1] / job.pieces
            loss.backward()
        torch.nn.utils.clip_grad_norm_(gpt.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step, matrices - gpt.transformer.wpe.weight.numel()


def nanochat(job: Job, *, bf16: bool, compile: bool) -> tuple[Step, int]:
    """nanochat's model and Muon-AdamW; its own number type on CPU is fp32, and it compiles."""
    os.environ["NANOCHAT_DTYPE"] = "bfloat16" if bf16 else "float32"
    sys.path.insert(0, str(Path(job.peers) / "nanochat"))
    with contextlib.redirect_stdout(sys.stderr):
        from nanochat.gpt import GPT, GPTConfig

        gpt = GPT(
            GPTConfig(
                sequence_len=job.context,
                vocab_size=job.vocab,
                n_layer=job.depth,
                n_head=job.heads,
                n_kv_head=job.heads,
                n_embd=job.width,
                window_pattern="L",
            )
        )
        gpt.init_weights()
        optimizer = gpt.setup_optimizer()
    model = torch.compile(gpt, dynamic=False) if compile else gpt

    def step(ids: Tensor, targets: Tensor) -> None:
        for x, y in zip(ids.split(job.micro_rows), targets.split(job.micro_rows), strict=True):
            (model(x, y) / job.pieces).backward()
        optimizer.step()
        gpt.zero_grad(set_to_none=True)

    return step, gpt.num_matmul_params()


def transformers(job: Job, *, bf16: bool) -> tuple[Step, int]:
    """transformers' Llama of fledge's shape, AdamW, eager; ``bf16``: autocast."""
    from transformers import LlamaConfig, LlamaForCausalLM

    ffn = -(-8 * job.width // (3 * 64)) * 64
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=job.vocab,
            hidden_size=job.width,
            intermediate_size=ffn,
            num_hidden_layers=job.depth,
            num_attention_heads=job.heads,
            num_key_value_heads=job.heads,
            max_position_embeddings=job.context,
            tie_word_embeddings=True,
            use_cache=False,
        )
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    matrices = sum(p.numel() for p in model.parameters() if p.ndim == 2)

    def step(ids: Tensor, targets: Tensor) -> None:
        del targets  # it shifts the labels itself
        for x in ids.split(job.micro_rows):
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                loss = model(x, labels=x).loss / job.pieces
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step, matrices


CONTENDERS: dict[str, Callable[[Job], tuple[Step, int]]] = {
    "fledge": fledge,
    "nanoGPT fp32": lambda job: nanogpt(job, bf16=False, compile=False),
    "nanoGPT fp32 compiled": lambda job: nanogpt(job, bf16=False, compile=True),
    "nanoGPT bf16": lambda job: nanogpt(job, bf16=True, compile=False),
    "nanoGPT bf16 compiled": lambda job: nanogpt(job, bf16=True, compile=True),
    "nanochat fp32": lambda job: nanochat(job, bf16=False, compile=True),
    "nanochat bf16": lambda job: nanochat(job, bf16=True, compile=True),
    "transformers fp32": lambda job: transformers(job, bf16=False),
    "transformers bf16": lambda job: transformers(job, bf16=True),
}


def main() -> None:
    name, job = sys.argv[1], Job(**json.loads(sys.argv[2]))
    torch.manual_seed(0)
    begun = time.perf_counter()
    step, matrices = CONTENDERS[name](job)
    stream = torch.randint(0, job.vocab, (job.rows, job.context + 1))
    ids, targets = stream[:, :-1].contiguous(), stream[:, 1:].contiguous()
    for _ in range(2):
        step(ids, targets)
    answer({"matrices": matrices, "warm_up_seconds": time.perf_counter() - begun})
    for line in sys.stdin:
        seconds = []
        for _ in range(int(line)):
            begun = time.perf_counter()
            step(ids, targets)
            seconds.append(time.perf_counter() - begun)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        answer({"seconds": seconds, "peak_bytes": peak})


def answer(row: dict[str, Any]) -> None:
    """One JSON line to whoever asked."""
    print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
