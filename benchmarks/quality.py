"""Quality: fledge against nanochat's model under its own recipe, on the same books.

    python benchmarks/quality.py --peers DIR --out DIR [--tokens 2500000] [--seeds 3]

Both read the same tokens of standardebooks_en (from $FLEDGE_DATA) in the same order, with as many
parameters each, and are judged on whole works neither has seen and on wikitext2: bits per byte,
float32, windows of the context within a document that overlap by half.  Each run appends a line to
OUT/runs.jsonl and is not done again.  DIR holds a checkout of nanochat.

Both train compiled, in the type of products that is fast on this machine (``choose_precision``).
nanochat trains with its own optimizer and schedule: the rates of its base_train for
the batch, 40 steps of warm-up, 65 % of warm-down to 5 %, Muon momentum .85 to .97 to .90, weight
decay scaled by batch and horizon and falling along a cosine.  fledge trains as `fledge pretrain`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import zstandard
from torch import Tensor

HELD_OUT = (
    "h-g-wells_the-time-machine",
    "robert-louis-stevenson_treasure-island",
    "jerome-k-jerome_three-men-in-a-boat",
)
CONTEXT, VOCABULARY, BATCH = 256, 4096, 8192
DEPTH, WIDTH = 4, 256
"""Of nanochat's model; fledge's has as many parameters, which differ in kind."""
JUDGED = 60_000
"""Tokens read of each set: the held-out books together, and wikitext2."""

Loss = Callable[[Tensor], Tensor]
"""Ids (1,T+1) -> -log p of each but the first, (T) in nats."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--peers", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=2_500_000)
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    os.environ["NANOCHAT_DTYPE"] = str(fast_type()).removeprefix("torch.")
    sys.path.insert(0, str(asked.peers / "nanochat"))
    texts = books()
    prepare(texts, asked.out)
    found = asked.out / "runs.jsonl"
    done = [json.loads(line) for line in found.read_text().splitlines()] if found.exists() else []
    for seed in range(asked.seeds):
        for name, train in (("fledge", train_fledge), ("nanochat", train_nanochat)):
            if any((row["name"], row["seed"]) == (name, seed) for row in done):
                continue
            torch._dynamo.reset()
            loss, parameters, seconds = train(asked.out, asked.tokens, seed)
            row = {"name": name, "seed": seed, "parameters": parameters, "tokens": asked.tokens}
            row |= {"tokens_per_second": round(asked.tokens / seconds)}
            row |= {f"bits_per_byte.{k}": v for k, v in judge(loss, texts, asked.out).items()}
            done.append(row)
            with found.open("a") as lines:
                lines.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)
    print(json.dumps(summary(done), indent=2))


def fast_type() -> torch.dtype:
    """The type that both multiply in."""
    from fledge.train.config import PretrainConfig
    from fledge.train.device import choose_precision

    return choose_precision(PretrainConfig(), torch.device("cpu"))


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over seeds, and fledge as a ratio of nanochat."""
    names = [name for name in rows[0] if name.startswith("bits") or name == "tokens_per_second"]
    means = {
        who: {n: statistics.mean(row[n] for row in rows if row["name"] == who) for n in names}
        for who in ("fledge", "nanochat")
    }
    ratios = {n: round(means["fledge"][n] / means["nanochat"][n], 4) for n in names}
    return {**means, "ratio": ratios}


def books() -> dict[str, list[str]]:
    """The chapters of each book, and wikitext2, as plain text."""
    folder = Path(os.environ["FLEDGE_DATA"])
    found = {}
    for path in sorted((folder / "standardebooks_en").glob("*.jsonl.zst")):
        rows = (json.loads(line)["xhtml"] for line in lines_of(path))
        found[path.name.removesuffix(".jsonl.zst")] = [text for row in rows if (text := plain(row))]
    wiki = "".join(lines_of(folder / "wikitext2_valid_test" / "wiki2.valid.txt.zst"))
    found["wikitext2"] = [wiki]
    return found


def lines_of(path: Path) -> Iterator[str]:
    with zstandard.open(path, "rt", encoding="utf-8") as lines:
        yield from lines


def plain(xhtml: str) -> str:
    """The text of a chapter, a line a paragraph."""
    from lxml import html

    body = html.fromstring(xhtml.encode()).find(".//body")
    if body is None:
        return ""
    paragraphs = [re.sub(r"\s+", " ", p.text_content()).strip() for p in body.iter("p", "h2", "h3")]
    return "\n".join(p for p in paragraphs if p)


def prepare(texts: dict[str, list[str]], out: Path) -> None:
    """Tokenizer and token shards of the books to learn."""
    if (out / "tokens" / "index.json").exists():
        return
    from fledge.tokenizer.config import TokenizerConfig
    from fledge.tokenizer.tokenizer import Tokenizer
    from fledge.tokenizer.train import train_tokenizer

    learnt = [t for name, b in texts.items() if name not in (*HELD_OUT, "wikitext2") for t in b]
    pairs = [("en", text) for text in learnt]
    config = TokenizerConfig(vocab_size=VOCABULARY)
    train_tokenizer(config, lambda: iter(pairs), lambda: iter(pairs[:5]), out / "tokenizer")
    tokenizer = Tokenizer.load(out / "tokenizer")
    split = {}
    for name, some in (("train", learnt), ("validation", texts[HELD_OUT[0]])):
        ids = [[tokenizer.endoftext_id, *found] for found in tokenizer.encode_batch(some)]
        file = f"{name}-00000.npy"
        (out / "tokens").mkdir(parents=True, exist_ok=True)
        np.save(out / "tokens" / file, np.concatenate([np.array(i, np.uint16) for i in ids]))
        offsets = np.cumsum([0, *map(len, ids)]).astype(np.int64)
        np.save(out / "tokens" / file.replace(".npy", ".offsets.npy"), offsets)
        size = sum(len(text.encode()) for text in some)
        split[name] = {"shards": [{"file": file}], "bytes": size}
    index = {"dtype": "uint16", "vocab_size": tokenizer.vocab_size, "splits": split}
    index["endoftext_id"] = tokenizer.endoftext_id
    (out / "tokens" / "index.json").write_text(json.dumps(index))


def batches(out: Path, seed: int) -> Any:
    """The rows both learn, in their order."""
    from fledge.train.loader import PackedLoader
    from fledge.train.shards import TokenShards

    shards = TokenShards(out / "tokens", "train")
    return PackedLoader(shards, context=CONTEXT, batch_rows=BATCH // CONTEXT, seed=seed)


def train_fledge(out: Path, tokens: int, seed: int) -> tuple[Loss, int, float]:
    """As ``fledge pretrain`` trains, in a scratch folder."""
    import tempfile

    from fledge.core import Silent
    from fledge.model.config import derive
    from fledge.model.decoder import Decoder
    from fledge.train.config import PretrainConfig
    from fledge.train.loop import Training, train
    from fledge.train.objective import cross_entropy
    from fledge.train.optimizers import build_optimizers
    from fledge.train.plan import planned_rates

    steps = tokens // BATCH
    config = PretrainConfig(
        batch_rows=BATCH // CONTEXT,
        context=CONTEXT,
        steps=steps,
        seed=seed,
        checkpoint_every_seconds=1e6,
    )
    # 7.35 M parameters, as nanochat's; wider and one layer deeper, as it has no value embeddings.
    shape = derive(5, VOCABULARY, CONTEXT, width=320, heads=5, kv_heads=5, ffn=832, tied=True)
    model = Decoder(shape).initialize(seed)
    model.compute_dtype = fast_type()
    rates = planned_rates(config, shape.width, BATCH)
    job = Training(
        label="pretrain",
        model=model,
        objective=cross_entropy(config.z_loss),
        batches=batches(out, seed),
        steps=steps,
        context=CONTEXT,
        optimizers=build_optimizers(model, config, matrix_rate=rates[0], other_rate=rates[1]),
        config=config,
        validate=dict,
        out=Path(tempfile.mkdtemp()),
    )
    begun = time.perf_counter()
    train(job, Silent())
    seconds = time.perf_counter() - begun
    model.eval()
    model.compute_dtype = torch.float32

    def loss(ids: Tensor) -> Tensor:
        return F.cross_entropy(model(ids[:, :-1])[0], ids[0, 1:], reduction="none")

    return loss, shape.parameters, seconds


def train_nanochat(out: Path, tokens: int, seed: int) -> tuple[Loss, int, float]:
    """nanochat's model, optimizer and schedules, as its base_train sets them for this batch."""
    with contextlib.redirect_stdout(sys.stderr):
        from nanochat import gpt as room

        torch.manual_seed(seed)
        gpt = room.GPT(
            room.GPTConfig(
                sequence_len=CONTEXT,
                vocab_size=VOCABULARY,
                n_layer=DEPTH,
                n_head=WIDTH // 64,
                n_kv_head=WIDTH // 64,
                n_embd=WIDTH,
                window_pattern="L",
            )
        )
        gpt.init_weights()
        counts = gpt.num_scaling_params()
        # Its horizon is 12 tokens a parameter of matrices and head, also when steps are given.
        horizon = 12 * (counts["transformer_matrices"] + counts["lm_head"])
        share, reference = BATCH / 2**19, 12 * 110_100_480  # of its 12 layers
        decay = 0.28 * math.sqrt(share) * reference / horizon
        scale = math.sqrt(share)
        optimizer = gpt.setup_optimizer(
            unembedding_lr=0.008 * scale,
            embedding_lr=0.3 * scale,
            scalar_lr=0.5 * scale,
            matrix_lr=0.02 * scale,
            weight_decay=decay,
        )
    model = torch.compile(gpt, dynamic=False)
    steps, loader = tokens // BATCH, batches(out, seed)
    begun = time.perf_counter()
    for step in range(steps):
        batch = loader[step]
        targets = batch.targets.masked_fill(batch.weights == 0, -1)
        model(batch.ids, targets).backward()
        set_schedule(optimizer, step, steps, decay)
        optimizer.step()
        gpt.zero_grad(set_to_none=True)
    seconds = time.perf_counter() - begun

    def loss(ids: Tensor) -> Tensor:
        logits = gpt(ids[:, :-1])[0].float()
        return F.cross_entropy(logits, ids[0, 1:], reduction="none")

    return loss, counts["total"], seconds


def set_schedule(optimizer: Any, step: int, steps: int, decay: float) -> None:
    """nanochat's rates, momentum and decay at a step."""
    down = round(0.65 * steps)
    left = (steps - step) / down
    rate = (step + 1) / 40 if step < 40 else 1.0 if step <= steps - down else left * 0.95 + 0.05
    momentum = 0.85 + 0.12 * min(1.0, step / 400)
    if step >= max(400, steps - down):
        momentum = 0.97 - 0.07 * (step - steps + down) / down
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * rate
        if group["kind"] == "muon":
            group["momentum"] = momentum
            group["weight_decay"] = decay * 0.5 * (1 + math.cos(math.pi * step / steps))


@torch.no_grad()
def judge(loss: Loss, texts: dict[str, list[str]], out: Path) -> dict[str, float]:
    """Bits per byte of held-out books and of wikitext2."""
    from fledge.tokenizer.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(out / "tokenizer")
    books = [chapter for name in HELD_OUT for chapter in texts[name]]
    sets = {"books": books, "wikitext2": texts["wikitext2"]}
    return {name: round(bits_per_byte(loss, some, tokenizer), 5) for name, some in sets.items()}


def bits_per_byte(loss: Loss, texts: list[str], tokenizer: Any) -> float:
    """Windows of the context that begin every half of it; a token counts in the first."""
    nats, size, read = 0.0, 0, 0
    for text in texts:
        ids = [tokenizer.endoftext_id, *tokenizer.encode(text)][: JUDGED + 1 - read]
        if read >= JUDGED:
            break
        read += len(ids) - 1
        size += len(tokenizer.decode(ids[1:]).encode())
        counted = 0
        for start in range(0, max(1, len(ids) - 1 - CONTEXT // 2), CONTEXT // 2):
            window = torch.tensor(ids[start : start + CONTEXT + 1])[None]
            losses = loss(window)
            nats += float(losses[counted - start :].double().sum())
            counted = start + losses.shape[0]
    return nats / math.log(2) / size


if __name__ == "__main__":
    main()
