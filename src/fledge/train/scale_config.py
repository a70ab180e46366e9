"""Config of ``fledge scale``: which sizes to train, for how long, what to predict.  No torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from fledge.core import Config
from fledge.train.config import PretrainConfig

Size = tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]
"""(layers, width)"""

DERIVED = (
    *("depth", "width", "heads", "kv_heads", "ffn", "init"),
    *("epochs", "steps", "tokens", "max_epochs", "tokens_per_parameter", "seed"),
)
"""What the ladder decides for each run."""


class LadderRunConfig(PretrainConfig):
    """What all runs of a ladder share; see ``pretrain``.  Shape and length differ, so not here."""

    tied: bool | None = True
    """One matrix for embedding and output, at every size: then each of N weights multiplies."""

    @model_validator(mode="after")
    def _leaves_the_ladder_free(self) -> LadderRunConfig:
        taken = [name for name in DERIVED if name in self.model_fields_set]
        if taken:
            raise ValueError(
                f"{taken[0]} is decided by the ladder: set sizes, horizons, flops or its seed"
            )
        return self


class ScaleConfig(Config):
    """A ladder of runs (N parameters, D tokens), from which the scaling law is fitted.

    The defaults take about ten minutes on two CPU cores with a vocabulary of 4,096.
    """

    sizes: tuple[Size, ...] = ((1, 64), (2, 96), (2, 128), (3, 160), (3, 192))
    """(layers, width) of each model."""

    horizons: tuple[Annotated[float, Field(gt=0)], ...] = (1, 2, 4, 8)
    """Lengths of the runs of each size, relative to each other; each is a run of its own with a
    whole schedule of learning rates (a loss in mid-schedule is no loss of a finished run)."""

    flops: float = Field(default=6e13, gt=0)
    """Operations (6 N D) of all runs together, the held-out one included: sets the lengths."""

    tokens: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    """Lengths of the runs in tokens, instead of ``horizons`` and ``flops``."""

    held_out: Size = (4, 256)
    """(layers, width) of the run that is predicted, then trained, and never fitted."""

    held_out_tokens: int | None = Field(default=None, ge=1)
    """Length of the held-out run.  None: as the longest of the ladder."""

    pretrain: LadderRunConfig = LadderRunConfig()
    """What the runs share: context, optimizer, schedule, device …; batch and rates are derived
    from each run's own length and width, unless they are given here."""

    draws: int = Field(default=500, ge=50)
    """Redrawn sets of runs behind each interval."""

    seed: int = Field(default=1234, ge=0)
    """Decides weights, order of the data and redrawn sets."""

    @model_validator(mode="after")
    def _enough(self) -> ScaleConfig:
        lengths = self.tokens or self.horizons
        for name, values in (("sizes", self.sizes), ("lengths", lengths)):
            if len(set(values)) != len(values):
                raise ValueError(f"two of the {name} are the same: {list(values)}")
            if len(values) < 2:
                raise ValueError(f"{len(values)} {name}: a law needs two at least, better five")
        if len(self.sizes) * len(lengths) < 6:
            raise ValueError("fewer than six runs cannot fix five parameters: add sizes or lengths")
        if self.held_out in self.sizes and self.held_out_tokens in (None, *(self.tokens or ())):
            raise ValueError(f"held_out {list(self.held_out)} is one of the sizes: name another")
        return self
