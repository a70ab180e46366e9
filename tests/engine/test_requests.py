"""What a request can ask for: several answers, beams, log-probabilities, lookup, grammars; and
what one broken request does to the others."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fledge.core.errors import FledgeError, InputError
from fledge.engine import Engine, Generation, load_engine
from fledge.engine.chain.candidates import Floats
from fledge.engine.chain.settings import Settings
from fledge.engine.loading import RunnerName
from fledge.engine.step import Piece
from pico_model import write_pico_model

NEVER: tuple[int, ...] = ()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pico_model(tmp_path_factory.mktemp("runs") / "pico")


@pytest.fixture(scope="module", params=["native", "torch"])
def engine(stage: Path, request: pytest.FixtureRequest) -> Engine:
    kind: RunnerName = request.param
    return load_engine(stage, runner=kind)


@pytest.fixture
def prompt(engine: Engine) -> list[int]:
    return engine.encode_text("The Golden Gate Bridge opened in 1937; its")


def idle(engine: Engine) -> bool:
    """Whether no sequence is left and every block is free."""
    scheduler = engine.loop.scheduler
    everything = scheduler.free_blocks == engine.runner.blocks
    return everything and scheduler.running == scheduler.waiting == 0


def test_n_answers_are_those_of_as_many_requests(engine: Engine, prompt: list[int]) -> None:
    how = Settings(max_new_tokens=12, temperature=1.0, seed=5, n=4)
    first = engine.generate([prompt], how, NEVER)[0]
    together = [first, *first.others]
    for place, made in enumerate(together):
        alone = engine.generate([prompt], replace(how, seed=5 + place, n=1), NEVER)[0]
        assert made.token_ids == alone.token_ids
    assert len({made.token_ids for made in together}) == 4
    assert idle(engine)


def test_answers_that_end_with_the_first_token_leave_the_others(
    engine: Engine, prompt: list[int]
) -> None:
    how = Settings(max_new_tokens=6, temperature=1.5, seed=1, n=8)
    free = engine.generate([prompt], how, NEVER)[0]
    stop = free.token_ids[0]  # the first answer, whose sequence read the prompt, ends at once
    made = engine.generate([prompt], how, [stop])[0]
    assert made.token_ids == ()
    for old, new in zip(free.others, made.others, strict=True):
        cut = old.token_ids.index(stop) if stop in old.token_ids else len(old.token_ids)
        assert new.token_ids == old.token_ids[:cut]
    assert idle(engine)


def test_a_stream_tells_which_answer_a_token_belongs_to(engine: Engine, prompt: list[int]) -> None:
    how = Settings(max_new_tokens=9, temperature=1.0, seed=3, n=3)
    tokens = list(engine.stream(prompt, how, NEVER))
    made = engine.generate([prompt], how, NEVER)[0]
    for number, answer in enumerate([made, *made.others]):
        mine = [token for token in tokens if token.answer == number]
        assert tuple(token.id for token in mine) == answer.token_ids
        assert "".join(token.text for token in mine) == answer.text
        assert mine[-1].generation == replace(answer, others=())


def test_best_of_gives_the_likeliest(engine: Engine, prompt: list[int]) -> None:
    how = Settings(max_new_tokens=8, temperature=1.0, seed=2, n=2, best_of=6)
    made = engine.generate([prompt], how, NEVER)[0]

    def mean(one: Generation) -> float:
        logprobs = engine.logprobs([*prompt, *one.token_ids])
        return float(np.mean(logprobs[len(prompt) - 1 :]))

    drawn = engine.generate([prompt], replace(how, n=6, best_of=None), NEVER)[0]
    ranked = sorted([drawn, *drawn.others], key=mean, reverse=True)
    assert made.token_ids == ranked[0].token_ids
    assert [one.token_ids for one in made.others] == [ranked[1].token_ids]
    assert made.choices == (), "nobody asked for log-probabilities"


@pytest.mark.parametrize("stops", [False, True])
def test_beams_are_the_best_of_all_answers(engine: Engine, prompt: list[int], stops: bool) -> None:
    """Against beam search by its definition, every beam read anew for every token."""
    stop_ids = [*range(40, 90)] if stops else []
    how = Settings(max_new_tokens=6, beams=4, n=4)
    made = engine.generate([prompt], how, stop_ids)[0]
    expected = slow_beams(engine, prompt, 4, 6, stop_ids)
    assert [list(one.token_ids) for one in (made, *made.others)] == expected
    assert idle(engine)


def slow_beams(
    engine: Engine, prompt: list[int], width: int, limit: int, stop_ids: Sequence[int]
) -> list[list[int]]:
    live: list[tuple[float, list[int]]] = [(0.0, [])]
    done: list[tuple[float, list[int]]] = []
    vocabulary = engine.tokenizer.vocab_size
    for _ in range(limit):
        scored = []
        for total, ids in live:
            logp = next_logprobs(engine, [*prompt, *ids])
            scored += [(total + float(logp[t]), [*ids, t]) for t in range(vocabulary)]
        scored.sort(key=lambda one: -one[0])
        live = []
        for rank, (total, ids) in enumerate(scored):
            if ids[-1] not in stop_ids:
                live.append((total, ids))
            elif rank < 2 * width:
                done.append((total / len(ids), ids[:-1]))
            if len(live) == width:
                break
        done = sorted(done, key=lambda one: -one[0])[:width]
        if len(done) == width and all(total / limit <= done[-1][0] for total, _ in live):
            live = []
            break
    done += [(total / len(ids), ids) for total, ids in live]
    return [ids for _, ids in sorted(done, key=lambda one: -one[0])[:width]]


def next_logprobs(engine: Engine, ids: list[int]) -> Floats:
    import torch

    with torch.no_grad():
        logits = engine.model(torch.tensor([ids]))[0, -1, : engine.tokenizer.vocab_size]
        found: Floats = logits.log_softmax(-1).numpy()
    return found


def test_beams_refuse_what_they_cannot_rank(engine: Engine, prompt: list[int]) -> None:
    for more in ({"temperature": 1.0}, {"stop": ("a",)}, {"lookup": 3}, {"inspect": True}):
        with pytest.raises(InputError, match=f"beams = 2 cannot be .* {next(iter(more))}"):
            engine.generate([prompt], Settings.parse({"beams": 2, **more}))


def test_logprobs_of_an_answer_are_those_of_its_text(engine: Engine, prompt: list[int]) -> None:
    how = Settings(max_new_tokens=10, temperature=0.8, seed=1, logprobs=True, top_logprobs=3)
    made = engine.generate([prompt], how, NEVER)[0]
    scored = engine.logprobs([*prompt, *made.token_ids])[len(prompt) - 1 :]
    before = [choice.before for choice in made.choices]
    assert [one.token for one in before if one] == pytest.approx(scored, abs=1e-4)
    for choice in made.choices:
        assert choice.after is not None
        assert choice.before is not None
        assert len(choice.before.top) == 3
        assert choice.after.token != choice.before.token, "the chain's say: temperature"


def test_inspection_tells_of_every_token_and_changes_none(
    engine: Engine, prompt: list[int]
) -> None:
    how = Settings(max_new_tokens=10, temperature=0.9, top_k=7, top_p=0.8, seed=4)
    plain = engine.generate([prompt], how, NEVER)[0]
    seen = engine.generate([prompt], replace(how, inspect=True), NEVER)[0]
    assert seen.token_ids == plain.token_ids
    assert plain.choices == ()
    for token, choice in zip(seen.token_ids, seen.choices, strict=True):
        assert choice.inspection is not None
        assert choice.inspection.token == token
        names = [step.name for step in choice.inspection.steps]
        assert names == ["temperature", "top_k", "top_p"]


@pytest.mark.parametrize("temperature", [0.0, 0.3])
def test_lookup_changes_nothing_and_saves_steps(engine: Engine, temperature: float) -> None:
    prompt = engine.encode_text("abc abc abc abc abc abc")
    # A strong bias makes even a random model repeat itself, as an answer that quotes does.
    bias = dict.fromkeys(engine.tokenizer.encode(" abc"), 60.0)
    how = Settings(max_new_tokens=40, temperature=temperature, seed=3, logit_bias=bias, lookup=0)
    steps = engine.loop.steps
    plain = engine.generate([prompt], how, NEVER)[0]
    taken = engine.loop.steps - steps
    looked = engine.generate([prompt], replace(how, lookup=6), NEVER)[0]
    saved = taken - (engine.loop.steps - steps - taken)
    assert looked.token_ids == plain.token_ids
    assert looked.text == plain.text
    assert saved == looked.accepted > 10
    assert looked.drafted >= looked.accepted
    assert idle(engine)


def test_a_grammar_is_followed_with_and_without_lookup(engine: Engine, prompt: list[int]) -> None:
    grammar = engine.grammars.json_schema(
        {
            "type": "object",
            "properties": {"span": {"type": "integer"}, "open": {"type": "boolean"}},
            "required": ["span", "open"],
            "additionalProperties": False,
        }
    )
    for seed in range(8):
        how = Settings(max_new_tokens=70, temperature=1.0, seed=seed)
        made = engine.generate([prompt], how, grammar=grammar)[0]
        if made.finish_reason == "stop":
            assert set(json.loads(made.text)) == {"span", "open"}
        else:
            assert made.text.startswith("{")
        looked = engine.generate([prompt], replace(how, lookup=5), grammar=grammar)[0]
        assert looked == made, "neither the draws nor what is forced depend on guesses"


def test_a_choice_ends_without_a_stop_token(engine: Engine, prompt: list[int]) -> None:
    grammar = engine.grammars.choice(["yes", "no"])
    steps = engine.loop.steps
    made = engine.generate([prompt], Settings(max_new_tokens=20), grammar=grammar)[0]
    assert made.text in ("yes", "no")
    assert made.finish_reason == "stop"
    assert engine.loop.steps - steps <= len(made.token_ids), "nothing is computed to find the end"
    seen = engine.generate([prompt], Settings(max_new_tokens=20, inspect=True), grammar=grammar)[0]
    assert seen.text in ("yes", "no")
    assert all(choice.inspection is not None for choice in seen.choices)


def test_a_remembered_prompt_is_not_read_again(stage: Path) -> None:
    engine = load_engine(stage)
    prompt = [*range(20, 70)]
    first = engine.generate([prompt], Settings(max_new_tokens=4), NEVER)[0]
    again = engine.generate([prompt], Settings(max_new_tokens=4), NEVER)[0]
    assert (first.cached_tokens, again.cached_tokens) == (0, 48)
    assert first == again


class Broken:
    """A runner that gives NaN, or fails, where a token is 77."""

    def __init__(self, runner: object, how: str) -> None:
        self._runner, self._how = runner, how

    def __getattr__(self, name: str) -> object:
        return getattr(self._runner, name)

    def step(self, pieces: Sequence[Piece]) -> Floats:
        logits: Floats = self._runner.step(pieces)  # type: ignore[attr-defined]
        row = 0
        for piece in pieces:
            if 77 in piece.tokens:
                if self._how == "raise":
                    raise FledgeError("the machine is on fire")
                logits[row : row + piece.rows] = np.nan
            row += piece.rows
        return logits


def test_nan_fails_one_request_and_serves_the_others(stage: Path) -> None:
    engine = load_engine(stage)
    good = [*range(20, 50)]
    expected = engine.generate([good], Settings(max_new_tokens=12), NEVER)[0]
    engine.loop.runner = Broken(engine.loop.runner, "nan")  # type: ignore[assignment]
    stream = engine.stream(good, Settings(max_new_tokens=12), NEVER)
    tokens = [next(stream)]
    with pytest.raises(FledgeError, match="logits hold nan"):
        engine.generate([[5, 77]], Settings(max_new_tokens=5), NEVER)
    tokens += list(stream)
    assert tokens[-1].generation == expected
    assert idle(engine)
    # what the broken request computed must not be remembered for others
    engine.loop.runner = engine.runner
    assert engine.generate([[5, 77]], Settings(max_new_tokens=5), NEVER)[0].cached_tokens == 0


def test_a_step_that_fails_ends_its_requests_and_the_engine_goes_on(stage: Path) -> None:
    engine = load_engine(stage)
    engine.loop.runner = Broken(engine.loop.runner, "raise")  # type: ignore[assignment]
    with pytest.raises(FledgeError, match="on fire"):
        engine.generate([[5, 77], [6]], Settings(max_new_tokens=5), NEVER)
    assert len(engine.generate([[6]], Settings(max_new_tokens=5), NEVER)[0].token_ids) == 5
    assert idle(engine)


def test_ctrl_c_in_a_step_leaves_the_engine_usable(
    stage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = load_engine(stage)
    stream = engine.stream([5, 6], Settings(max_new_tokens=9), NEVER)
    next(stream)

    def interrupted(pieces: Sequence[Piece]) -> Floats:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(engine.runner, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            engine.generate([[7]], Settings(max_new_tokens=5), NEVER)
    with pytest.raises(FledgeError, match="interrupted"):
        list(stream)
    assert len(engine.generate([[7]], Settings(max_new_tokens=5), NEVER)[0].token_ids) == 5
    assert idle(engine)


@pytest.mark.timeout(120)
def test_threads_are_computed_together(engine: Engine, prompt: list[int]) -> None:
    how = [Settings(max_new_tokens=30, temperature=1.0, seed=seed) for seed in range(8)]
    alone = [engine.generate([prompt], one, NEVER)[0] for one in how]
    made: dict[int, Generation] = {}

    def ask(place: int) -> None:
        made[place] = engine.generate([prompt], how[place], NEVER)[0]

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [made[place] for place in range(8)] == alone
    assert idle(engine)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_whoever_leaves_frees_everything(engine: Engine, data: st.DataObject) -> None:
    asked = data.draw(
        st.lists(
            st.tuples(
                st.lists(st.integers(10, 340), min_size=1, max_size=60),
                st.integers(1, 3),
                st.sampled_from([0, 4]),
            ),
            min_size=1,
            max_size=5,
        )
    )
    places = st.integers(0, len(asked) - 1)
    turns = data.draw(st.lists(places, max_size=30))
    order = data.draw(st.permutations(range(len(asked))))
    streams = []
    for number, (ids, n, lookup) in enumerate(asked):
        how = Settings(max_new_tokens=20, n=n, temperature=1.0, seed=number, lookup=lookup)
        streams.append(engine.stream(ids, how, NEVER))
    for place in turns:
        next(streams[place], None)
    for place in order:
        streams[place].close()  # type: ignore[attr-defined]
    assert idle(engine)


def test_settings_that_name_unknown_tokens_are_refused(engine: Engine, prompt: list[int]) -> None:
    with pytest.raises(InputError, match="logit_bias names token 100000"):
        engine.generate([prompt], Settings(logit_bias={100000: 1.0}))
    assert math.isfinite(engine.logprobs(prompt)[0])
    with pytest.raises(InputError, match="outside"):
        engine.logprobs([1, 100000])
    assert idle(engine)


@pytest.mark.parametrize("temperature", [0.0, 0.7])
@pytest.mark.parametrize("draft", ["same", "self", "other"])
def test_a_draft_model_changes_nothing(
    tmp_path: Path, stage: Path, draft: str, temperature: float
) -> None:
    plain = load_engine(stage)
    prompt = plain.encode_text("The Golden Gate Bridge")
    how = Settings(max_new_tokens=20, temperature=temperature, seed=3)
    expected = plain.generate([prompt], how, NEVER)[0]
    if draft == "self":
        deep = write_pico_model(tmp_path / "deep", depth=5)
        expected = load_engine(deep).generate([prompt], how, NEVER)[0]
        engine = load_engine(deep, draft="self")
    elif draft == "same":
        engine = load_engine(stage, draft=stage)
    else:
        engine = load_engine(stage, draft=write_pico_model(tmp_path / "other", depth=1))
    steps = engine.loop.steps
    made = engine.generate([prompt], replace(how, draft=4), NEVER)[0]
    assert made == expected
    assert made.drafted > 0
    if draft == "same" and not temperature:
        assert made.accepted >= 0.9 * made.drafted, "it guesses what it will say"
        assert engine.loop.steps - steps < 8
    assert idle(engine)


def test_a_draft_model_must_fit(tmp_path: Path, stage: Path, engine: Engine) -> None:
    other = write_pico_model(tmp_path / "other", vocab_size=320)
    with pytest.raises(InputError, match="another vocabulary"):
        load_engine(stage, draft=other)
    with pytest.raises(InputError, match="2 layers has none to skip"):
        load_engine(stage, draft="self")
    with pytest.raises(InputError, match="loaded without a draft model"):
        engine.generate([[5]], Settings(draft=3))
