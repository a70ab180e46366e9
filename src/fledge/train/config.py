"""Configs of training: what every stage's loop shares, and pretraining.  No torch."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from fledge.core import Config

Share = Annotated[float, Field(ge=0, lt=1)]


class LoopConfig(Config):
    """What the training loop needs, whatever it trains on."""

    incidental: ClassVar[frozenset[str]] = frozenset(
        {"checkpoint_every_seconds", "checkpoint_every_steps", "log_every", "wandb"}
    )

    batch_rows: int = Field(default=64, ge=1)
    """Rows of ``context`` tokens per optimizer step."""

    micro_rows: int | None = Field(default=None, ge=1)
    """Rows computed at once; divides ``batch_rows``.  None: as many as suit the device.

    Gradients are summed over a step's micro-batches, so this changes memory and speed only.
    """

    activation_checkpointing: bool = False
    """Keep only each layer's input for the backward pass and compute the rest again.

    A third more work for far less memory: for models or rows that do not fit otherwise.
    """

    epochs: float | None = Field(default=None, gt=0)
    """Passes over the data.  At most one of ``epochs``, ``steps`` and ``tokens`` may be given."""

    steps: int | None = Field(default=None, ge=1)
    """Optimizer steps."""

    optimizer: Literal["muon", "adamw", "lion", "adamw8bit"] = "muon"
    """Muon for the matrices of the layers and AdamW for the rest; AdamW or Lion for all; or
    AdamW with 8-bit states for the matrices (bitsandbytes) and plain for the rest."""

    betas: tuple[Share, Share] | None = None
    """Averaging of gradients and their squares.  None: 0.9 and 0.95, for Lion 0.9 and 0.99."""

    eps: float | None = Field(default=None, gt=0)
    """Added to AdamW's root mean square.  None: 1e-8, and for embedding and output matrix 0.08 /
    tokens of a batch (8,192 at least), so that tokens never met are not pushed away for ever."""

    momentum: Share = 0.95
    """Averaging of gradients in Muon."""

    learning_rate: float | None = Field(default=None, gt=0)
    """Peak rate of the matrices of the layers.  None: derived from the optimizer and stage."""

    embedding_learning_rate: float | None = Field(default=None, gt=0)
    """Peak rate of embeddings, output matrix and norms (AdamW).  None: derived."""

    warmup: float = Field(default=0.02, ge=0, lt=1)
    """Share of the steps over which the rate rises from 0."""

    warmup_steps: int | None = Field(default=None, ge=0)
    """Steps over which the rate rises, instead of the share ``warmup``."""

    schedule: Literal["wsd", "linear", "cosine", "constant"] = "wsd"
    """After the warm-up: hold then fall to the end (warm-up, stable, decay), or fall at once."""

    decay: float = Field(default=0.5, ge=0, le=1)
    """Share of the steps over which "wsd" falls, after the warm-up at the earliest."""

    cooldown: Literal["linear", "1-sqrt"] = "linear"
    """How "wsd" falls: in a line, or steeply at first (1 - sqrt, arXiv:2405.18392)."""

    final_rate: float = Field(default=0.02, ge=0, le=1)
    """Rate at the end, as a share of the peak."""

    weight_decay: float | None = Field(default=None, ge=0)
    """Decoupled decay of the matrices of the layers, times the rate.  None: 0.2 with Muon, 0.1
    with AdamW, 1.0 with Lion, whose rates are ten times lower; with LoRA 0."""

    embedding_weight_decay: float = Field(default=0.0, ge=0)
    """Decay of the embedding, which is the output matrix too when tied."""

    output_weight_decay: float = Field(default=0.0, ge=0)
    """Decay of the output matrix when it is one of its own."""

    vector_weight_decay: float = Field(default=0.0, ge=0)
    """Decay of the weights of norms and of biases."""

    ema: float | None = Field(default=None, gt=0, lt=1)
    """Keep a running average of the weights with this decay, and validate and save that.

    Half of it comes from the last ln 2 / (1 - ema) steps: 69 at 0.99, 693 at 0.999.  It costs
    one copy of the weights.
    """

    clip: float = Field(default=1.0, ge=0)
    """Largest norm of the gradient of all weights together; 0 switches clipping off."""

    z_loss: float = Field(default=0.0, ge=0)
    """Weight of log(sum exp logits)^2 (arXiv:2204.02311, 5); 1e-4 tames long runs."""

    precision: Literal["auto", "fp32", "bf16", "fp8"] = "auto"
    """Type of the products.  auto: bf16 where it is native and, as measured, not slower.  fp8:
    the layers' products in 8-bit floats, on GPUs that have them; the rest in bf16."""

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

    samples: list[str] = Field(default_factory=list)
    """Texts that the model continues, or messages that it answers once it is fine-tuned, at every
    validation: in samples.jsonl, TensorBoard and the report."""

    wandb: bool | str = False
    """Send the same figures to Weights & Biases, too; a text names the project.  Needs the package
    wandb, whose own WANDB_MODE = offline keeps everything on this machine."""

    spike_sigma: float = Field(default=10.0, ge=0)
    """A batch is skipped when its loss lies this many robust standard deviations above the median
    of the last 64 steps, and 0.25 nats at least; 0 switches that off.  A loss that is no number is
    always skipped."""

    max_rewinds: int = Field(default=3, ge=0)
    """After three skipped batches within 64 steps the run goes back to an earlier good state and
    on with later data; so many times before it stops.  0: stop at the first bad batch."""

    rewind_every: int | None = Field(default=None, ge=1)
    """Steps between the states to go back to.  None: a 20th of the run, within 100 and 1,000."""

    seed: int = Field(default=1234, ge=0)
    """Decides the first weights and the order of the data."""

    @model_validator(mode="after")
    def _consistent(self) -> LoopConfig:
        given = [name for name in ("epochs", "steps", "tokens") if getattr(self, name, None)]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} exclude each other: keep one")
        if self.micro_rows and self.batch_rows and self.batch_rows % self.micro_rows:
            raise ValueError(f"micro_rows must divide batch_rows ({self.batch_rows})")
        warmup = self.warmup if self.warmup_steps is None else 0.0
        if warmup + (self.decay if self.schedule == "wsd" else 0) > 1:
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

    batch_rows: int | None = Field(default=None, ge=1)  # type: ignore[assignment]
    """Rows of ``context`` tokens per optimizer step.  None: derived from the horizon, see
    docs/learning-rates.md."""

    context: int = Field(default=256, ge=2)
    """Tokens per row, which is how far the model can look back."""

    tokens: int | None = Field(default=None, ge=1)
    """Tokens to train on, instead of ``epochs`` or ``steps``."""

    tokens_per_parameter: float = Field(default=20.0, gt=0)
    """With neither tokens, steps nor epochs: this many tokens for each weight of a matrix that
    multiplies (arXiv:2203.15556), at most ``max_epochs`` passes over the data."""

    max_epochs: float | None = Field(default=None, gt=0)
    """Bounds ``tokens`` or the derived horizon: no more than this many passes over the data.

    None: no bound for ``tokens``, 4 for the derived horizon (arXiv:2305.16264).
    """

    validation_tokens: int | None = Field(default=None, ge=1)
    """Held-out tokens read for a point of the curve; the final figure reads them all.

    None: a 200th of the tokens trained on, so that ten validations cost about 2 % of the time.
    """

    packing: Literal["best_fit", "stream"] = "best_fit"
    """How documents share rows: whole where they fit (arXiv:2404.10830), or cut from a stream."""

    mixture: dict[str, Annotated[float, Field(gt=0, le=1)]] = Field(default_factory=dict)
    """Other tokens folders and their shares of the rows; the recipe's own tokens get the rest.

    Each goes through its own epochs; all must be written with the same tokenizer.
    """

    init: str | None = None
    """Checkpoint to continue from (run, stage or Hugging Face folder); its shape counts."""

    @model_validator(mode="after")
    def _bounds_something(self) -> PretrainConfig:
        given = [name for name in ("steps", "epochs") if getattr(self, name) is not None]
        if self.max_epochs is not None and given:
            raise ValueError(f"max_epochs bounds tokens or a derived horizon, not {given[0]}")
        if sum(self.mixture.values()) > 1 + 1e-9:
            raise ValueError(f"the shares of mixture add up to {sum(self.mixture.values()):g} > 1")
        return self
