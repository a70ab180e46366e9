"""The stages of a recipe: each table's config, what it reads, and the room that does the work.

Rooms are imported when a stage runs, so that listing or checking a recipe stays quick.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fledge.core.config import Config
from fledge.core.errors import InputError
from fledge.core.files import file_digest
from fledge.core.protocols import Progress
from fledge.core.run import Outcome
from fledge.data.config import CorpusConfig, TokensConfig
from fledge.evals.config import EvalsConfig
from fledge.model.locate import RUNGS
from fledge.samples.bridges.config import SamplesConfig
from fledge.tokenizer.config import TokenizerConfig
from fledge.train.config import PretrainConfig
from fledge.tune.config import SftConfig
from fledge.tune.reinforce_config import GrpoConfig, PpoConfig, ReinforceConfig


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
    folder, write = work.folder("tokenizer"), None
    if work.config.samples:
        from fledge.engine.handover import Writer
        from fledge.tokenizer.tokenizer import Tokenizer

        write = Writer(Tokenizer.load(folder), chat=False)
    return pretrain(
        work.config, work.folder("tokens"), folder, work.out, work.progress, write=write
    )


def _sft(work: Work) -> Outcome:
    from fledge.tune.sft import sft

    config = work.config
    assert isinstance(config, SftConfig)
    files = _conversations(config, work.folders)
    if not files:
        raise InputError("[sft] conversations is empty", remedy="name your JSONL files")
    tokens = work.folders.get("tokens")
    return sft(config, work.folder("pretrain"), files, work.out, work.progress, tokens=tokens)


def _grpo(work: Work) -> Outcome:
    from fledge.tune.reinforce import grpo

    assert isinstance(work.config, GrpoConfig)
    files = _prompts(work.config)
    return grpo(work.config, _latest(work, "grpo"), files, work.out, work.progress)


def _ppo(work: Work) -> Outcome:
    from fledge.tune.reinforce import ppo

    assert isinstance(work.config, PpoConfig)
    files = _prompts(work.config)
    return ppo(work.config, _latest(work, "ppo"), files, work.out, work.progress)


def _prompts(config: ReinforceConfig) -> list[Path]:
    if not config.prompts:
        raise InputError("prompts is empty", remedy="name your JSONL files")
    return [Path(path) for path in config.prompts]


def _latest(work: Work, stage: str) -> Path:
    """The model that a stage goes on from: of the latest rung before it."""
    before = [name for name in RUNGS[: RUNGS.index(stage)] if name in work.folders]
    return work.folder(before[-1] if before else "sft")


def _evals(work: Work) -> Outcome:
    from fledge.evals.ladder import Sources, evaluate_ladder

    assert isinstance(work.config, EvalsConfig)
    rungs: dict[str, Path] = {name: work.folders[name] for name in RUNGS if name in work.folders}
    sets = work.folders["samples"] / "evals" if "samples" in work.folders else None
    sources = Sources(sets=sets, tokens=work.folders.get("tokens"))
    return evaluate_ladder(work.config, rungs, sources, work.out, work.progress)


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
    return _named("[sft] conversations", config.conversations)


def _honesty_files(config: Config) -> list[Path]:
    assert isinstance(config, HonestyConfig)
    named = _named("[honesty] conversations", config.conversations)
    return [*named, *_named("[honesty] facts", config.facts)]


def _named(what: str, paths: Sequence[str]) -> list[Path]:
    """The files; raises InputError for one that is not there."""
    for path in paths:
        if not Path(path).is_file():
            raise InputError(f"{what}: {path} is no file", remedy="check the path")
    return [Path(path) for path in paths]


def _prompt_files(config: Config) -> list[Path]:
    assert isinstance(config, ReinforceConfig)
    for path in config.prompts:
        if not Path(path).is_file():
            raise InputError(f"prompts: {path} is no file", remedy="check the path")
    return [Path(path) for path in config.prompts]


RUNGS = ("pretrain", "sft", "grpo", "ppo")
"""Stages that leave a model, in the order in which they build on each other."""

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
    "grpo": Stage(config=GrpoConfig, run=_grpo, reads=RUNGS[1:2], files=_prompt_files),
    "ppo": Stage(config=PpoConfig, run=_ppo, reads=RUNGS[1:3], files=_prompt_files),
    "evals": Stage(config=EvalsConfig, run=_evals, reads=("samples", "tokens", *RUNGS)),
}
"""In the order in which they run, whatever the order of a recipe's tables."""

KINDS: dict[str, type[Config]] = {name: stage.config for name, stage in STAGES.items()}
