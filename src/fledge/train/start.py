"""Where pretraining begins: a config and token shards in, a shape and a model out.

New weights come from the seed; ``init`` goes on from a checkpoint, whose alphabet must be that of
the shards: the same numbers for other pieces of text would train a model on noise.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from fledge.core.errors import InputError
from fledge.core.files import file_digest, read_json
from fledge.core.protocols import Progress
from fledge.model.checkpoint import load_config, load_model
from fledge.model.config import ModelConfig, derive
from fledge.model.decoder import Decoder
from fledge.model.locate import find_checkpoint
from fledge.train.config import PretrainConfig
from fledge.train.shards import TokenShards

TOKENIZER = "tokenizer.json"


def check_tokenizer(source: Path) -> None:
    """Raise InputError when there is no tokenizer: before training, not after."""
    if not (source / TOKENIZER).is_file():
        raise InputError(f"{source} has no {TOKENIZER}", remedy="name a tokenizer folder")


def starting_shape(config: PretrainConfig, data: TokenShards, tokenizer: Path) -> ModelConfig:
    """The shape of the model to train: derived from ``depth``, or that of ``init``.

    Raises InputError when ``tokenizer``, shards and checkpoint do not have one alphabet.
    """
    check_tokenizer(tokenizer)
    _check_shards(tokenizer, data)
    if config.init:
        folder = find_checkpoint(config.init)
        shape = load_config(folder)
        _check_checkpoint(folder, shape, tokenizer, data)
        return _reaching(shape, config.context)
    shape = derive(
        config.depth,
        data.vocab_size,
        config.context,
        width=config.width,
        heads=config.heads,
        kv_heads=config.kv_heads,
        ffn=config.ffn,
        tied=config.tied,
    )
    ends = {"bos_id": data.endoftext_id, "eos_ids": (data.end_id,)}
    return shape.model_copy(update=ends)


def _reaching(shape: ModelConfig, context: int) -> ModelConfig:
    """The shape with room for ``context`` tokens; stretched RoPE stays stretched as it was."""
    if context <= shape.context:
        return shape
    scaling = shape.rope_scaling
    if scaling is not None and scaling.original_context is None:
        scaling = scaling.model_copy(update={"original_context": shape.context})
    return shape.model_copy(update={"context": context, "rope_scaling": scaling})


def starting_model(config: PretrainConfig, shape: ModelConfig, progress: Progress) -> Decoder:
    """The model of that shape on CPU, in float32: new, or from ``init`` with all its context.

    In rows shorter than the checkpoint's context it still keeps its reach; in longer ones it
    reaches further, by positions that it meets for the first time.
    """
    if not config.init:
        return Decoder(shape).initialize(config.seed)
    model = load_model(config.init).train()
    if shape.context > model.config.context:
        progress.say(
            f"{config.init} was trained on {model.config.context} tokens at a time: positions up "
            f"to {shape.context} are new to it"
        )
        longer = Decoder(shape, torch.float32)
        longer.load_state_dict(model.state_dict())
        return longer
    if config.context < shape.context:
        progress.say(f"rows of {config.context} tokens; the model keeps its {shape.context}")
    return model


def _check_shards(tokenizer: Path, data: TokenShards) -> None:
    """Raise InputError when ``data`` was not written with the tokenizer, as far as is known."""
    pieces, remedy = alphabet(tokenizer), "name the tokenizer the tokens were written with"
    if pieces and len(pieces) != data.vocab_size:
        raise InputError(
            f"{data.folder} was written with {data.vocab_size} tokens, {tokenizer / TOKENIZER} "
            f"has {len(pieces)}",
            remedy=remedy,
        )
    if data.tokenizer and data.tokenizer != file_digest(tokenizer / TOKENIZER):
        raise InputError(
            f"{data.folder} was written with another tokenizer than {tokenizer / TOKENIZER}, of "
            f"as many tokens (SHA-256 {data.tokenizer[:12]} in its index.json)",
            remedy=remedy,
        )


def _check_checkpoint(folder: Path, shape: ModelConfig, tokenizer: Path, data: TokenShards) -> None:
    """Raise InputError when the checkpoint means other text by the numbers in ``data``."""
    remedy = f"write the tokens with that model's tokenizer: tokenizer.source = {str(folder)!r}"
    if shape.vocab_size < data.vocab_size:
        raise InputError(
            f"{folder} knows {shape.vocab_size} tokens, {data.folder} uses {data.vocab_size}",
            remedy=remedy,
        )
    theirs, ours = alphabet(folder), alphabet(tokenizer)
    if theirs and ours:
        differing = sorted(i for i in ours if theirs.get(i) != ours[i])
        if differing:
            i = differing[0]
            raise InputError(
                f"{folder} means {theirs.get(i)!r} by token {i}, {tokenizer} {ours[i]!r} "
                f"({len(differing)} of {len(ours)} tokens differ)",
                remedy=remedy,
            )
    elif data.endoftext_id not in {shape.bos_id, *shape.eos_ids}:
        raise InputError(
            f"{folder} begins documents with token {shape.bos_id} and ends them with "
            f"{list(shape.eos_ids)}, {data.folder} separates them by {data.endoftext_id}",
            remedy=remedy,
        )


def alphabet(folder: Path) -> dict[int, str]:
    """Token id -> its text, of the ``tokenizer.json`` in ``folder``; empty when that says none."""
    path = folder / TOKENIZER
    if not path.is_file():
        return {}
    described: dict[str, Any] = read_json(path)
    try:
        vocabulary = (described.get("model") or {}).get("vocab") or {}
        if isinstance(vocabulary, list):  # Unigram: pieces with their scores
            vocabulary = {piece: i for i, (piece, _) in enumerate(vocabulary)}
        pieces = {int(i): str(piece) for piece, i in vocabulary.items()}
        for token in described.get("added_tokens") or []:
            pieces[int(token["id"])] = str(token["content"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} is no tokenizer: {error}", remedy="copy or train it again"
        ) from None
    return pieces
