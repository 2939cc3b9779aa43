"""How a prepared model's weights are stored: as plain arrays, or packed for the native kernels.

Plain storages are what the reference backend reads, on any device. A native storage is named after
the form of its matrices, as far as the form's rules allow (see `native_weights`).
"""

from __future__ import annotations

from typing import Literal, get_args

from headway.checkpoint.cast import StorageDtype
from headway.checkpoint.packing import WEIGHT_FORMATS, WeightFormat

NativeStorage = Literal["native-float32", "native-bfloat16", "native-int8", "native-int4"]
Storage = StorageDtype | NativeStorage

PLAIN: tuple[StorageDtype, ...] = get_args(StorageDtype)
NATIVE: tuple[NativeStorage, ...] = get_args(NativeStorage)
PLAIN_NAMES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
"""Plain storages by the names that safetensors gives their types."""
STORAGES: tuple[Storage, ...] = (*PLAIN, *NATIVE)


def native_storage(form: WeightFormat) -> NativeStorage:
    return NATIVE[WEIGHT_FORMATS.index(form)]


def native_form(storage: str) -> WeightFormat | None:
    """The form that a native storage is named after; None for a plain one."""
    return next((form for form in WEIGHT_FORMATS if native_storage(form) == storage), None)


def plain_dtype(storage: str) -> StorageDtype | None:
    """The type of a plain storage's matrices; None for a native one."""
    return next((dtype for dtype in PLAIN if dtype == storage), None)
