"""Configs of reinforcement learning.  No torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from fledge.tune.config import Adapted

TASK = "task"
"""In a table of rewards: the verifier that a prompt's row names, or else the config."""

Texts = Annotated[list[str], BeforeValidator(lambda one: [one] if isinstance(one, str) else one)]
"""A single text stands for a list of one."""


class ReinforceConfig(Adapted):
    """What GRPO and PPO share: prompts, rewards, rollouts, the clipped loss, what is watched."""

    prompts: Texts = Field(default_factory=list)
    """JSONL files: ``messages``, what the verifier compares with (``answer``), ``verifier``."""

    verifier: str = "exact"
    """Who judges answers to prompts that name no verifier."""

    rewards: dict[str, float] = Field(default_factory=lambda: {TASK: 1.0}, min_length=1)
    """Verifier -> weight of its score; ``task`` is the one that the prompt names.  Penalties such
    as ``length`` and ``repetition`` are 0 or less, and have positive weights as well."""

    verifier_seconds: float = Field(default=5.0, gt=0)
    """What a verifier may take for one answer; then it counts as failed, and as 0."""

    held_out: float = Field(default=0.1, ge=0, lt=1)
    """Share of the prompts kept for measuring, never trained on."""

    measured: int = Field(default=64, ge=1)
    """Held-out prompts answered for a point of the curve, at most."""

    patience: int = Field(default=3, ge=0)
    """Stop when so many validations in a row stay below the best held-out reward while training
    reward rises, and keep the best weights; 0: never."""

    batch_rows: int = Field(default=64, ge=1)
    """Answers of a rollout, ``group`` to each prompt."""

    group: int = Field(default=8, ge=1)
    """Answers to each prompt."""

    passes: int = Field(default=1, ge=1)
    """Times that a rollout is learnt before the next."""

    parts: int = Field(default=1, ge=1)
    """Pieces into which a pass is cut, an optimizer step each."""

    temperature: float = Field(default=1.0, gt=0)
    """Answers are drawn, and their probabilities taken, at this temperature."""

    max_new_tokens: int = Field(default=128, ge=1)
    """The most tokens drawn for an answer, over all its turns."""

    room: int | None = Field(default=None, ge=1)
    """Tokens of the context that a prompt must leave to its answer; longer prompts are left out.
    None: ``max_new_tokens``.  With less, answers to long prompts end where the context does."""

    think_tokens: int | None = Field(default=None, ge=1)
    """After so many tokens a thinking span is closed; None: it may take all."""

    tools: Texts = Field(default_factory=list)
    """Tools that answers may call: calculator."""

    list_tools: bool = True
    """Write the tools into the prompts.  Off: the model learnt to call them without being told,
    which leaves a short context to the question."""

    rounds: int = Field(default=3, ge=1)
    """Turns with calls in an answer, at most."""

    clip_low: float = Field(default=0.2, gt=0, lt=1)
    """How far the probability of a bad token may fall in a rollout, as a share."""

    clip_high: float = Field(default=0.2, gt=0)
    """How far that of a good token may rise; 0.28 leaves room to rare ones (clip-higher)."""

    clip_cap: float | None = Field(default=None, gt=1)
    """Bounds the ratio of bad tokens as well (dual clip); None: it is not bounded."""

    kl_weight: float = Field(default=0.0, ge=0)
    """Weight of the KL to the model that training began from."""

    kl_estimator: Literal["k1", "k2", "k3"] = "k3"
    """How KL is estimated from the drawn tokens."""

    kl_in: Literal["loss", "reward"] = "loss"
    """Where KL is charged: in the loss, or at each token in the reward."""

    kl_corrected: bool = False
    """Weigh the KL in the loss by the ratio of new to old probability (arXiv:2512.02556, 3.1), so
    that it is that of the present model even after several updates of a rollout."""

    kl_target: float | None = Field(default=None, gt=0)
    """Lead the KL to so many nats an answer by changing ``kl_weight``; None: it is fixed."""

    kl_horizon: float = Field(default=10_000.0, gt=0)
    """Answers within which ``kl_weight`` may change by a fifth."""

    watch_kl: bool = True
    """Measure KL even when nothing depends on it; it costs a copy of the model."""

    entropy_weight: float = Field(default=0.0, ge=0)
    """Weight of a bonus on the entropy of what tokens are drawn from."""

    normalise: Literal["token", "answer", "constant"] = "token"
    """Every token counts the same (DAPO), every answer does (GRPO), or every token counts
    1 / ``max_new_tokens`` of an answer (Dr. GRPO)."""

    mask_truncated: bool = False
    """Learn nothing from answers that were cut off."""

    overlong_margin: int = Field(default=0, ge=0)
    """Tokens before ``max_new_tokens`` from which the reward falls, by 1 at the end; 0: never."""

    give_up_after: int = Field(default=8, ge=1)
    """Stop with an error when no prompt of the first so many rollouts had answers that differ in
    reward."""

    runner: Literal["auto", "native", "torch"] = "auto"
    """What computes the rollouts."""

    optimizer: Literal["muon", "adamw", "lion", "adamw8bit"] = "adamw"
    """As for pretraining.  Muon takes full steps however small the gradient is, which rollouts
    without a signal do not deserve."""

    schedule: Literal["wsd", "linear", "cosine", "constant"] = "constant"
    """After the warm-up: stay, or fall."""

    compile: bool | Literal["auto"] = False
    """Generate code with torch.compile: rows are of many lengths, which it likes ill."""

    spike_sigma: float = Field(default=0.0, ge=0)
    """As for pretraining; off, since losses of this kind are no measure of anything."""

    @model_validator(mode="after")
    def _adds_up(self) -> ReinforceConfig:
        if self.batch_rows % self.group:
            raise ValueError(f"group ({self.group}) must divide batch_rows ({self.batch_rows})")
        if self.parts > self.batch_rows:
            raise ValueError(f"parts ({self.parts}) exceeds batch_rows ({self.batch_rows})")
        if self.think_tokens is not None and self.think_tokens >= self.max_new_tokens:
            raise ValueError("think_tokens must be below max_new_tokens")
        if self.room is not None and self.room > self.max_new_tokens:
            raise ValueError("room must not exceed max_new_tokens")
        if self.overlong_margin >= self.max_new_tokens:
            raise ValueError("overlong_margin must be below max_new_tokens")
        return self

    @property
    def updates(self) -> int:
        """Optimizer steps a rollout."""
        return self.passes * self.parts


class GrpoConfig(ReinforceConfig):
    """The stage ``[grpo]``: better answers by comparing several to each prompt."""

    advantage: Literal["group", "mean", "leave_one_out", "none"] = "group"
    """What an answer's reward is compared with: mean and deviation of its group (GRPO), the mean
    alone (Dr. GRPO), the mean of the others (RLOO), or nothing (REINFORCE)."""

    ratio: Literal["token", "answer"] = "token"
    """What is clipped: the ratio of each token, or of the whole answer (RLOO)."""

    redraws: int = Field(default=0, ge=0)
    """Further prompts are drawn, so many times as a rollout holds, in the place of those whose
    answers all get the same reward (dynamic sampling)."""

    @model_validator(mode="after")
    def _compares(self) -> GrpoConfig:
        if self.group == 1 and self.advantage != "none":
            raise ValueError("group = 1 leaves nothing to compare with: raise it")
        return self


class PpoConfig(ReinforceConfig):
    """The stage ``[ppo]``: better answers by a critic that says what to expect."""

    group: int = Field(default=1, ge=1)
    """Answers to each prompt."""

    passes: int = Field(default=2, ge=1)
    """Times that a rollout is learnt before the next."""

    kl_weight: float = Field(default=0.02, ge=0)
    """Weight of the KL to the model that training began from."""

    kl_estimator: Literal["k1", "k2", "k3"] = "k1"
    """How KL is estimated from the drawn tokens."""

    kl_in: Literal["loss", "reward"] = "reward"
    """Where KL is charged: in the loss, or at each token in the reward."""

    critic: Literal["own", "shared"] = "own"
    """Values from a model of their own, begun as a copy, or from a head on the trained one."""

    critic_learning_rate: float | None = Field(default=None, gt=0)
    """Peak rate of the critic.  None: as the model's, ten times that for the head alone."""

    gamma: float = Field(default=1.0, gt=0, le=1)
    """What a reward is worth a token earlier."""

    lam: float = Field(default=0.95, ge=0, le=1)
    """GAE: between the critic's word alone (0) and the rewards' alone (1)."""

    value_weight: float = Field(default=0.5, ge=0)
    """Weight of the critic's loss."""

    value_clip: float | None = Field(default=0.2, gt=0)
    """How far a value may move in a rollout; None: as far as it will."""

    whiten: bool = True
    """Scale the advantages of a rollout to mean 0 and variance 1."""
