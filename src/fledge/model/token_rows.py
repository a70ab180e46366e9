"""Some rows of a frozen embedding or output matrix that learn, and new tokens for a model.

A model that learns by LoRA may yet meet tokens it has never seen: those of a chat template.  Their
rows alone are trained, as PEFT's ``trainable_token_indices`` does.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fledge.model.decoder import Decoder
from fledge.model.linear import Linear
from fledge.model.quantized import replace_module
from fledge.model.weights import place

TABLES = ("embed_tokens", "lm_head")
"""Modules of a decoder that have a row for each token."""


class TokenRows(nn.Module):
    """A frozen matrix ``base.weight`` (V,D) in which the rows ``places`` (n) are ``rows`` (n,D).

    The whole matrix is put together at every use, so that it costs a copy of it.
    """

    places: Tensor

    def __init__(self, base: nn.Embedding | Linear, places: Sequence[int]) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.enabled = True
        self.register_buffer("places", torch.tensor(places, device=base.weight.device))
        self.rows = nn.Parameter(base.weight.detach()[self.places].float())

    @property
    def weight(self) -> Tensor:
        """The matrix as it is now, (V,D)."""
        if not self.enabled:
            return self.base.weight
        return self.base.weight.index_copy(0, self.places, self.rows.to(self.base.weight.dtype))


def learn_rows(
    model: Decoder, places: Sequence[int], tables: Sequence[str] = TABLES
) -> list[TokenRows]:
    """Let the rows ``places`` of embedding and output matrix learn; all else stays as it is.

    An output matrix that LoRA changes has rows that learn already.  Returns the matrices.
    """
    found = []
    for name in tables if places else ():
        part = getattr(model, name)
        if isinstance(part, nn.Embedding | Linear):
            found.append(TokenRows(part, places))
            setattr(model, name, found[-1])
    return found


def token_rows(model: nn.Module) -> dict[str, TokenRows]:
    """Names and matrices with rows that learn, in order."""
    return {name: part for name, part in model.named_modules() if isinstance(part, TokenRows)}


@torch.no_grad()
def merge_rows(model: nn.Module) -> None:
    """Write the rows into their matrices: plain modules remain."""
    for name, part in token_rows(model).items():
        part.base.weight.copy_(part.weight)
        replace_module(model, name, part.base.requires_grad_(True))


def remove_rows(model: nn.Module) -> None:
    """The matrices as they were before ``learn_rows``."""
    for name, part in token_rows(model).items():
        replace_module(model, name, part.base.requires_grad_(True))


@torch.no_grad()
def grow_vocabulary(model: Decoder, size: int) -> None:
    """Give the model ``size`` tokens at least, in place; new rows are the mean of the old ones.

    So at first it writes a new token as often as an average one.
    """
    before = model.config.vocab_size
    if size <= before:
        return
    for name in TABLES:
        part = getattr(model, name)
        if part is not None:
            old = part.weight.detach()
            mean = old.float().mean(0, keepdim=True).to(old.dtype).expand(size - before, -1)
            place(model, f"{name}.weight", torch.cat([old, mean]))
    model.embed_tokens.num_embeddings = size
    model.config = model.config.model_copy(update={"vocab_size": size})
