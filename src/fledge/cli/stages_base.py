"""The stages up to the base model: samples, corpus, tokenizer, tokens, pretrain.

Rooms are imported when a stage runs, so that listing or checking a recipe stays quick.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fledge.cli.stage import Work
from fledge.core.config import Config
from fledge.core.errors import InputError
from fledge.core.files import file_digest
from fledge.core.run import Outcome
from fledge.data.config import CorpusConfig, TokensConfig
from fledge.samples.bridges.config import SamplesConfig
from fledge.tokenizer.config import TokenizerConfig
from fledge.train.config import PretrainConfig


def run_samples(work: Work) -> Outcome:
    """The built-in world."""
    from fledge.samples.bridges.world import write_world

    assert isinstance(work.config, SamplesConfig)
    try:
        return write_world(work.config, work.out, work.progress)
    except ValueError as error:
        raise InputError(f"[samples]: {error}", remedy="ask for fewer") from None


def run_corpus(work: Work) -> Outcome:
    """Pages: those of the config, or of the sample world."""
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


def corpus_files(config: Config) -> list[Path]:
    """Files that the config names."""
    from fledge.data.inputs import expand_inputs

    assert isinstance(config, CorpusConfig)
    return expand_inputs(config.input) if config.input else []


def run_tokenizer(work: Work) -> Outcome:
    """Trained on the corpus, or taken from a checkpoint."""
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


def run_tokens(work: Work) -> Outcome:
    """The corpus as token shards."""
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


def run_pretrain(work: Work) -> Outcome:
    """A model from the shards."""
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


def tokenizer_files(config: Config) -> list[Path]:
    """The file that the config names."""
    assert isinstance(config, TokenizerConfig)
    return [_tokenizer_folder(config.source) / "tokenizer.json"] if config.source else []


def _tokenizer_folder(source: str) -> Path:
    """The folder with tokenizer.json: ``source`` itself, or the checkpoint it leads to."""
    from fledge.model.locate import find_checkpoint

    folder = Path(source)
    return folder if (folder / "tokenizer.json").is_file() else find_checkpoint(source)


def pretrain_files(config: Config) -> list[Path]:
    """Folders that the config names."""
    from fledge.model.locate import find_checkpoint

    assert isinstance(config, PretrainConfig)
    sources = [Path(folder) for folder in config.mixture]
    return [*sources, *([find_checkpoint(config.init)] if config.init else [])]
