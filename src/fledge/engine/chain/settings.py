"""How to draw a request's tokens: every value checked once, errors name key, value and remedy."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from fledge.core.config import nearest
from fledge.core.errors import InputError
from fledge.core.protocols import Sampling

COLDEST = 1e-5
"""Below this temperature the likeliest token is taken: float32 holds no finer differences."""


@dataclass(frozen=True, kw_only=True)
class Settings(Sampling):
    """A ``Sampling`` whose values are checked, and what only the engine's own callers ask for."""

    stop_ids: tuple[int, ...] = ()
    """Tokens that end the answer, besides the model's own."""

    inspect: bool = False
    """Report what the chain saw and did for each token."""

    beams: int = 1
    """Width of a beam search; 1 is off."""

    length_penalty: float = 1.0
    """Beams are ranked by log p / tokens ** this."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "logit_bias", dict(self.logit_bias))
        for name, (fine, allowed) in _RULES.items():
            value = getattr(self, name)
            if not fine(value):
                raise InputError(f"{name} = {value!r} is not valid", remedy=f"use {allowed}")
        _check_together(self)

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is taken."""
        return self.temperature < COLDEST

    @classmethod
    def of(cls, sampling: Sampling, **more: Any) -> Settings:
        """The settings of a ``Sampling``; ``more`` are fields that it has not."""
        given = {one.name: getattr(sampling, one.name) for one in fields(sampling)}
        return cls.parse({**given, **more})

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Settings:
        """Settings from names and values, as JSON gives them; an unknown name is refused."""
        known = [one.name for one in fields(cls)]
        for name in values:
            if name not in known:
                raise InputError(
                    f"unknown sampling setting {name!r}", remedy=nearest(str(name), known)
                )
        return cls(**{name: _READ.get(name, _same)(value) for name, value in values.items()})


def _same(value: Any) -> Any:
    return value


def _texts(value: Any) -> Any:
    return (value,) if isinstance(value, str) else _tuple(value)


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _bias(value: Any) -> Any:
    """A bias whose ids are texts, as JSON writes keys; what cannot be read is refused."""
    if not isinstance(value, Mapping):
        raise InputError(f"logit_bias = {value!r} is not valid", remedy=f"use {_BIAS}")
    return {int(k) if isinstance(k, str) and k.isdecimal() else k: v for k, v in value.items()}


_READ: dict[str, Callable[[Any], Any]] = {"stop": _texts, "stop_ids": _tuple, "logit_bias": _bias}


def _whole(low: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= low


def _number(fine: Callable[[float], bool]) -> Callable[[Any], bool]:
    return lambda value: (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and fine(value)
    )


def _biases(value: Any) -> bool:
    added = _number(lambda v: abs(v) <= 1000)
    return all(_whole(0)(k) and (v == -math.inf or added(v)) for k, v in value.items())


def _each(fine: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, tuple) and all(fine(one) for one in value)


_BIAS = "token ids with numbers from -1000 to 1000, or -inf"
_FLAG = (lambda v: isinstance(v, bool), "true or false")
_PENALTY = (_number(lambda v: -100 <= v <= 100), "a number from -100 to 100; 0 is off")

_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "max_new_tokens": (_whole(0), "a whole number from 1"),
    "min_tokens": (_whole(0), "a whole number from 0 (off)"),
    "temperature": (_number(lambda v: v >= 0), "a number from 0 (greedy)"),
    "top_k": (_whole(0), "a whole number from 0 (off)"),
    "top_p": (_number(lambda v: 0 < v <= 1), "a number above 0, up to 1 (off)"),
    "min_p": (_number(lambda v: 0 <= v <= 1), "a number from 0 (off) to 1"),
    "typical_p": (_number(lambda v: 0 < v <= 1), "a number above 0, up to 1 (off)"),
    "top_n_sigma": (_number(lambda v: v >= 0), "a number from 0 (off)"),
    "repetition_penalty": (_number(lambda v: v > 0), "a number above 0; 1 is off"),
    "presence_penalty": _PENALTY,
    "frequency_penalty": _PENALTY,
    "logit_bias": (_biases, _BIAS),
    "seed": (lambda v: v is None or _whole(-(2**127))(v), "a whole number, or none"),
    "stop": (_each(lambda v: isinstance(v, str) and v != ""), "texts that are not empty"),
    "stop_ids": (_each(_whole(0)), "token ids"),
    "logprobs": _FLAG,
    "top_logprobs": (lambda v: _whole(0)(v) and v <= 100, "a whole number from 0 to 100"),
    "echo": _FLAG,
    "inspect": _FLAG,
    "n": (_whole(1), "a whole number from 1"),
    "best_of": (lambda v: v is None or _whole(1)(v), "a whole number from 1, or none"),
    "lookup": (lambda v: _whole(0)(v) and v <= 64, "a whole number from 0 (off) to 64"),
    "draft": (lambda v: _whole(0)(v) and v <= 64, "a whole number from 0 (off) to 64"),
    "beams": (_whole(1), "a whole number from 1 (off)"),
    "length_penalty": (_number(lambda v: True), "a number"),
}


def _check_together(settings: Settings) -> None:
    """Refuse values that are fine alone and contradict each other."""
    least, most = settings.min_tokens, settings.max_new_tokens
    if not most and not settings.echo:
        raise InputError(
            "max_new_tokens = 0 leaves nothing to do", remedy="use 1 or more, or echo = true"
        )
    if least > most:
        raise InputError(
            f"min_tokens = {least} is more than max_new_tokens = {most}",
            remedy="lower the one or raise the other",
        )
    if settings.top_logprobs and not settings.logprobs:
        raise InputError(
            f"top_logprobs = {settings.top_logprobs} needs logprobs",
            remedy="set logprobs to true",
        )
    width = settings.best_of if settings.best_of is not None else settings.beams
    if settings.best_of is not None and settings.beams > 1:
        raise InputError(
            f"best_of = {settings.best_of} and beams = {settings.beams} exclude each other",
            remedy="leave one of them out",
        )
    if (settings.best_of is not None or settings.beams > 1) and width < settings.n:
        raise InputError(
            f"n = {settings.n} is more than the {width} answers searched",
            remedy="raise best_of or beams to at least n",
        )
