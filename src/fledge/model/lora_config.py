"""What low-rank adaptation changes: numbers in, a frozen ``LoraConfig`` out.  No torch."""

from __future__ import annotations

from pydantic import Field

from fledge.core import Config


class LoraConfig(Config):
    """Low-rank adaptation (arXiv:2106.09685): W x + scale B A x with W frozen, B zero at first."""

    rank: int = Field(default=8, ge=1)
    """Rows of A and columns of B (r)."""
    alpha: float = Field(default=16.0, gt=0)
    """Numerator of the scale: alpha / rank, or alpha / sqrt(rank) when stabilised."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the inputs of A set to zero while training."""
    targets: tuple[str, ...] = Field(
        default=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
        min_length=1,
    )
    """Linear layers to adapt, by the last part of their name; each must occur but those a model
    without gates lacks."""
    stabilised: bool = False
    """Scale by alpha / sqrt(rank), so that a large rank learns too (rsLoRA, arXiv:2312.03732)."""
    dora: bool = False
    """Train the length of each output's weights apart from their direction (arXiv:2402.09353)."""

    @property
    def scale(self) -> float:
        """What B A x is multiplied by."""
        return self.alpha / (self.rank**0.5 if self.stabilised else self.rank)
