"""The stages of a recipe, in order: each table's config, what it reads, and who does the work."""

from __future__ import annotations

from functools import partial

from fledge.cli import stages_base as base
from fledge.cli import stages_grounded as grounded
from fledge.cli import stages_tuned as tuned
from fledge.cli.stage import Stage, Work
from fledge.core.config import Config
from fledge.core.run import Outcome
from fledge.data.config import CorpusConfig, TokensConfig
from fledge.evals.config import EvalsConfig
from fledge.model.locate import RUNGS
from fledge.rag.ground_config import GroundConfig
from fledge.samples.bridges.config import SamplesConfig
from fledge.tokenizer.config import TokenizerConfig
from fledge.train.config import PretrainConfig
from fledge.tune.config import SftConfig
from fledge.tune.embedder_config import EmbedderConfig
from fledge.tune.honesty_config import HonestyConfig
from fledge.tune.preference_config import DpoConfig, RewardConfig
from fledge.tune.reinforce_config import GrpoConfig, PpoConfig


def _evals(work: Work) -> Outcome:
    from fledge.evals.ladder import Sources, evaluate_ladder
    from fledge.tune.calculator import Calculator

    assert isinstance(work.config, EvalsConfig)
    rungs = {name: work.folders[name] for name in RUNGS if name in work.folders}
    sets = work.folders["samples"] / "evals" if "samples" in work.folders else None
    judges = {}
    if "reward" in work.folders:
        from fledge.evals.win_rate import by_score
        from fledge.tune.reward_model import RewardModel

        judge = RewardModel.load(work.folders["reward"])
        judges["reward"] = by_score(partial(judge.score_all, cut=True))
    sources = Sources(
        sets=sets, tokens=work.folders.get("tokens"), tools=[Calculator()], judges=judges
    )
    return evaluate_ladder(work.config, rungs, sources, work.out, work.progress)


STAGES: dict[str, Stage] = {
    "samples": Stage(config=SamplesConfig, run=base.run_samples),
    "corpus": Stage(
        config=CorpusConfig, run=base.run_corpus, reads=("samples",), files=base.corpus_files
    ),
    "tokenizer": Stage(
        config=TokenizerConfig,
        run=base.run_tokenizer,
        reads=("corpus",),
        files=base.tokenizer_files,
    ),
    "tokens": Stage(config=TokensConfig, run=base.run_tokens, reads=("corpus", "tokenizer")),
    "pretrain": Stage(
        config=PretrainConfig,
        run=base.run_pretrain,
        reads=("tokens", "tokenizer"),
        files=base.pretrain_files,
        together=True,
    ),
    "sft": Stage(
        config=SftConfig,
        run=tuned.run_sft,
        reads=("samples", "tokens", "pretrain"),
        files=tuned.sft_files,
        together=True,
    ),
    "honesty": Stage(
        config=HonestyConfig,
        run=tuned.run_honesty,
        reads=("samples", "tokens", "sft"),
        files=tuned.honesty_files,
        together=True,
    ),
    "reward": Stage(
        config=RewardConfig,
        run=tuned.run_reward,
        reads=("samples", *RUNGS[: RUNGS.index("dpo")]),
        files=tuned.pair_files,
    ),
    "dpo": Stage(
        config=DpoConfig,
        run=tuned.run_dpo,
        reads=("samples", *RUNGS[: RUNGS.index("dpo")]),
        files=tuned.pair_files,
        together=True,
    ),
    "grpo": Stage(
        config=GrpoConfig,
        run=tuned.run_grpo,
        reads=("samples", *RUNGS[: RUNGS.index("grpo")]),
        files=tuned.prompt_files,
    ),
    "ppo": Stage(
        config=PpoConfig,
        run=tuned.run_ppo,
        reads=("samples", *RUNGS[: RUNGS.index("ppo")]),
        files=tuned.prompt_files,
    ),
    "embedder": Stage(config=EmbedderConfig, run=tuned.run_embedder, files=tuned.embedder_files),
    "evals": Stage(config=EvalsConfig, run=_evals, reads=("samples", "tokens", "reward", *RUNGS)),
    "ground": Stage(
        config=GroundConfig,
        run=grounded.run_ground,
        reads=("samples", "corpus", *RUNGS),
        files=grounded.ground_files,
    ),
}
"""In the order in which they run, whatever the order of a recipe's tables."""

KINDS: dict[str, type[Config]] = {name: stage.config for name, stage in STAGES.items()}
