"""A checkpoint and data on disk in, the subject of the checks out; what is missing is built in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from fledge.core.errors import InputError
from fledge.model.checkpoint import load_model
from fledge.model.config import derive
from fledge.model.decoder import Decoder
from fledge.model.locate import find_checkpoint
from fledge.tokenizer.tokenizer import Tokenizer
from fledge.train.shards import TokenShards
from fledge.train.verify.check import Subject
from fledge.train.verify.sample import sample_tokenizer, sample_tokens, write_sample

BUILT_IN = "the built-in sample"
CONTEXT, WIDTH = 256, 64


def open_subject(
    model: Path | None,
    tokens: Path | None,
    tokenizer: Path | None,
    conversations: Sequence[Path],
    scratch: Path,
) -> Subject:
    """What ``fledge verify`` was given, completed from the sample world written to ``scratch``.

    Without ``model`` a small random one is verified: that is fledge itself.  Raises InputError
    for what cannot be read.
    """
    source = find_checkpoint(model) if model is not None else None
    world = scratch / "world"
    sample = write_sample(world)
    folder = tokenizer or _tokenizer_beside(source)
    if folder is None and source is None and tokens is None:
        folder = scratch / "tokenizer"
        sample_tokenizer(world, folder)
    words = Tokenizer.load(folder) if folder is not None else None
    data = f"the {tokens.name} folder" if tokens is not None else BUILT_IN
    if tokens is None and words is not None:
        tokens = _sample_tokens(world, words, scratch / "tokens")
    decoder = load_model(source) if source is not None else _random_model(words, tokens)
    decoder.compute_dtype = torch.float32
    return Subject(
        model=decoder.eval(),
        source=source,
        tokenizer=words,
        tokenizer_folder=folder,
        tokens=tokens,
        conversations=tuple(conversations) or (sample,),
        own_conversations=bool(conversations),
        data=data,
        scratch=scratch,
    )


def _tokenizer_beside(source: Path | None) -> Path | None:
    return source if source is not None and (source / "tokenizer.json").is_file() else None


def _sample_tokens(world: Path, tokenizer: Tokenizer, out: Path) -> Path | None:
    """The sample as shards, or None when the tokenizer has no token to begin a document with."""
    try:
        return sample_tokens(world, tokenizer, out)
    except InputError:
        return None


def _random_model(tokenizer: Tokenizer | None, tokens: Path | None) -> Decoder:
    """A small model with random weights, none of them zero, for the data there is."""
    if tokenizer is not None:
        vocabulary = tokenizer.vocab_size
        ends = tuple({tokenizer.padding_id, tokenizer.eos_id or tokenizer.padding_id})
    elif tokens is not None:
        shards = TokenShards(tokens, "train")
        vocabulary, ends = shards.vocab_size, (shards.end_id,)
    else:
        raise InputError("nothing to verify", remedy="name a model")
    config = derive(2, vocabulary, CONTEXT, width=WIDTH, heads=2, kv_heads=1)
    model = Decoder(config.model_copy(update={"eos_ids": ends}))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            noise = torch.randn(weight.shape, generator=generator)
            weight.copy_(1 + 0.1 * noise if weight.ndim == 1 else 0.15 * noise)
    return model
