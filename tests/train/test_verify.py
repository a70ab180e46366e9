"""``verify``: everything holds as it is, and each thing broken on purpose is caught by its name."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from fledge.core.protocols import Silent
from fledge.model.checkpoint import save_model
from fledge.model.decoder import Decoder
from fledge.tokenizer.tokenizer import Tokenizer
from fledge.train.batch import Batch
from fledge.train.checkpoint import Checkpoints
from fledge.train.loader import PackedLoader
from fledge.train.verify import files, gradient, sums
from fledge.train.verify.check import Check, Subject, name_of, run_checks
from fledge.train.verify.checks import CHECKS, SLOW
from fledge.train.verify.subject import open_subject
from pico_shards import pattern_shards

Patch = pytest.MonkeyPatch
ALL = {name_of(check): check for check in (*CHECKS, *SLOW)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return open_subject(None, None, None, [], tmp_path_factory.mktemp("verify"))


@pytest.fixture
def subject(whole: Subject, tmp_path: Path) -> Subject:
    """A subject of one's own, to be broken."""
    return dataclasses.replace(whole, model=copy.deepcopy(whole.model), scratch=tmp_path)


def verdict(name: str, subject: Subject) -> Check:
    [found] = run_checks(subject, [ALL[name]], Silent())
    assert found.name == name
    return found


@pytest.mark.parametrize("name", [name_of(check) for check in CHECKS])
def test_everything_holds_as_it_is(name: str, subject: Subject) -> None:
    found = verdict(name, subject)
    assert found.ok is True, found.compared
    assert any(character.isdigit() for character in found.compared), "it must show numbers"


def test_nothing_is_left_behind(subject: Subject, tmp_path: Path) -> None:
    """Neither in the model nor outside the scratch folder."""
    assert subject.tokens is not None
    place = subject.tokens.parent
    before = {name: weight.clone() for name, weight in subject.model.state_dict().items()}
    held = sorted(place.rglob("*"))
    run_checks(subject, CHECKS, Silent())
    assert all(weight.grad is None for weight in subject.model.parameters())
    assert all(torch.equal(before[n], w) for n, w in subject.model.state_dict().items())
    assert sorted(place.rglob("*")) == held
    assert (tmp_path / "whole" / "model").is_dir()


# What follows breaks one thing each.


def nan_weight(subject: Subject, patch: Patch) -> Subject:
    with torch.no_grad():
        subject.model.norm.weight[3] = torch.nan
    return subject


def another_head_on_disk(subject: Subject, patch: Patch) -> Subject:
    folder = subject.scratch / "source"
    save_model(subject.model, folder)
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"] + 1
    save_file(weights, folder / "model.safetensors")
    return dataclasses.replace(subject, source=folder)


def rounded_checkpoint(subject: Subject, patch: Patch) -> Subject:
    patch.setattr(files, "save_model", lambda model, out: save_model(model, out, dtype="bfloat16"))
    return subject


def small_embedding(subject: Subject, patch: Patch) -> Subject:
    shape = subject.model.config.model_copy(update={"vocab_size": 500})
    return dataclasses.replace(subject, model=Decoder(shape).initialize(0))


def lossy_tokenizer(subject: Subject, patch: Patch) -> Subject:
    encode = Tokenizer.encode
    patch.setattr(Tokenizer, "encode", lambda self, text: encode(self, text.lower()))
    return subject


def other_tokenizer(subject: Subject, patch: Patch) -> Subject:
    """Shards written by somebody else's tokenizer."""
    return dataclasses.replace(subject, tokens=pattern_shards(subject.scratch / "shards"))


def forgeable_documents(subject: Subject, patch: Patch) -> Subject:
    patch.setattr(Tokenizer, "encode", Tokenizer.encode_with_specials)
    return subject


def forgeable_messages(subject: Subject, patch: Patch) -> Subject:
    def encode_chat(self: Tokenizer, messages: Any, tools: Any = None, **more: Any) -> list[int]:
        return self.encode_with_specials(self.apply_chat_template(messages, tools, **more))

    patch.setattr(Tokenizer, "encode_chat", encode_chat)
    return subject


def spoilt_rows(spoil: Callable[[Batch], Batch]) -> Callable[[Subject, Patch], Subject]:
    def break_it(subject: Subject, patch: Patch) -> Subject:
        inner = PackedLoader.__getitem__
        patch.setattr(PackedLoader, "__getitem__", lambda self, step: spoil(inner(self, step)))
        return subject

    break_it.__name__ = spoil.__name__
    return break_it


def unshifted_targets(batch: Batch) -> Batch:
    return batch._replace(targets=batch.ids.clone())


def targets_two_ahead(batch: Batch) -> Batch:
    return batch._replace(targets=batch.targets.roll(-1, dims=1))


def documents_glued(batch: Batch) -> Batch:
    return batch._replace(segments=torch.where(batch.segments >= 0, 0, batch.segments))


def shuffled_text(batch: Batch) -> Batch:
    """Inputs and targets agree with each other, but with no document."""
    ids = torch.cat([batch.ids[:, :1], batch.targets], dim=1).flip(1)
    return batch._replace(ids=ids[:, :-1], targets=ids[:, 1:])


def weight_on_padding(batch: Batch) -> Batch:
    segments = batch.segments.clone()
    segments[0, -3:] = -1
    return batch._replace(segments=segments, weights=torch.ones_like(batch.weights))


def a_row_masked_out(batch: Batch) -> Batch:
    weights = batch.weights.clone()
    weights[1] = 0
    return batch._replace(weights=weights)


def mean_objective(where: Any) -> Callable[[Subject, Patch], Subject]:
    """The mean over each micro-batch: right for one batch, wrong for unequal pieces."""

    def break_it(subject: Subject, patch: Patch) -> Subject:
        inner = where.cross_entropy()

        def objective(model: Decoder, batch: Batch) -> Tensor:
            return inner(model, batch) / batch.weights.sum() * batch.weights.shape[0]

        patch.setattr(where, "cross_entropy", lambda *_, **__: objective)
        return subject

    return break_it


def mean_in_training(subject: Subject, patch: Patch) -> Subject:
    from fledge.train import pretrain

    return mean_objective(pretrain)(subject, patch)


def padding_counted(subject: Subject, patch: Patch) -> Subject:
    inner = sums.cross_entropy()

    def objective(model: Decoder, batch: Batch) -> Tensor:
        loss: Tensor = inner(model, batch._replace(weights=torch.ones_like(batch.weights)))
        return loss

    patch.setattr(sums, "cross_entropy", lambda: objective)
    return subject


def blind_to_documents(subject: Subject, patch: Patch) -> Subject:
    """Attention across documents, as in trainers that pack without a mask."""
    inner = Decoder.hidden
    patch.setattr(
        Decoder,
        "hidden",
        lambda self, ids, segments=None, **more: inner(self, ids, None, **more),
    )
    return subject


def sees_the_future(subject: Subject, patch: Patch) -> Subject:
    inner = Decoder.hidden

    def hidden(self: Decoder, ids: Tensor, segments: Tensor | None = None, **more: Any) -> Tensor:
        found = inner(self, ids, segments, **more)
        return found + 1e-3 * found.mean(dim=1, keepdim=True)

    patch.setattr(Decoder, "hidden", hidden)
    return subject


def deaf(subject: Subject, patch: Patch) -> Subject:
    """Logits that do not depend on the text at all: no leak, and no model either."""
    inner = Decoder.hidden

    def hidden(self: Decoder, ids: Tensor, segments: Tensor | None = None, **more: Any) -> Tensor:
        return torch.ones_like(inner(self, ids, segments, **more))

    patch.setattr(Decoder, "hidden", hidden)
    return subject


def cache_off_by_one(subject: Subject, patch: Patch) -> Subject:
    inner = Decoder.hidden

    def hidden(self: Decoder, ids: Tensor, segments: Tensor | None = None, **more: Any) -> Tensor:
        cache = more.get("cache")
        if cache is not None and more.get("positions") is None:
            more["positions"] = cache.lengths[:, None] - 1  # the last token's place again
        return inner(self, ids, segments, **more)

    patch.setattr(Decoder, "hidden", hidden)
    return subject


class Wrong(torch.autograd.Function):
    """The identity with a gradient one percent too large."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return gradient * 1.01


def wrong_gradient(subject: Subject, patch: Patch) -> Subject:
    inner = gradient.cross_entropy()
    patch.setattr(gradient, "cross_entropy", lambda: lambda m, b: Wrong.apply(inner(m, b)))
    return subject


def wrong_code(subject: Subject, patch: Patch) -> Subject:
    def compiled(objective: Any, *_: Any) -> Any:
        return lambda model, batch: objective(model, batch) * 1.01

    patch.setattr(gradient, "has_compiler", lambda: True)
    patch.setattr(gradient, "compiled", compiled)
    return subject


def state_damaged(subject: Subject, patch: Patch) -> Subject:
    inner = Checkpoints.load

    def load(self: Checkpoints, *more: Any, **named: Any) -> Any:
        state = inner(self, *more, **named)
        for name, weight in (state or {}).get("model", {}).items():
            if name.endswith("norm.weight"):
                weight += 1e-3
        return state

    patch.setattr(Checkpoints, "load", load)
    return subject


def state_forgotten(subject: Subject, patch: Patch) -> Subject:
    patch.setattr(Checkpoints, "load", lambda self, *_, **__: None)
    return subject


BROKEN: list[tuple[str, Callable[[Subject, Patch], Subject]]] = [
    ("finite-weights", nan_weight),
    ("tied-weights", another_head_on_disk),
    ("checkpoint-round-trip", rounded_checkpoint),
    ("vocabulary-fits", small_embedding),
    ("tokenizer-round-trip", lossy_tokenizer),
    ("tokenizer-round-trip", other_tokenizer),
    ("unforgeable-specials", forgeable_documents),
    ("unforgeable-specials", forgeable_messages),
    ("label-alignment", spoilt_rows(unshifted_targets)),
    ("label-alignment", spoilt_rows(targets_two_ahead)),
    ("label-alignment", spoilt_rows(documents_glued)),
    ("label-alignment", spoilt_rows(shuffled_text)),
    ("loss-masks", spoilt_rows(weight_on_padding)),
    ("loss-masks", spoilt_rows(a_row_masked_out)),
    ("accumulation", mean_objective(sums)),
    ("accumulation-in-training", mean_in_training),
    ("packing", blind_to_documents),
    ("padding", padding_counted),
    ("document-leak", blind_to_documents),
    ("causality", sees_the_future),
    ("causality", deaf),
    ("cached-decoding", cache_off_by_one),
    ("gradient-check", wrong_gradient),
    ("compiled-code", wrong_code),
    ("resume", state_damaged),
    ("resume", state_forgotten),
]


@pytest.mark.parametrize(("name", "broken"), BROKEN, ids=lambda v: getattr(v, "__name__", v))
def test_what_is_broken_is_caught(
    name: str,
    broken: Callable[[Subject, Patch], Subject],
    subject: Subject,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = verdict(name, broken(subject, monkeypatch))
    assert found.ok is False, found.compared


def test_every_check_is_broken_somewhere() -> None:
    assert {name for name, _ in BROKEN} == set(ALL)


def test_a_check_that_raises_has_failed(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    def hidden(*_: Any, **__: Any) -> Tensor:
        raise RuntimeError("shapes do not match\nand a trace")

    monkeypatch.setattr(Decoder, "hidden", hidden)
    found = verdict("causality", subject)
    assert found == Check("causality", False, "raised RuntimeError: shapes do not match")


def test_generated_code_is_skipped_without_a_compiler(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gradient, "has_compiler", lambda: False)
    found = verdict("compiled-code", subject)
    assert found.ok is None
    assert "compiler" in found.compared


def test_without_data_only_the_model_is_checked(subject: Subject) -> None:
    bare = dataclasses.replace(
        subject, tokens=None, tokenizer=None, tokenizer_folder=None, conversations=()
    )
    found = {check.name: check.ok for check in run_checks(bare, CHECKS, Silent())}
    data = ("tokenizer-round-trip", "unforgeable-specials", "label-alignment", "loss-masks")
    skipped = {*data, "vocabulary-fits", "resume", "accumulation-in-training"}
    assert {name for name, ok in found.items() if ok is None} == skipped
    assert all(ok for name, ok in found.items() if name not in skipped)
