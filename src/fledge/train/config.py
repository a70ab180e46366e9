"""Configs of training: what every stage's loop shares, and pretraining.  No torch."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from fledge.core import Config


class LoopConfig(Config):
    """What the training loop needs, whatever it trains on."""

    incidental: ClassVar[frozenset[str]] = frozenset(
        {"checkpoint_every_seconds", "checkpoint_every_steps", "log_every"}
    )

    batch_rows: int = Field(default=64, ge=1)
    """Rows of ``context`` tokens per optimizer step."""

    micro_rows: int | None = Field(default=None, ge=1)
    """Rows computed at once; divides ``batch_rows``.  None: as many as suit the device.

    Gradients are summed over a step's micro-batches, so this changes memory and speed only.
    """

    epochs: float | None = Field(default=None, gt=0)
    """Passes over the data.  At most one of ``epochs``, ``steps`` and ``tokens`` may be given."""

    steps: int | None = Field(default=None, ge=1)
    """Optimizer steps."""

    optimizer: Literal["muon", "adamw"] = "muon"
    """Muon for the matrices of the layers and AdamW for the rest, or AdamW for all."""

    learning_rate: float | None = Field(default=None, gt=0)
    """Peak rate of the matrices of the layers.  None: derived from the optimizer and stage."""

    embedding_learning_rate: float | None = Field(default=None, gt=0)
    """Peak rate of embeddings, output matrix and norms (AdamW).  None: derived."""

    warmup: float = Field(default=0.02, ge=0, lt=1)
    """Share of the steps over which the rate rises from 0."""

    schedule: Literal["wsd", "linear", "cosine", "constant"] = "wsd"
    """After the warm-up: hold then fall to the end (warm-up, stable, decay), or fall at once."""

    decay: float = Field(default=0.5, ge=0, le=1)
    """Share of the steps over which "wsd" falls."""

    final_rate: float = Field(default=0.02, ge=0, le=1)
    """Rate at the end, as a share of the peak."""

    weight_decay: float = Field(default=0.05, ge=0)
    """Decoupled decay of the matrices of the layers, times the rate; embeddings have none."""

    clip: float = Field(default=1.0, ge=0)
    """Largest norm of the gradient of all weights together; 0 switches clipping off."""

    z_loss: float = Field(default=0.0, ge=0)
    """Weight of log(sum exp logits)^2 (arXiv:2204.02311, 5); 1e-4 tames long runs."""

    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Type of the products.  auto: bf16 where the processor multiplies it natively."""

    compile: bool | Literal["auto"] = "auto"
    """Generate code with torch.compile.  auto: when a run is long enough to earn it back."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train.  auto: a GPU when there is one."""

    threads: int | None = Field(default=None, ge=1)
    """Threads on CPU.  None: the cores this process may use."""

    checkpoint_every_seconds: float = Field(default=20.0, gt=0)
    """Seconds between saves of the training state; stretched when saving takes over 2 %."""

    checkpoint_every_steps: int | None = Field(default=None, ge=1)
    """Steps between saves, besides those by time."""

    validate_every: int | None = Field(default=None, ge=1)
    """Steps between validations.  None: ten in all."""

    log_every: int = Field(default=10, ge=1)
    """Steps between rows of logs/metrics.jsonl and TensorBoard events."""

    seed: int = Field(default=1234, ge=0)
    """Decides the first weights and the order of the data."""

    @model_validator(mode="after")
    def _consistent(self) -> LoopConfig:
        given = [name for name in ("epochs", "steps", "tokens") if getattr(self, name, None)]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} exclude each other: keep one")
        if self.micro_rows and self.batch_rows % self.micro_rows:
            raise ValueError(f"micro_rows must divide batch_rows ({self.batch_rows})")
        if self.warmup + (self.decay if self.schedule == "wsd" else 0) > 1:
            raise ValueError("warmup and decay together exceed the run (1.0)")
        return self


class PretrainConfig(LoopConfig):
    """The stage ``[pretrain]``: a model from token shards, or from ``init`` on."""

    depth: int = Field(default=4, ge=1)
    """Layers; the dial from which the shape is derived."""

    width: int | None = Field(default=None, ge=1)
    """Dimensions of the residual stream.  None: 64 x depth."""

    heads: int | None = Field(default=None, ge=1)
    """Query heads of 64 dimensions.  None: width / 64."""

    kv_heads: int | None = Field(default=None, ge=1)
    """Key and value heads.  None: half the heads where they are even."""

    ffn: int | None = Field(default=None, ge=1)
    """Inner dimensions of the SwiGLU.  None: 8/3 of the width, rounded up to 64."""

    tied: bool | None = None
    """One matrix for embedding and output.  None: below 8 layers."""

    context: int = Field(default=256, ge=2)
    """Tokens per row, which is how far the model can look back."""

    tokens: int | None = Field(default=None, ge=1)
    """Tokens to train on, instead of ``epochs`` or ``steps``."""

    max_epochs: float | None = Field(default=None, gt=0)
    """With ``tokens``: no more than this many passes over the data, however little there is."""

    validation_tokens: int | None = Field(default=None, ge=1)
    """Held-out tokens read for a point of the curve; the final figure reads them all.

    None: a 200th of the tokens trained on, so that ten validations cost about 2 % of the time.
    """

    init: str | None = None
    """Checkpoint to continue from (run, stage or Hugging Face folder); its shape counts."""

    @model_validator(mode="after")
    def _bounds_something(self) -> PretrainConfig:
        if self.max_epochs is not None and self.tokens is None:
            raise ValueError("max_epochs bounds tokens, which is not given: give it, or epochs")
        return self
