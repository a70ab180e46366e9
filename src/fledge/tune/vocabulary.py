"""A base model that never chatted in; the same model with the tokens that a conversation needs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fledge.core.errors import InputError
from fledge.core.files import read_json
from fledge.core.protocols import Progress
from fledge.data.conversations import Rendered
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

    def unmet(self, conversations: Iterable[Rendered], every: bool) -> list[int]:
        """Ids that the base has never read: the added ones, and with ``every`` all special ones.

        Of the special tokens those count that the conversations use.
        """
        found = {self.tokenizer.token_id(token) for token in self.added}
        if every:
            used = set[int]().union(*(one.ids for one in conversations))
            found |= {token for token in used if self.tokenizer.is_special(token)}
        return sorted(found)


def never_chatted(source: Path) -> bool:
    """Whether the checkpoint says that it was pretrained only, so that it has met no turn."""
    manifest = source.resolve().parent / "manifest.json"
    return manifest.is_file() and read_json(manifest).get("stage") == "pretrain"


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
