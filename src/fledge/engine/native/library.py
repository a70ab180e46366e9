"""The C interface of ``kernels/kernels.cpp``: Python values in, calls through ctypes out."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_char_p, c_float, c_int, c_int32, c_void_p
from enum import IntEnum
from functools import cache

from fledge.core.errors import FledgeError
from fledge.engine.native.build import library_path


class Shape(ctypes.Structure):
    """``struct Shape`` of model.h, field by field."""

    _fields_ = (
        ("vocabulary", c_int32),
        ("width", c_int32),
        ("depth", c_int32),
        ("heads", c_int32),
        ("kv_heads", c_int32),
        ("head_size", c_int32),
        ("ffn", c_int32),
        ("positions", c_int32),
        ("qk_norm", c_int32),
        ("gated", c_int32),
        ("activation", c_int32),
        ("kind", c_int32),
        ("kv_bfloat16", c_int32),
        ("block_size", c_int32),
        ("blocks", c_int32),
        ("threads", c_int32),
        ("norm_eps", c_float),
        ("softcap", c_float),
    )


class Role(IntEnum):
    """``enum Role`` of model.h: what a tensor of the checkpoint is."""

    EMBEDDING = 0
    HEAD = 1
    Q = 2
    K = 3
    VALUE = 4
    OUT = 5
    GATE = 6
    UP = 7
    DOWN = 8
    NORM = 9
    NORM1 = 10
    NORM2 = 11
    Q_NORM = 12
    K_NORM = 13


KINDS = ("float32", "bfloat16", "int8")
"""``enum Kind``."""

ACTIVATIONS = ("silu", "gelu", "gelu_tanh", "relu2")
"""``enum Activation``."""

FAILURES = {
    1: "a token is not in the vocabulary",
    2: "a position is beyond the context, or a piece is empty",
    3: "a block table is too short for its positions",
    4: "a block table names a block that does not exist",
    5: "an adapter is not loaded",
    6: "memory is full",
}
"""``enum Failure``: what is wrong with a step."""

_SIGNATURES = {
    "fledge_open": (c_void_p, (POINTER(Shape), c_void_p, c_void_p, c_void_p)),
    "fledge_close": (None, (c_void_p,)),
    "fledge_set_matrix": (None, (c_void_p, c_int, c_int, c_void_p, c_int, c_int, c_int)),
    "fledge_set_vector": (None, (c_void_p, c_int, c_int, c_void_p, c_int)),
    "fledge_step": (c_int, (c_void_p, c_int, c_void_p, c_void_p, c_void_p, c_void_p)),
    "fledge_copy_block": (None, (c_void_p, c_int, c_int)),
    "fledge_adapter_open": (c_int, (c_void_p,)),
    "fledge_adapter_set": (
        c_int,
        (c_void_p, *[c_int] * 3, c_void_p, c_void_p, c_void_p, *[c_int] * 3),
    ),
    "fledge_adapter_close": (None, (c_void_p, c_int)),
    "fledge_level": (c_char_p, ()),
}


@cache
def load_library(level: str | None = None) -> ctypes.CDLL:
    """The kernels for this CPU (``library_path``), loaded once a process."""
    path = library_path(level)
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise FledgeError(f"{path} cannot be loaded: {error}", remedy="delete it") from None
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
