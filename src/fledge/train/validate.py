"""Bits per byte on held-out token shards."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch

from fledge.model.decoder import Decoder
from fledge.train.batch import Batch, Rows
from fledge.train.objective import token_losses
from fledge.train.shards import Stream, TokenShards
from fledge.train.world import ALONE, World

TOKENS = 4096
"""Tokens of a batch: bounds the memory that logits take."""


def bits_per_byte(
    model: Decoder,
    shards: TokenShards,
    *,
    context: int,
    stride: int,
    tokens: int | None = None,
    advance: Callable[[float], None] = lambda tokens: None,
    world: World = ALONE,
) -> float:
    """Code length of the documents' text under the model, in bits per UTF-8 byte.

    Documents are read end to end in windows of ``context`` tokens that begin every ``stride``
    tokens; a token is counted once, in the first window that predicts it, so all but the first
    window's have at least ``context - stride`` tokens before them (of their own document only).
    <|endoftext|> is not counted: it is no text.  ``tokens`` reads only the first documents,
    until they hold that many; ``advance`` is told how many were counted.  The processes of
    ``world`` read different windows, and all get the result.
    """
    documents = documents_read(shards, tokens)
    stream = Stream(shards, np.arange(documents))
    nats = 0.0
    with torch.no_grad():
        for batch, counted in world.deal(_windows(stream, context, stride, shards.endoftext_id)):
            batch = batch.to(model.device)
            losses = token_losses(model, batch).double()
            nats += float((losses * batch.weights).sum())
            advance(counted)
    return world.sums(nats)[0] / math.log(2) / int(shards.document_bytes()[:documents].sum())


def documents_read(shards: TokenShards, tokens: int | None) -> int:
    """How many of the first documents hold so many tokens; all where None or too few."""
    if tokens is None:
        return shards.documents
    return min(shards.documents, int(np.searchsorted(np.cumsum(shards.lengths), tokens)) + 1)


def _windows(stream: Stream, context: int, stride: int, endoftext: int) -> Iterator[Batch]:
    """All windows, in batches of one shape; weight 1 where a token is predicted first."""
    begins = range(0, max(1, stream.tokens - 1), stride)
    count = max(1, TOKENS // context)
    for first in range(0, len(begins), count):
        rows = Rows(count, context, endoftext)
        for place, begin in enumerate(begins[first : first + count]):
            tokens, owners = stream.window(begin, context + 1)
            length = min(context, len(tokens))
            rows.ids[place, :length] = tokens[:length]
            rows.segments[place, :length] = owners[:length]
            rows.targets[place, : len(tokens) - 1] = tokens[1:]
            fresh = 0 if begin == 0 else context - stride  # targets the window before counted
            rows.weights[place, fresh : len(tokens) - 1] = tokens[1 + fresh :] != endoftext
        yield rows.batch()
