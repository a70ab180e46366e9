"""The windowed scorer: every token once, with the context promised, batched or not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fledge.engine import Engine, load_engine
from fledge.engine import score as score_file
from fledge.engine.score import score_windows
from pico_model import write_pico_model


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return load_engine(write_pico_model(tmp_path_factory.mktemp("runs")))


def reference(engine: Engine, ids: list[int], context: int, stride: int) -> list[float]:
    """By the definition: each token after the window that first reaches it, one at a time."""
    nats = []
    for target in range(1, len(ids)):
        stop = context  # the last input of the first window whose inputs reach target - 1
        while stop < target:
            stop += stride
        stop = min(stop, len(ids) - 1)
        window = ids[max(stop - context, 0) : target]
        with torch.no_grad():
            logits = engine.model(torch.tensor([window]))[0, -1]
        nats.append(-float(torch.log_softmax(logits, -1)[ids[target]]))
    return nats


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_equals_the_reference(engine: Engine, data: st.DataObject) -> None:
    context = data.draw(st.integers(1, 12), "context")
    stride = data.draw(st.integers(1, context), "stride")
    token = st.integers(0, engine.tokenizer.vocab_size - 1)
    documents = data.draw(st.lists(st.lists(token, max_size=30), max_size=4), "documents")
    found = score_windows(engine.model, documents, context=context, stride=stride)
    assert len(found) == len(documents)
    for ids, nats in zip(documents, found, strict=True):
        assert nats == pytest.approx(reference(engine, ids, context, stride), abs=1e-4)


def test_a_text_that_fits_the_context_is_scored_as_a_whole(engine: Engine) -> None:
    ids = engine.encode_text("The Golden Gate Bridge opened in 1937. 金门大桥")
    (nats,) = score_windows(engine.model, [ids], context=96, stride=48)
    assert -nats == pytest.approx(engine.logprobs(ids), abs=1e-4)


def test_batch_size_and_company_change_nothing(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(1)
    documents = [
        rng.integers(0, engine.tokenizer.vocab_size, n).tolist() for n in (70, 3, 1, 0, 200, 33)
    ]
    together = score_windows(engine.model, documents, context=32, stride=16)
    monkeypatch.setattr(score_file, "BATCH_TOKENS", 1)
    monkeypatch.setattr(score_file, "LOGIT_ROWS", 3)
    for ids, expected in zip(documents, together, strict=True):
        (alone,) = score_windows(engine.model, [ids], context=32, stride=16)
        np.testing.assert_allclose(alone, expected, atol=1e-4)


def test_progress_counts_every_token_once(engine: Engine) -> None:
    seen: list[int] = []
    documents = [[1] * 100, [2] * 7]
    score_windows(engine.model, documents, context=16, stride=5, advance=seen.append)
    assert sum(seen) == 99 + 6


@pytest.mark.parametrize("stride", [0, 17])
def test_a_stride_that_would_skip_tokens_is_refused(engine: Engine, stride: int) -> None:
    with pytest.raises(ValueError, match="stride"):
        score_windows(engine.model, [[1, 2]], context=16, stride=stride)
