"""The stages that climb from the base model: SFT, honesty, reward model, DPO, GRPO, PPO.

Rooms are imported when a stage runs, so that listing or checking a recipe stays quick.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fledge.cli.stage import Work, given_or_sample, named_files, rung_before
from fledge.core.config import Config
from fledge.core.errors import InputError
from fledge.core.run import Outcome
from fledge.tune.config import SftConfig
from fledge.tune.embedder_config import EmbedderConfig
from fledge.tune.honesty_config import HonestyConfig
from fledge.tune.preference_config import DpoConfig, PairConfig, RewardConfig
from fledge.tune.reinforce_config import GrpoConfig, PpoConfig, ReinforceConfig


def run_sft(work: Work) -> Outcome:
    """Conversations: those of the config, or of the sample world."""
    from fledge.tune.sft import sft

    config = work.config
    assert isinstance(config, SftConfig)
    files = _conversations(config, work.folders)
    if not files:
        raise InputError("[sft] conversations is empty", remedy="name your JSONL files")
    tokens = work.folders.get("tokens")
    config = _practising(config, work.folders)
    return sft(config, work.folder("pretrain"), files, work.out, work.progress, tokens=tokens)


def sft_files(config: Config) -> list[Path]:
    """Files that the config names."""
    assert isinstance(config, SftConfig)
    practice = named_files("[sft] practice", config.practice)
    return [*practice, *named_files("[sft] conversations", config.conversations)]


def _practising(config: SftConfig, folders: Mapping[str, Path]) -> SftConfig:
    """With the exercises of the sample world, where its conversations are learnt and it has any."""
    if config.practice or config.conversations or "samples" not in folders:
        return config
    path = folders["samples"] / "calculations" / "practice.jsonl"
    found = path.is_file() and path.stat().st_size
    return config.model_copy(update={"practice": [str(path)] if found else []})


def _conversations(config: SftConfig, folders: Mapping[str, Path]) -> list[Path]:
    """The files that the config names, or those of the sample world; none where there is none."""
    if config.conversations or "samples" not in folders:
        return [Path(path) for path in config.conversations]
    rooms = ("conversations", "calculations", "reading")
    found = [folders["samples"] / room / "train.jsonl" for room in rooms]
    return [path for path in found if path.is_file() and path.stat().st_size]


def run_honesty(work: Work) -> Outcome:
    """Facts to be probed: those of the config, or of the sample world."""
    from fledge.tune.honesty import honesty

    config = work.config
    assert isinstance(config, HonestyConfig)
    facts = given_or_sample(work, "[honesty] facts", config.facts, "honesty", "facts.jsonl")
    return honesty(
        config,
        rung_before(work, "honesty"),
        facts,
        work.out,
        work.progress,
        rehearsal=_conversations(config, work.folders),
        tokens=work.folders.get("tokens"),
    )


def honesty_files(config: Config) -> list[Path]:
    """Files that the config names."""
    assert isinstance(config, HonestyConfig)
    named = named_files("[honesty] conversations", config.conversations)
    return [*named, *named_files("[honesty] facts", config.facts)]


def run_reward(work: Work) -> Outcome:
    """Pairs: those of the config, or the judge's of the sample world, which DPO never sees."""
    from fledge.tune.reward import reward

    config = work.config
    assert isinstance(config, RewardConfig)
    files = given_or_sample(
        work, "[reward] preferences", config.preferences, "preferences", "judge.jsonl"
    )
    return reward(config, rung_before(work, "dpo"), files, work.out, work.progress)


def run_dpo(work: Work) -> Outcome:
    """Pairs: those of the config, or of the sample world."""
    from fledge.tune.dpo import dpo

    config = work.config
    assert isinstance(config, DpoConfig)
    files = given_or_sample(
        work, "[dpo] preferences", config.preferences, "preferences", "train.jsonl"
    )
    return dpo(config, rung_before(work, "dpo"), files, work.out, work.progress)


def pair_files(config: Config) -> list[Path]:
    """Files that the config names."""
    assert isinstance(config, PairConfig)
    return named_files("preferences", config.preferences)


def run_grpo(work: Work) -> Outcome:
    """Prompts: those of the config, or those of the sample world."""
    from fledge.tune.reinforce import grpo

    assert isinstance(work.config, GrpoConfig)
    files = _prompts(work, work.config)
    return grpo(work.config, rung_before(work, "grpo"), files, work.out, work.progress)


def run_ppo(work: Work) -> Outcome:
    """Prompts as of GRPO."""
    from fledge.tune.reinforce import ppo

    assert isinstance(work.config, PpoConfig)
    files = _prompts(work, work.config)
    return ppo(work.config, rung_before(work, "ppo"), files, work.out, work.progress)


def _prompts(work: Work, config: ReinforceConfig) -> list[Path]:
    return given_or_sample(work, "prompts", config.prompts, "prompts", "train.jsonl")


def prompt_files(config: Config) -> list[Path]:
    """Files that the config names."""
    assert isinstance(config, ReinforceConfig)
    return named_files("prompts", config.prompts)


def run_embedder(work: Work) -> Outcome:
    """Pairs of texts: those of the config; ``model`` is the embedder to start from, if any."""
    from fledge.tune.embedder import train_embedder

    config = work.config
    assert isinstance(config, EmbedderConfig)
    if not config.pairs:
        raise InputError("[embedder] pairs is empty", remedy="name your JSONL files")
    files = [Path(path) for path in config.pairs]
    model = work.folders.get("model")
    return train_embedder(config, files, work.out, work.progress, model=model)


def embedder_files(config: Config) -> list[Path]:
    """Files and folders that the config names."""
    assert isinstance(config, EmbedderConfig)
    files = named_files("[embedder] pairs", config.pairs)
    for key in ("frequencies", "folding"):
        named = getattr(config.table, key)
        files += named_files(f"[embedder] table.{key}", [named] if named else [])
    if config.teacher and not Path(config.teacher).is_dir():
        raise InputError(
            f"[embedder] teacher: {config.teacher} is no folder", remedy="name an embedder's folder"
        )
    return [*files, *([Path(config.teacher)] if config.teacher else [])]
