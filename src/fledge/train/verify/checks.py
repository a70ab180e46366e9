"""The checks of model, pretraining data and tokenizer, in the order they are run."""

from __future__ import annotations

from fledge.train.verify.attention import cached_decoding, causality, document_leak
from fledge.train.verify.check import CheckFunction
from fledge.train.verify.files import checkpoint_round_trip, finite_weights, tied_weights
from fledge.train.verify.gradient import compiled_code, gradient_check
from fledge.train.verify.rows import label_alignment, loss_masks
from fledge.train.verify.sums import accumulation, packing, padding
from fledge.train.verify.text import (
    tokenizer_round_trip,
    unforgeable_specials,
    vocabulary_fits,
)
from fledge.train.verify.training import accumulation_in_training, resume

CHECKS: tuple[CheckFunction, ...] = (
    finite_weights,
    tied_weights,
    checkpoint_round_trip,
    vocabulary_fits,
    tokenizer_round_trip,
    unforgeable_specials,
    label_alignment,
    loss_masks,
    accumulation,
    accumulation_in_training,
    packing,
    padding,
    document_leak,
    causality,
    cached_decoding,
    gradient_check,
    resume,
)

SLOW: tuple[CheckFunction, ...] = (compiled_code,)
"""Left out by ``--quick``: code is generated anew, which takes a while."""
