"""A model in training writes texts: by its weights as they are, without changing the training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from fledge.core.protocols import Sampling, Silent
from fledge.engine.handover import SAMPLE_TOKENS, LiveEngine, Writer
from fledge.engine.loading import load_engine
from fledge.model.checkpoint import load_model, save_model
from fledge.model.decoder import Decoder
from fledge.tokenizer.tokenizer import Tokenizer
from fledge.train.config import PretrainConfig
from fledge.train.loop import train
from pico_model import write_pico_model
from pico_runs import Chosen, pico_training


@pytest.fixture(scope="module")
def pico(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pico_model(tmp_path_factory.mktemp("pico")) / "model"


@pytest.mark.parametrize("chat", [False, True])
def test_it_writes_what_the_saved_model_would(pico: Path, tmp_path: Path, chat: bool) -> None:
    model, tokenizer = load_model(pico), Tokenizer.load(pico)
    write = Writer(tokenizer, chat=chat)
    first = write(model, ["The Golden Gate", "金门大桥"])
    with torch.no_grad():
        for weight in model.parameters():
            weight += torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)) * 0.05
    second = write(model, ["The Golden Gate", "金门大桥"])
    assert first != second
    save_model(model, tmp_path / "model")
    tokenizer.save(tmp_path / "model")
    engine = load_engine(tmp_path / "model")
    prompts = [
        tokenizer.encode_chat([{"role": "user", "content": text}], add_generation_prompt=True)
        if chat
        else engine.encode_text(text)
        for text in ("The Golden Gate", "金门大桥")
    ]
    made = engine.generate(prompts, Sampling(max_new_tokens=SAMPLE_TOKENS))
    assert second == [one.text for one in made]


@pytest.mark.parametrize("runner", ["auto", "torch"])
def test_the_model_can_be_trained_on(pico: Path, runner: str) -> None:
    model = load_model(pico).train()
    live = LiveEngine(model, Tokenizer.load(pico), runner=runner)  # type: ignore[arg-type]
    live.engine().generate([[5, 6, 7]], Sampling(max_new_tokens=8))
    model(torch.tensor([[5, 6, 7]])).sum().backward()  # type: ignore[no-untyped-call]
    assert all(weight.grad is not None for weight in model.parameters())


def test_samples_come_with_each_validation_and_change_nothing(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    asked: list[float] = []

    def write(model: Decoder, prompts: Sequence[str]) -> list[str]:
        asked.append(float(model.embed_tokens.weight.detach().sum()))
        return [f"{prompt} …" for prompt in prompts]

    for name, prompts in (("with", ["one", "two"]), ("without", [])):
        job = pico_training(
            Chosen(folders), tmp_path / name, samples=prompts, validate_every=8, steps=24
        )
        model = job.model
        object.__setattr__(job, "write", lambda model=model: write(model, ["one", "two"]))
        train(job, Silent())
    lines = (tmp_path / "with" / "samples.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [(row["step"], row["prompt"]) for row in rows] == [
        (step, prompt) for step in (8, 16, 24) for prompt in ("one", "two")
    ]
    assert rows[0]["text"] == "one …"
    assert len(set(asked)) == 3
    assert (tmp_path / "without" / "samples.jsonl").read_text() == ""
    losses = [(tmp_path / name / "loss.jsonl").read_bytes() for name in ("with", "without")]
    assert losses[0] == losses[1]


def test_the_config_takes_texts() -> None:
    assert PretrainConfig(samples=["a"]).samples == ["a"]
