"""The engine: the cache and the batch change nothing, limits hold, streams are whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fledge.core.errors import InputError
from fledge.core.protocols import Sampling
from fledge.engine import Engine, load_engine
from fledge.engine import engine as engine_file
from fledge.engine import loading as loading_file
from fledge.engine.loading import RunnerName
from pico_model import CONTEXT, write_pico_model

NEVER: tuple[int, ...] = ()
GREEDY = Sampling(max_new_tokens=24)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pico_model(tmp_path_factory.mktemp("runs") / "pico")


@pytest.fixture(scope="module", params=["native", "torch"])
def kind(request: pytest.FixtureRequest) -> RunnerName:
    name: RunnerName = request.param
    return name


@pytest.fixture(scope="module")
def engine(stage: Path, kind: RunnerName) -> Engine:
    return load_engine(stage, runner=kind)


@pytest.fixture(scope="module")
def prompts(engine: Engine) -> list[list[int]]:
    texts = [
        "The",
        "金门大桥于1937年",
        "The Golden Gate Bridge opened in 1937; its",
        "桥",
        "a" * 40,
    ]
    return [engine.encode_text(text) for text in texts]


def uncached(engine: Engine, prompt: list[int], count: int, stop_ids: set[int]) -> list[int]:
    """Greedy by the definition: the whole sequence is read again for every token."""
    ids = list(prompt)
    with torch.no_grad():
        while len(ids) - len(prompt) < count and len(ids) < engine.context:
            logits = engine.model(torch.tensor([ids]))[0, -1, : engine.tokenizer.vocab_size]
            token = int(logits.argmax())
            if token in stop_ids:
                break
            ids.append(token)
    return ids[len(prompt) :]


def test_greedy_equals_the_uncached_reference(engine: Engine, prompts: list[list[int]]) -> None:
    stops = set(engine.stop_ids)
    for prompt, made in zip(prompts, engine.generate(prompts, GREEDY), strict=True):
        assert list(made.token_ids) == uncached(engine, prompt, 24, stops)
        assert made.prompt_tokens == len(prompt)
    assert len({made.token_ids for made in engine.generate(prompts, GREEDY)}) == len(prompts)


def behind_the_best(engine: Engine, prompt: list[int], drawn: Sequence[int]) -> float:
    """How far the logit of a drawn token lies below the largest in its place, at most."""
    ids = torch.tensor([[*prompt, *drawn]])
    with torch.no_grad():
        logits = engine.model(ids)[0, len(prompt) - 1 : -1, : engine.tokenizer.vocab_size]
    chosen = logits.gather(-1, ids[0, len(prompt) :, None])[:, 0]
    return float((logits.max(-1).values - chosen).max())


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_a_batch_of_any_shape_equals_each_prompt_alone(
    engine: Engine, kind: RunnerName, data: st.DataObject
) -> None:
    vocabulary = engine.tokenizer.vocab_size
    prompt = st.lists(st.integers(0, vocabulary - 1), min_size=1, max_size=40)
    prompts = data.draw(st.lists(prompt, min_size=1, max_size=7))
    lengths = data.draw(st.lists(st.integers(1, 20), min_size=len(prompts), max_size=len(prompts)))
    seeds = [None if length % 2 else length for length in lengths]
    samplings = [
        Sampling(max_new_tokens=length, seed=seed, temperature=0 if seed is None else 0.9)
        for length, seed in zip(lengths, seeds, strict=True)
    ]
    if kind == "torch":  # PyTorch's sums depend on the shape of a batch, in the last bits
        samplings = [replace(sampling, temperature=0) for sampling in samplings]
    together = engine.generate(prompts, samplings, NEVER)
    for ids, sampling, made in zip(prompts, samplings, together, strict=True):
        assert len(made.token_ids) == sampling.max_new_tokens
        if kind == "torch":
            assert behind_the_best(engine, ids, made.token_ids) < 1e-4
        else:
            assert made == engine.generate([ids], sampling, NEVER)[0]


def test_sequences_are_admitted_as_others_leave(
    engine: Engine,
    prompts: list[list[int]],
    stage: Path,
    kind: RunnerName,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    many = [prompts[number % len(prompts)] + [number + 9] for number in range(23)]
    samplings = [Sampling(max_new_tokens=1 + number % 6 * 8) for number in range(23)]
    wide = engine.generate(many, samplings, NEVER)
    monkeypatch.setattr(engine_file, "SEQUENCES", 4)
    monkeypatch.setattr(engine_file, "STEP_TOKENS", 9)
    monkeypatch.setattr(loading_file, "CACHE_BYTES", 1)
    narrow = load_engine(stage, runner=kind)
    order = [index for index, _ in narrow.generate_each(many, samplings, NEVER)]
    assert narrow.generate(many, samplings, NEVER) == wide
    assert narrow.loop.scheduler.preemptions
    assert sorted(order) == list(range(23))
    assert order != sorted(order)


def test_a_seed_gives_the_same_text_and_another_seed_another(
    engine: Engine, prompts: list[list[int]]
) -> None:
    def text(seed: int | None, *others: list[int]) -> str:
        sampling = Sampling(max_new_tokens=30, temperature=1.0, seed=seed)
        return engine.generate([prompts[2], *others], sampling, NEVER)[0].text

    assert text(1) == text(1) == text(1, prompts[0], prompts[4])
    assert len({text(seed) for seed in range(5)}) == 5
    assert text(None) != text(None)


def test_stop_tokens_end_the_answer_and_are_not_part_of_it(
    engine: Engine, prompts: list[list[int]]
) -> None:
    free = engine.generate([prompts[0]], GREEDY, NEVER)[0].token_ids
    stop = free[7]
    made = engine.generate([prompts[0]], GREEDY, [stop])[0]
    assert made.token_ids == free[: free.index(stop)]
    assert made.finish_reason == "stop"
    assert engine.stop_ids == {engine.tokenizer.im_end_id, engine.tokenizer.endoftext_id}


def test_stop_texts_are_never_shown(engine: Engine, prompts: list[list[int]]) -> None:
    free = engine.generate([prompts[1]], Sampling(max_new_tokens=40), NEVER)[0].text
    assert len(free) > 20
    for start in range(1, len(free) - 3, 3):
        stop = free[start : start + 3]
        sampling = Sampling(max_new_tokens=40, stop=("never there", stop))
        tokens = list(engine.stream(prompts[1], sampling, NEVER))
        shown = "".join(token.text for token in tokens)
        made = tokens[-1].generation
        assert made is not None
        assert shown == made.text == free[: free.find(stop)]
        assert made.finish_reason == "stop"


def test_the_stream_is_the_generation(engine: Engine, prompts: list[list[int]]) -> None:
    for seed in range(8):  # random bytes: characters split over tokens, and broken ones
        sampling = Sampling(max_new_tokens=60, temperature=1.5, seed=seed)
        tokens = list(engine.stream(prompts[1], sampling, NEVER))
        whole = engine.generate([prompts[1]], sampling, NEVER)[0]
        assert tokens[-1].generation == whole
        assert all(token.generation is None for token in tokens[:-1])
        assert "".join(token.text for token in tokens) == whole.text
        assert tuple(token.id for token in tokens) == whole.token_ids
        assert engine.tokenizer.decode(whole.token_ids).startswith(whole.text)


def test_the_context_ends_the_answer(engine: Engine) -> None:
    prompt = list(range(20, 20 + CONTEXT - 5))
    made = engine.generate([prompt], Sampling(max_new_tokens=1000), NEVER)[0]
    assert (len(made.token_ids), made.finish_reason) == (5, "length")


def test_a_prompt_longer_than_the_context_is_refused_with_both_counts(engine: Engine) -> None:
    for size in (CONTEXT, CONTEXT + 40):
        with pytest.raises(InputError, match=rf"{size} tokens.* {CONTEXT} "):
            engine.generate([[20] * size], GREEDY)
        with pytest.raises(InputError, match="context"):  # at once, not at the first token
            engine.stream([20] * size, GREEDY)
    with pytest.raises(InputError, match="no tokens"):
        engine.generate([[]], GREEDY)
    with pytest.raises(InputError, match="outside"):
        engine.generate([[engine.tokenizer.vocab_size]], GREEDY)
    assert engine.generate([], GREEDY) == []


def test_logprobs_are_those_of_the_model(engine: Engine, prompts: list[list[int]]) -> None:
    ids = prompts[2]
    with torch.no_grad():
        logp = engine.model(torch.tensor([ids]))[0].log_softmax(-1)
    expected = [float(logp[at, token]) for at, token in enumerate(ids[1:])]
    assert engine.logprobs(ids) == pytest.approx(expected, abs=1e-5)
    assert engine.logprobs(ids[:1]) == []
    with pytest.raises(InputError, match=f"{CONTEXT + 1} tokens.*{CONTEXT}"):
        engine.logprobs([5] * (CONTEXT + 1))


def test_logprobs_do_not_depend_on_the_pieces(
    engine: Engine, prompts: list[list[int]], stage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = engine.logprobs(prompts[2])
    monkeypatch.setattr(engine_file, "SEQUENCES", 2)
    monkeypatch.setattr(engine_file, "STEP_TOKENS", 3)
    assert load_engine(stage).logprobs(prompts[2]) == pytest.approx(whole, abs=1e-5)


def test_closing_a_stream_stops_it(engine: Engine, prompts: list[list[int]]) -> None:
    stream = engine.stream(prompts[0], Sampling(max_new_tokens=80), NEVER)
    assert next(stream).text is not None
    stream.close()  # type: ignore[attr-defined]
    assert list(stream) == []


def test_a_penalty_keeps_a_loop_from_going_on(engine: Engine, prompts: list[list[int]]) -> None:
    def distinct(penalty: float) -> int:
        sampling = Sampling(max_new_tokens=60, repetition_penalty=penalty)
        return len(set(engine.generate([prompts[0]], sampling, NEVER)[0].token_ids))

    assert distinct(1000.0) == 60 > distinct(1.0)


def test_names_and_missing_models(engine: Engine, tmp_path: Path) -> None:
    assert engine.name == "pico-sft"
    assert engine.context == CONTEXT
    with pytest.raises(InputError, match="nowhere does not exist"):
        load_engine(tmp_path / "nowhere")


def test_bfloat16_generates(tmp_path: Path) -> None:
    engine = load_engine(write_pico_model(tmp_path / "run"), dtype="bfloat16", runner="torch")
    assert engine.model.compute_dtype == torch.bfloat16
    made = engine.generate([engine.encode_text("The")], Sampling(max_new_tokens=5), NEVER)[0]
    assert len(made.token_ids) == 5


@pytest.mark.parametrize(("native", "dtype"), [(True, "bfloat16"), (False, "float32")])
def test_a_gpu_that_only_emulates_bfloat16_computes_in_float32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, native: bool, dtype: str
) -> None:
    asked: list[dict[str, object]] = []

    def supported(**how: object) -> bool:
        asked.append(how)
        return native

    loaded: list[dict[str, str]] = []

    def load(folder: Path, **how: str) -> None:
        loaded.append(how)
        raise KeyboardInterrupt  # this machine may have no GPU

    stage = write_pico_model(tmp_path / "run")
    monkeypatch.setattr(loading_file, "_has_gpu", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    monkeypatch.setattr("fledge.model.checkpoint.load_model", load)
    for device in ("auto", "cuda", "cuda:1"):
        with pytest.raises(KeyboardInterrupt):
            load_engine(stage, device=device)
    assert [how["dtype"] for how in loaded] == [dtype] * 3
    assert asked == [{"including_emulation": False}] * 3
    with pytest.raises(KeyboardInterrupt):
        load_engine(stage, device="cpu", runner="torch")
    assert loaded[-1] == {"dtype": "float32", "device": "cpu"}
