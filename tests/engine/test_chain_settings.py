"""Settings of the chain: what they take, and how they refuse the rest."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import pytest

from fledge.core.errors import InputError
from fledge.core.protocols import Sampling, Structure
from fledge.engine.chain.sampler import Sampler
from fledge.engine.chain.settings import Settings


def test_settings_hold_all_that_sampling_holds() -> None:
    form = Structure(kind="regex", value="a+")
    assert Settings.of(Sampling(structure=form)).structure is form
    how = Sampling(temperature=0.5, top_k=3, stop=("a",), seed=9)
    made = Settings.of(how, min_tokens=2)
    assert (made.temperature, made.top_k, made.stop, made.seed) == (0.5, 3, ("a",), 9)
    assert made.min_tokens == 2


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"temperatur": 1.0}, ["unknown", "'temperatur'", "did you mean 'temperature'?"]),
        ({"temperature": -1}, ["temperature = -1", "from 0 (greedy)"]),
        ({"temperature": math.nan}, ["temperature = nan"]),
        ({"temperature": "hot"}, ["temperature = 'hot'"]),
        ({"temperature": True}, ["temperature = True"]),
        ({"top_k": 1.5}, ["top_k = 1.5", "whole number"]),
        ({"top_p": 0}, ["top_p = 0", "above 0"]),
        ({"typical_p": 1.1}, ["typical_p = 1.1"]),
        ({"min_p": None}, ["min_p = None"]),
        ({"repetition_penalty": 0.0}, ["repetition_penalty = 0.0"]),
        ({"presence_penalty": math.inf}, ["presence_penalty = inf"]),
        ({"logit_bias": {"x": 1.0}}, ["logit_bias", "token ids"]),
        ({"logit_bias": {"5": math.inf}}, ["logit_bias"]),
        ({"logit_bias": [5]}, ["logit_bias = [5]"]),
        ({"stop": ""}, ["stop = ('',)"]),
        ({"stop_ids": [-1]}, ["stop_ids = (-1,)"]),
        ({"seed": "7"}, ["seed = '7'"]),
        ({"inspect": 1}, ["inspect = 1", "true or false"]),
        ({"min_tokens": 9, "max_new_tokens": 5}, ["min_tokens = 9", "max_new_tokens = 5"]),
        ({"top_logprobs": 5}, ["top_logprobs = 5", "logprobs"]),
        ({"best_of": 2, "n": 3}, ["n = 3", "best_of"]),
        ({"best_of": 2, "beams": 3}, ["exclude"]),
        ({"beams": 2, "n": 3}, ["n = 3", "beams"]),
    ],
)
def test_wrong_settings_name_key_value_and_remedy(values: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(InputError) as raised:
        Settings.parse(values)
    for word in words:
        assert word in str(raised.value)
    assert raised.value.remedy


def test_settings_read_json() -> None:
    made = Settings.parse({"logit_bias": {"5": -2, "7": -math.inf}, "stop": "x", "stop_ids": [3]})
    assert made.logit_bias == {5: -2, 7: -math.inf}
    assert (made.stop, made.stop_ids) == (("x",), (3,))
    assert hash(made) == hash(Settings.parse({"stop": ["x"], "stop_ids": [3]}))


def test_ids_must_be_the_models() -> None:
    with pytest.raises(InputError, match="logit_bias names token 200"):
        Sampler(Settings(logit_bias={200: 1.0}), 200)
    with pytest.raises(InputError, match="stop_ids names token 999"):
        Sampler(Settings(stop_ids=(999,)), 200)


def test_the_chain_imports_no_torch() -> None:
    code = (
        "import sys, fledge.engine.chain.sampler,"
        " fledge.engine.chain.lookup, fledge.engine.chain.beam, fledge.engine.tool_grammar;"
        " sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
