"""The C interface of `native/headway.h` as ctypes structures and argument types.

Field for field what the header says, and nothing more: which library it is and whether it speaks
this version is `library`'s business. Pointers are plain addresses (`c_void_p`), so that
`numpy.dtype(HwSampling)` gives an array type of the same layout and a step's records can be filled
column by column. Whoever puts an address into a structure keeps its memory alive.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_char_p, c_double, c_float, c_int32, c_int64, c_void_p
from enum import IntEnum

ABI = 5
"""The version of the interface that these structures describe (`HW_ABI`)."""


class HwWeightFormat(IntEnum):
    """How a matrix is packed (`hw_weight_format`)."""

    FLOAT32 = 0
    BFLOAT16 = 1
    INT8 = 2
    INT4 = 3


class Activation(IntEnum):
    SILU = 0
    GELU_TANH = 1


class Epilogue(IntEnum):
    """What becomes of an operation's result (`hw_epilogue`)."""

    STORE = 0
    ADD = 1
    GATE = 2


class HwKind(IntEnum):
    """What an operation does (`hw_kind`)."""

    EMBED = 0
    NORM = 1
    CONVERT = 2
    LINEAR = 3
    ROPE = 4
    ATTENTION = 5
    EXPERTS = 6
    LM_HEAD = 7


class CacheKind(IntEnum):
    """The number format of stored keys and values (`hw_cache_kind`)."""

    FLOAT32 = 0
    BFLOAT16 = 1
    INT8 = 2


class HwStatus(IntEnum):
    """Whether a token was sampled (`hw_status`)."""

    OK = 0
    NOT_FINITE = 1
    NOTHING_LEFT = 2


class HwMatrix(ctypes.Structure):
    """`hw_matrix`."""

    _fields_ = (
        ("data", c_void_p),
        ("bias", c_void_p),
        ("format", c_int32),
        ("n", c_int32),
        ("k", c_int32),
    )


class HwBuffer(ctypes.Structure):
    """`hw_buffer`."""

    _fields_ = (("format", c_int32), ("width", c_int32))


class HwOp(ctypes.Structure):
    """`hw_op`."""

    _fields_ = (
        ("kind", c_int32),
        ("in_", c_int32),
        ("out", c_int32),
        ("out2", c_int32),
        ("epilogue", c_int32),
        ("activation", c_int32),
        ("matrix", c_int32),
        ("matrix2", c_int32),
        ("layer", c_int32),
        ("heads", c_int32),
        ("kv_heads", c_int32),
        ("head_dim", c_int32),
        ("window", c_int32),
        ("num_experts", c_int32),
        ("top_k", c_int32),
        ("normalise", c_int32),
        ("in2", c_int32),
        ("eps", c_float),
        ("scale", c_float),
        ("softcap", c_float),
        ("weight", c_void_p),
        ("weight2", c_void_p),
        ("cos", c_void_p),
        ("sin", c_void_p),
    )


class HwCache(ctypes.Structure):
    """`hw_cache`."""

    _fields_ = (
        ("kind", c_int32),
        ("num_layers", c_int32),
        ("num_blocks", c_int32),
        ("block_size", c_int32),
        ("kv_heads", c_int32),
        ("head_dim", c_int32),
        ("memory", c_void_p),
    )


class HwSampling(ctypes.Structure):
    """`hw_sampling`."""

    _fields_ = (
        ("row", c_int64),
        ("target", c_int64),
        ("seed", c_int64),
        ("position", c_int64),
        ("tokens", c_void_p),
        ("num_tokens", c_int64),
        ("prompt_len", c_int64),
        ("allowed", c_void_p),
        ("num_allowed", c_int64),
        ("banned", c_void_p),
        ("num_banned", c_int64),
        ("bias_tokens", c_void_p),
        ("bias_values", c_void_p),
        ("num_bias", c_int64),
        ("mask", c_void_p),
        ("temperature", c_float),
        ("top_p", c_float),
        ("min_p", c_float),
        ("top_k", c_int32),
        ("repetition_penalty", c_float),
        ("frequency_penalty", c_float),
        ("presence_penalty", c_float),
        ("greedy", c_int32),
        ("logprobs", c_int32),
    )


class HwSampledToken(ctypes.Structure):
    """`hw_sampled_token`."""

    _fields_ = (
        ("token", c_int64),
        ("status", c_int32),
        ("rank", c_int32),
        ("logprob", c_float),
        ("top_tokens", c_void_p),
        ("top_logprobs", c_void_p),
    )


class HwStep(ctypes.Structure):
    """`hw_step`."""

    _fields_ = (
        ("num_tokens", c_int64),
        ("num_slices", c_int64),
        ("num_sampled", c_int64),
        ("tokens", c_void_p),
        ("starts", c_void_p),
        ("counts", c_void_p),
        ("block_tables", c_void_p),
        ("table_width", c_int64),
        ("sampling", c_void_p),
        ("sampled", c_void_p),
        ("has_nan", c_void_p),
        ("all_rows", c_int64),
    )


def declare(library: ctypes.CDLL) -> None:
    """Tell ctypes the argument and result types of every function of the library."""
    for name, (result, arguments) in _functions().items():
        function = getattr(library, name)
        function.restype = result
        function.argtypes = arguments


def _functions() -> dict[str, tuple[type | None, tuple[type, ...]]]:
    text, pointer, number, big = c_char_p, c_void_p, c_int32, c_int64
    return {
        "hw_abi": (number, ()),
        "hw_compiled": (text, ()),
        "hw_supported": (number, (text,)),
        "hw_pool_create": (pointer, (number, POINTER(c_int32))),
        "hw_pool_destroy": (None, (pointer,)),
        "hw_cache_bytes": (big, (POINTER(HwCache),)),
        "hw_program_create": (
            pointer,
            (
                pointer,
                text,
                POINTER(HwOp),
                number,
                POINTER(HwMatrix),
                number,
                POINTER(HwBuffer),
                number,
                POINTER(HwCache),
                c_char_p,
                number,
            ),
        ),
        "hw_program_destroy": (None, (pointer,)),
        "hw_program_run": (number, (pointer, POINTER(HwStep), POINTER(c_double))),
        "hw_measure_flops": (c_double, (pointer, text, number, c_double)),
        "hw_measure_bandwidth": (c_double, (pointer, text, big, c_double)),
        "hw_program_read": (number, (pointer, number, POINTER(c_float))),
        "hw_sample": (
            number,
            (text, POINTER(c_float), big, POINTER(HwSampling), POINTER(HwSampledToken)),
        ),
        "hw_program_logits": (number, (pointer, POINTER(c_float))),
    }
