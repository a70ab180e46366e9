"""A base model that never chatted in; the same model with the tokens that a conversation needs."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fledge.core.errors import InputError
from fledge.core.protocols import Progress
from fledge.model.decoder import Decoder
from fledge.tokenizer.tokenizer import Tokenizer
from fledge.tune.turns import chat_tokenizer


@dataclass(frozen=True)
class Speaker:
    """A model and the tokenizer that goes with it.  ``added``: the tokens it learnt to know."""

    model: Decoder
    tokenizer: Tokenizer
    added: tuple[str, ...] = ()


def teach_turns(model: Decoder, tokenizer: Tokenizer, progress: Progress) -> Speaker:
    """Model and tokenizer with a chat template all of whose tokens they know.

    A tokenizer without a template gets ChatML, and the special tokens of it that it lacks: new
    rows of the embedding (and output matrix) begin as the
    mean of the others, so that at first the model writes them as often as an average token.
    """
    if tokenizer.vocab_size > model.config.vocab_size:
        raise InputError(
            f"the tokenizer has {tokenizer.vocab_size} tokens, the model knows "
            f"{model.config.vocab_size}",
            remedy="use the tokenizer the model was trained with",
        )
    extended, missing = chat_tokenizer(tokenizer)
    if not missing:
        return Speaker(model, tokenizer)
    progress.say(
        f"the tokenizer has no chat template: ChatML is used, with {len(missing)} new tokens "
        f"({', '.join(missing)})"
    )
    return Speaker(with_vocabulary(model, extended.vocab_size), extended, missing)


def with_vocabulary(model: Decoder, size: int) -> Decoder:
    """The model with ``size`` tokens at least; new rows are the mean of the old ones."""
    before = model.config.vocab_size
    if size <= before:
        return model
    grown = Decoder(model.config.model_copy(update={"vocab_size": size}), model.compute_dtype)
    weights = model.state_dict()
    for name in ("embed_tokens.weight", "lm_head.weight"):
        if name in weights:
            old = weights[name]
            mean = old.float().mean(0, keepdim=True).to(old.dtype).expand(size - before, -1)
            weights[name] = torch.cat([old, mean])
    grown.load_state_dict(weights)
    return grown.train(model.training)
