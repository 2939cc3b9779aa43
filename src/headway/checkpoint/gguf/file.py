"""Reading GGUF files: metadata, the table of tensors, and rows as float32 or four-bit blocks.

The header is parsed here rather than by `gguf.GGUFReader`, which keeps an array object per string
(seconds for a large vocabulary) and trusts every count it reads; block formats are decoded by
`gguf.quants`. Every length is checked against the file before it is used, so a damaged file costs
one `ModelError` and never memory or time. `GgufKeys` gives typed access to the metadata. Knows
nothing of models.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

from headway.checkpoint.packing import FourBitBlocks
from headway.errors import ModelError

Scalar = bool | int | float | str
Value = Scalar | list[str] | npt.NDArray[np.generic]

_MAGIC = b"GGUF"
_STRING, _ARRAY, _BOOL = 8, 9, 7
_MAX_STRING = 16 * 2**20
_MAX_NAME = 256
_SCALARS: Mapping[int, str] = {
    **{0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<B"},
    **{10: "<Q", 11: "<q", 12: "<d"},
}
_READABLE = frozenset(
    GGMLQuantizationType[name]
    for name in "F32 F16 BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q4_K Q5_K Q6_K".split()  # noqa: SIM905
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufTensor:
    """Where one tensor lies. `shape` is outermost first, as in numpy; `offset` in bytes."""

    name: str
    shape: tuple[int, ...]
    kind: GGMLQuantizationType
    offset: int
    row_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufFile:
    """One open GGUF file, mapped into memory."""

    path: Path
    metadata: Mapping[str, Value]
    tensors: Mapping[str, GgufTensor]
    data: npt.NDArray[np.uint8]

    def rows(self, name: str, start: int, stop: int) -> npt.NDArray[np.float32]:
        """Rows start..stop of a tensor seen as a matrix of its innermost dimension."""
        tensor = self.tensors[name]
        raw = self._raw(tensor, start, stop)
        if tensor.kind is GGMLQuantizationType.F32:
            return raw.view(np.dtype("<f4")).reshape(stop - start, -1).astype(np.float32)
        if tensor.kind is GGMLQuantizationType.F16:
            return raw.view(np.dtype("<f2")).reshape(stop - start, -1).astype(np.float32)
        with np.errstate(all="ignore"):  # damaged scales may overflow; the numbers stay theirs
            decoded: npt.NDArray[np.float32] = dequantize(
                raw.reshape(stop - start, tensor.row_bytes), tensor.kind
            )
        return decoded

    def blocks(self, name: str, start: int, stop: int) -> FourBitBlocks:
        """The same rows of a tensor whose kind is in `FOUR_BIT`, as they are stored."""
        tensor = self.tensors[name]
        raw = self._raw(tensor, start, stop)
        return four_bit_blocks(raw.reshape(stop - start, tensor.row_bytes), tensor.kind)

    def _raw(self, tensor: GgufTensor, start: int, stop: int) -> npt.NDArray[np.uint8]:
        first = tensor.offset + start * tensor.row_bytes
        return self.data[first : first + (stop - start) * tensor.row_bytes]


def open_gguf(path: Path) -> GgufFile:
    """Map a GGUF file (version 2 or 3, little-endian) and read its header.

    Raises `ModelError`, naming the file, where it is not one, or is truncated or damaged.
    """
    try:
        data = np.memmap(path, dtype=np.uint8, mode="r")
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read: {error}") from error
    reader = _Reader(path=path, data=data.data)
    metadata, table = reader.header()
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment not in (1 << bits for bits in range(17)):
        raise ModelError(f"{path}: general.alignment is not a small power of two: {alignment}")
    base = -(-reader.position // alignment) * alignment
    tensors = {
        name: _place(path, name, dims, kind, base + offset, len(data))
        for name, (dims, kind, offset) in table.items()
    }
    return GgufFile(path=path, metadata=metadata, tensors=tensors, data=data)


def _place(
    path: Path, name: str, dims: tuple[int, ...], kind: int, offset: int, size: int
) -> GgufTensor:
    try:
        known = GGMLQuantizationType(kind)
    except ValueError:
        raise ModelError(f"{path}: tensor {name} has the unknown type {kind}") from None
    if known not in _READABLE:
        names = ", ".join(sorted(kind.name for kind in _READABLE))
        raise ModelError(f"{path}: tensor {name} is quantised as {known.name}; readable: {names}")
    shape = tuple(reversed(dims))
    block, block_bytes = GGML_QUANT_SIZES[known]
    if not shape or 0 in shape or shape[-1] % block:
        raise ModelError(f"{path}: tensor {name} has the impossible shape {list(shape)}")
    row_bytes = shape[-1] // block * block_bytes
    end = offset + row_bytes * math.prod(shape[:-1])
    if end > size:
        raise ModelError(
            f"{path}: truncated: tensor {name} ends at byte {end:,}, the file at {size:,}"
        )
    return GgufTensor(name=name, shape=shape, kind=known, offset=offset, row_bytes=row_bytes)


class _Reader:
    """A cursor over the header."""

    def __init__(self, *, path: Path, data: memoryview) -> None:
        self.path = path
        self.data = data
        self.position = 0

    def header(self) -> tuple[dict[str, Value], dict[str, tuple[tuple[int, ...], int, int]]]:
        if bytes(self.data[:4]) != _MAGIC:
            raise ModelError(f"{self.path}: not a GGUF file: it does not start with 'GGUF'")
        self.position = 4
        version = self._number("<I")
        if version not in (2, 3):
            swapped = int.from_bytes(int(version).to_bytes(4, "little"), "big")
            note = " (big-endian)" if swapped in (2, 3) else ""
            raise ModelError(
                f"{self.path}: GGUF version {version}{note} is not supported; 2 and 3 are"
            )
        tensor_count = self._count("tensors", 24)
        pair_count = self._count("metadata pairs", 13)
        metadata: dict[str, Value] = {}
        for _ in range(pair_count):
            key = self._string(_MAX_STRING)
            if key in metadata:
                raise self._damaged(f"the key {key!r} appears twice")
            metadata[key] = self._value(int(self._number("<I")))
        table: dict[str, tuple[tuple[int, ...], int, int]] = {}
        for _ in range(tensor_count):
            name = self._string(_MAX_NAME)
            rank = int(self._number("<I"))
            if name in table or rank > 4:
                raise self._damaged(f"tensor {name!r} appears twice or has {rank} dimensions")
            dims = tuple(int(self._number("<Q")) for _ in range(rank))
            table[name] = (dims, int(self._number("<I")), int(self._number("<Q")))
        return metadata, table

    def _damaged(self, what: str) -> ModelError:
        return ModelError(f"{self.path}: damaged GGUF header near byte {self.position:,}: {what}")

    def _number(self, code: str) -> int | float:
        try:
            (value,) = struct.unpack_from(code, self.data, self.position)
        except struct.error:
            raise ModelError(f"{self.path}: truncated: the header ends mid-way") from None
        self.position += struct.calcsize(code)
        number: int | float = value
        return number

    def _count(self, what: str, least_bytes: int) -> int:
        """A count that the rest of the file could hold."""
        count = int(self._number("<Q"))
        if count * least_bytes > len(self.data) - self.position:
            raise ModelError(
                f"{self.path}: truncated or damaged: {count:,} {what} do not fit in the file"
            )
        return count

    def _string(self, limit: int) -> str:
        length = self._count("bytes of text", 1)
        if length > limit:
            raise self._damaged(f"a text of {length:,} bytes")
        raw = bytes(self.data[self.position : self.position + length])
        self.position += length
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise self._damaged("a text is not UTF-8") from None

    def _value(self, kind: int) -> Value:
        if kind == _STRING:
            return self._string(_MAX_STRING)
        if kind == _ARRAY:
            return self._array()
        if kind not in _SCALARS:
            raise self._damaged(f"unknown value type {kind}")
        number = self._number(_SCALARS[kind])
        return bool(number) if kind == _BOOL else number

    def _array(self) -> Value:
        kind = int(self._number("<I"))
        if kind == _STRING:
            return [self._string(_MAX_STRING) for _ in range(self._count("texts", 8))]
        if kind not in _SCALARS:
            raise self._damaged(f"unknown array type {kind}")
        dtype = np.dtype(_SCALARS[kind])
        count = self._count("array elements", dtype.itemsize)
        start = self.position
        self.position += count * dtype.itemsize
        found = np.frombuffer(self.data, dtype=dtype, count=count, offset=start)
        return found.astype(np.bool_) if kind == _BOOL else found.copy()


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufKeys:
    """The metadata of one file. Keys that lack a namespace are looked up under `prefix`.

    Every method takes a default for a key that is not there, and raises `ModelError` without one
    or where the value has another type.
    """

    path: Path
    values: Mapping[str, Value]
    prefix: str = ""

    def under(self, prefix: str) -> GgufKeys:
        return GgufKeys(path=self.path, values=self.values, prefix=f"{prefix}.")

    def integer(self, key: str, default: int | None = None) -> int:
        value = self._find(key, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._wrong(key, "a whole number")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        value = self._find(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self._wrong(key, "a number")
        if not math.isfinite(value):
            raise self._wrong(key, "a finite number")
        return float(value)

    def flag(self, key: str, default: bool | None = None) -> bool:
        value = self._find(key, default)
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        value = self._find(key, default)
        if not isinstance(value, str):
            raise self._wrong(key, "a text")
        return value

    def texts(self, key: str, default: list[str] | None = None) -> list[str]:
        value = self._find(key, default)
        if isinstance(value, np.ndarray) and value.size == 0:
            return []
        if not isinstance(value, list):
            raise self._wrong(key, "a list of texts")
        return value

    def numbers(self, key: str, default: list[float] | None = None) -> list[float]:
        value = self._find(key, default)
        if isinstance(value, list) and value == default:
            return [float(number) for number in value]
        if not isinstance(value, np.ndarray):
            raise self._wrong(key, "a list of numbers")
        found: list[float] = value.tolist()
        return found

    def uniform(self, key: str, default: int | None = None) -> int:
        """A whole number, also where it is written once per layer."""
        value = self._find(key, default)
        if isinstance(value, np.ndarray) and value.size and value.dtype.kind in "iu":
            if value.min() != value.max():
                raise ModelError(f"{self.path}: {key} that differs by layer is not supported")
            return int(value.flat[0])
        return self.integer(key, default)

    def _find(self, key: str, default: object) -> object:
        full = key if key.startswith(("general.", "tokenizer.", "split.")) else self.prefix + key
        value = self.values.get(full, default)
        if value is None:
            raise ModelError(f"{self.path}: the metadata key {full} is missing", field=full)
        return value

    def _wrong(self, key: str, wanted: str) -> ModelError:
        return ModelError(f"{self.path}: the metadata key {key} is not {wanted}", field=key)


Array = npt.NDArray[Any]

FOUR_BIT = frozenset(
    (GGMLQuantizationType.Q4_0, GGMLQuantizationType.Q4_1, GGMLQuantizationType.Q4_K)
)
_HALF = np.dtype("<f2")


def four_bit_blocks(raw: npt.NDArray[np.uint8], kind: GGMLQuantizationType) -> FourBitBlocks:
    """Rows of bytes [rows, row bytes] of one of the `FOUR_BIT` types, taken apart.

    Q4_0 has a scale per 32 weights, Q4_1 a scale and a minimum, and both keep weight n of a block
    in the low and weight n + 16 in the high four bits of one byte. Q4_K shares a scale of scales
    and one of minima among eight groups of 32, each with six bits of its own; their products are
    rounded to float16 here, which is all that is not exact.
    """
    rows = len(raw)
    if kind is GGMLQuantizationType.Q4_K:
        q, scale, minimum = _q4_k(raw.reshape(-1, 144))
    else:
        head = 2 if kind is GGMLQuantizationType.Q4_0 else 4
        raw = raw.reshape(-1, head + 16)
        halves = raw[:, :head].copy().view(_HALF)
        nibbles = raw[:, head:]
        q = np.concatenate((nibbles & 15, nibbles >> 4), axis=1)
        scale = halves[:, 0]
        with np.errstate(all="ignore"):  # a damaged scale may be anything
            minimum = halves[:, 1] if head == 4 else scale * np.float16(-8)
    return FourBitBlocks(
        q=q.reshape(rows, -1),
        scale=scale.reshape(rows, -1),
        minimum=minimum.reshape(rows, -1),
    )


def _q4_k(raw: Array) -> tuple[Array, Array, Array]:
    """Blocks of 256 weights: two float16, twelve bytes of eight scales and minima, 128 bytes."""
    both = raw[:, :4].copy().view(_HALF).astype(np.float32)
    packed = raw[:, 4:16].reshape(-1, 3, 4)
    # The first four scales and minima lie in six bits each; of the last four, the lower four bits
    # share a byte and the upper two fill what the first four left free.
    low, high, shared = packed[:, 0], packed[:, 1], packed[:, 2]
    scales = np.concatenate((low & 63, (shared & 15) | (low >> 6 << 4)), axis=1)
    minima = np.concatenate((high & 63, (shared >> 4) | (high >> 6 << 4)), axis=1)
    pairs = raw[:, 16:].reshape(-1, 4, 32)
    q = np.stack((pairs & 15, pairs >> 4), axis=2)
    with np.errstate(all="ignore"):
        return (
            q.reshape(-1, 256),
            (both[:, :1] * scales).astype(np.float16),
            (-both[:, 1:] * minima).astype(np.float16),
        )
