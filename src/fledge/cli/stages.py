"""The stages of a recipe: each table's config, what it reads, and the room that does the work.

Rooms are imported when a stage runs, so that listing or checking a recipe stays quick.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fledge.core.config import Config
from fledge.core.errors import InputError
from fledge.core.files import file_digest
from fledge.core.protocols import Progress
from fledge.core.run import Outcome
from fledge.data.config import CorpusConfig, TokensConfig
from fledge.evals.config import EvalsConfig
from fledge.samples.bridges.config import SamplesConfig
from fledge.tokenizer.config import TokenizerConfig
from fledge.train.config import PretrainConfig
from fledge.tune.config import SftConfig
from fledge.tune.preference_config import DpoConfig, PairConfig, RewardConfig


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a stage is given: its config, finished stages' folders, where to write."""

    config: Config
    folders: dict[str, Path]
    out: Path
    progress: Progress

    def folder(self, stage: str) -> Path:
        """The folder of an earlier stage; raises InputError when the recipe lacks it."""
        if stage not in self.folders:
            raise InputError(f"this stage needs [{stage}]", remedy=f"add a table [{stage}] before")
        return self.folders[stage]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One table of a recipe."""

    config: type[Config]
    run: Callable[[Work], Outcome]
    reads: tuple[str, ...] = ()
    """Stages whose folders it reads when the recipe has them."""
    files: Callable[[Config], list[Path]] = field(default=lambda config: [])
    """Files and folders outside the run that the config names."""
    together: bool = False
    """Whether, under torchrun, all processes run it; otherwise the main one does."""


def _samples(work: Work) -> Outcome:
    from fledge.samples.bridges.world import write_world

    assert isinstance(work.config, SamplesConfig)
    try:
        return write_world(work.config, work.out, work.progress)
    except ValueError as error:
        raise InputError(f"[samples]: {error}", remedy="ask for fewer") from None


def _corpus(work: Work) -> Outcome:
    from fledge.data.corpus import build_corpus

    config = work.config
    assert isinstance(config, CorpusConfig)
    inputs: list[Path | str] = list(config.input)
    truth = None
    if not inputs and "samples" in work.folders:
        inputs = [work.folders["samples"] / "web"]
        truth = work.folders["samples"] / "truth" / "pages.jsonl"
    if not inputs:
        raise InputError(
            "[corpus] input is empty", remedy="--set corpus.input='[\"FOLDER\"]' names your pages"
        )
    return build_corpus(config, inputs, work.out, work.progress, truth=truth)


def _corpus_files(config: Config) -> list[Path]:
    from fledge.data.inputs import expand_inputs

    assert isinstance(config, CorpusConfig)
    return expand_inputs(config.input) if config.input else []


def _tokenizer(work: Work) -> Outcome:
    from fledge.tokenizer.train import train_tokenizer

    assert isinstance(work.config, TokenizerConfig)
    corpus = work.folder("corpus")
    config = work.config
    if config.source:
        config = config.model_copy(update={"source": str(_tokenizer_folder(config.source))})
    return train_tokenizer(
        config,
        lambda: corpus_texts(corpus, "train"),
        lambda: corpus_texts(corpus, "validation"),
        work.out,
        work.progress,
    )


def corpus_texts(corpus: Path, split: str) -> Iterator[tuple[str, str]]:
    """(language, text) of each document of a corpus folder's split."""
    from fledge.data.documents import read_documents

    for document in read_documents(corpus, split):
        yield document.lang, document.text


def _tokens(work: Work) -> Outcome:
    from fledge.data.tokens import write_tokens
    from fledge.tokenizer.tokenizer import Tokenizer

    assert isinstance(work.config, TokensConfig)
    folder = work.folder("tokenizer")
    return write_tokens(
        work.config,
        work.folder("corpus"),
        Tokenizer.load(folder),
        work.out,
        work.progress,
        digest=file_digest(folder / "tokenizer.json"),
    )


def _pretrain(work: Work) -> Outcome:
    from fledge.train.pretrain import pretrain

    assert isinstance(work.config, PretrainConfig)
    return pretrain(
        work.config, work.folder("tokens"), work.folder("tokenizer"), work.out, work.progress
    )


def _sft(work: Work) -> Outcome:
    from fledge.tune.sft import sft

    config = work.config
    assert isinstance(config, SftConfig)
    files = [Path(path) for path in config.conversations]
    if not files and "samples" in work.folders:
        files = [work.folders["samples"] / "conversations" / "train.jsonl"]
    if not files:
        raise InputError("[sft] conversations is empty", remedy="name your JSONL files")
    tokens = work.folders.get("tokens")
    return sft(config, work.folder("pretrain"), files, work.out, work.progress, tokens=tokens)


def _reward(work: Work) -> Outcome:
    from fledge.tune.reward import reward

    assert isinstance(work.config, RewardConfig)
    files = _preferences(work, "reward")
    return reward(work.config, _answering(work), files, work.out, work.progress)


def _dpo(work: Work) -> Outcome:
    from fledge.tune.dpo import dpo

    assert isinstance(work.config, DpoConfig)
    files = _preferences(work, "dpo")
    return dpo(work.config, _answering(work), files, work.out, work.progress)


def _answering(work: Work) -> Path:
    """The highest rung before this stage: the model that answers, or the base."""
    return work.folders["sft"] if "sft" in work.folders else work.folder("pretrain")


def _preferences(work: Work, stage: str) -> list[Path]:
    assert isinstance(work.config, PairConfig)
    files = [Path(path) for path in work.config.preferences]
    if not files:
        raise InputError(f"[{stage}] preferences is empty", remedy="name your JSONL files")
    return files


def _pair_files(config: Config) -> list[Path]:
    assert isinstance(config, PairConfig)
    for path in config.preferences:
        if not Path(path).is_file():
            raise InputError(f"preferences: {path} is no file", remedy="check the path")
    return [Path(path) for path in config.preferences]


def _evals(work: Work) -> Outcome:
    from fledge.evals.ladder import evaluate_ladder

    assert isinstance(work.config, EvalsConfig)
    rungs: dict[str, Path] = {
        name: work.folders[name] for name in ("pretrain", "sft", "dpo") if name in work.folders
    }
    sets = work.folders["samples"] / "evals" if "samples" in work.folders else None
    return evaluate_ladder(
        work.config, rungs, sets, work.folders.get("tokens"), work.out, work.progress
    )


def _tokenizer_files(config: Config) -> list[Path]:
    assert isinstance(config, TokenizerConfig)
    return [_tokenizer_folder(config.source) / "tokenizer.json"] if config.source else []


def _tokenizer_folder(source: str) -> Path:
    """The folder with tokenizer.json: ``source`` itself, or the checkpoint it leads to."""
    from fledge.model.locate import find_checkpoint

    folder = Path(source)
    return folder if (folder / "tokenizer.json").is_file() else find_checkpoint(source)


def _pretrain_files(config: Config) -> list[Path]:
    from fledge.model.locate import find_checkpoint

    assert isinstance(config, PretrainConfig)
    sources = [Path(folder) for folder in config.mixture]
    return [*sources, *([find_checkpoint(config.init)] if config.init else [])]


def _sft_files(config: Config) -> list[Path]:
    assert isinstance(config, SftConfig)
    for path in config.conversations:
        if not Path(path).is_file():
            raise InputError(f"[sft] conversations: {path} is no file", remedy="check the path")
    return [Path(path) for path in config.conversations]


STAGES: dict[str, Stage] = {
    "samples": Stage(config=SamplesConfig, run=_samples),
    "corpus": Stage(config=CorpusConfig, run=_corpus, reads=("samples",), files=_corpus_files),
    "tokenizer": Stage(
        config=TokenizerConfig, run=_tokenizer, reads=("corpus",), files=_tokenizer_files
    ),
    "tokens": Stage(config=TokensConfig, run=_tokens, reads=("corpus", "tokenizer")),
    "pretrain": Stage(
        config=PretrainConfig,
        run=_pretrain,
        reads=("tokens", "tokenizer"),
        files=_pretrain_files,
        together=True,
    ),
    "sft": Stage(
        config=SftConfig,
        run=_sft,
        reads=("samples", "tokens", "pretrain"),
        files=_sft_files,
        together=True,
    ),
    "reward": Stage(config=RewardConfig, run=_reward, reads=("pretrain", "sft"), files=_pair_files),
    "dpo": Stage(
        config=DpoConfig, run=_dpo, reads=("pretrain", "sft"), files=_pair_files, together=True
    ),
    "evals": Stage(
        config=EvalsConfig, run=_evals, reads=("samples", "tokens", "pretrain", "sft", "dpo")
    ),
}
"""In the order in which they run, whatever the order of a recipe's tables."""

KINDS: dict[str, type[Config]] = {name: stage.config for name, stage in STAGES.items()}
