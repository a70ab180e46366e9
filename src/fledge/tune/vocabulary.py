"""A base model that never chatted in; the same model with the tokens that a conversation needs."""

from __future__ import annotations

from dataclasses import dataclass

from fledge.core.errors import InputError
from fledge.core.protocols import Progress
from fledge.model.decoder import Decoder
from fledge.model.token_rows import grow_vocabulary
from fledge.tokenizer.tokenizer import Tokenizer
from fledge.tune.turns import chat_tokenizer


@dataclass(frozen=True)
class Speaker:
    """A model and the tokenizer that goes with it.  ``added``: the tokens it learnt to know."""

    model: Decoder
    tokenizer: Tokenizer
    added: tuple[str, ...] = ()

    @property
    def new_ids(self) -> list[int]:
        """The ids of those tokens."""
        return [self.tokenizer.token_id(token) for token in self.added]


def teach_turns(model: Decoder, tokenizer: Tokenizer, progress: Progress) -> Speaker:
    """Model and tokenizer with a chat template all of whose tokens they know.

    A tokenizer without a template gets ChatML, and the special tokens of it that it lacks: new
    rows of the embedding (and output matrix) begin as the mean of the others.
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
    grow_vocabulary(model, extended.vocab_size)
    return Speaker(model, extended, missing)
