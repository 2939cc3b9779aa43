"""A lowered program in the library's hands: created once, run for every step.

Turns handles into addresses, keeps alive what those point at, and owns the threads and the KV
cache's memory. What stands in a step is the runner's business.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence

import numpy as np

from headway.errors import InvalidRequest, ModelError
from headway.native import abi
from headway.native.library import Library
from headway.ops.native.memory import anonymous, touch_ahead
from headway.ops.native.program import Instruction, Program
from headway.ops.native.weights import NativeWeights, address
from headway.ops.protocol import CacheShape, Floats

_MESSAGE_BYTES = 512

Seconds = ctypes.Array[ctypes.c_double]


def no_seconds() -> Seconds:
    """Zero seconds for each kind of operation, and for selection as the last entry."""
    return (ctypes.c_double * (len(abi.HwKind) + 1))()


def cache_bytes(library: Library, shape: CacheShape, kind: abi.CacheKind) -> int:
    """What a KV cache takes; raises `InvalidRequest` for one that the kernels cannot have."""
    size: int = library.hw_cache_bytes(ctypes.byref(_cache(shape, kind)))
    if size < 0:
        raise InvalidRequest(
            f"the native kernels have no cache of blocks of {shape.block_size} tokens and heads "
            f"of {shape.head_dim} components; block_size may be 16, 32, 64 or 128",
            field="block_size",
        )
    return size


class CacheMemory:
    """A KV cache, all zeros; its memory is taken only as it is used."""

    def __init__(self, library: Library, shape: CacheShape, kind: abi.CacheKind) -> None:
        self.bytes = cache_bytes(library, shape, kind)
        try:
            self._memory = anonymous(self.bytes)
        except (OSError, ValueError) as error:
            raise InvalidRequest(
                f"{self.bytes / 2**30:.2f} GiB for the KV cache cannot be had: {error}",
                field="kv_cache_memory",
            ) from error
        self._layers = shape.num_layers
        self.description = _cache(shape, kind)
        self.description.memory = address(np.frombuffer(self._memory, dtype=np.uint8))

    def touch_ahead(self, size: int) -> None:
        """Let the first blocks of all layers, `size` bytes in all, be taken in the background."""
        touch_ahead(self._memory, self.description.memory, self._layers, size)


class CompiledProgram:
    """One model's program, with threads of its own; they end with the last reference to it.

    Raises `ModelError` where the library finds that the program makes no sense.
    """

    def __init__(
        self,
        library: Library,
        listing: Program,
        weights: NativeWeights,
        cache: CacheMemory,
        *,
        isa: str,
        threads: int,
        cpus: Sequence[int] | None = None,
    ) -> None:
        self._library = library
        self._listing = listing
        self._keep = (weights, cache)
        pinned = None if cpus is None else (ctypes.c_int32 * len(cpus))(*cpus)
        pool = library.hw_pool_create(threads, pinned)
        if not pool:
            raise InvalidRequest(f"{threads} threads cannot be started", field="threads")
        message = ctypes.create_string_buffer(_MESSAGE_BYTES)
        operations = _operations(listing, weights)
        matrices = _matrices(weights)
        buffers = _buffers(listing)
        self._handle = library.hw_program_create(
            pool,
            isa.encode(),
            operations,
            len(operations),
            matrices,
            len(matrices),
            buffers,
            len(buffers),
            ctypes.byref(cache.description),
            message,
            _MESSAGE_BYTES,
        )
        if not self._handle:
            library.hw_pool_destroy(pool)
            raise ModelError(f"the native kernels refuse the model: {message.value.decode()}")
        weakref.finalize(self, _destroy, library, self._handle, pool)

    def run(self, step: abi.HwStep, seconds: Seconds | None = None) -> None:
        """Compute a step, without the interpreter's lock. Raises `MemoryError`."""
        if self._library.hw_program_run(self._handle, ctypes.byref(step), seconds):
            raise MemoryError("not enough memory for the rows of a step")

    def read(self, buffer: int, num_tokens: int) -> Floats:
        """What a buffer holds after a step of so many tokens, [num_tokens, width]."""
        found = np.empty((num_tokens, self._listing.buffers[buffer].width), dtype=np.float32)
        if self._library.hw_program_read(self._handle, buffer, _floats(found)):
            raise ValueError(f"there is no buffer {buffer}")
        return found

    def scores(self, num_tokens: int, vocabulary: int) -> Floats:
        """Scores of all rows of the last step, [num_tokens, vocabulary]."""
        found = np.empty((num_tokens, vocabulary), dtype=np.float32)
        if self._library.hw_program_scores(self._handle, _floats(found)):
            raise MemoryError("not enough memory for the scores of a step")
        return found


def _destroy(library: Library, handle: int, pool: int) -> None:
    library.hw_program_destroy(handle)
    library.hw_pool_destroy(pool)


def _floats(array: Floats) -> ctypes._Pointer[ctypes.c_float]:
    return array.ctypes.data_as(ctypes.POINTER(ctypes.c_float))


def _cache(shape: CacheShape, kind: abi.CacheKind) -> abi.HwCache:
    return abi.HwCache(
        kind=kind,
        num_layers=shape.num_layers,
        num_blocks=shape.num_blocks,
        block_size=shape.block_size,
        kv_heads=shape.num_kv_heads,
        head_dim=shape.head_dim,
    )


def _matrices(weights: NativeWeights) -> ctypes.Array[abi.HwMatrix]:
    found = (abi.HwMatrix * len(weights.matrices))()
    for place, matrix in zip(found, weights.matrices, strict=True):
        place.data, place.bias = matrix.data, matrix.bias
        place.form, place.outputs, place.inputs = matrix.form, matrix.outputs, matrix.inputs
    return found


def _buffers(listing: Program) -> ctypes.Array[abi.HwBuffer]:
    found = (abi.HwBuffer * len(listing.buffers))()
    for place, buffer in zip(found, listing.buffers, strict=True):
        place.form, place.width = buffer.form, buffer.width
    return found


def _operations(listing: Program, weights: NativeWeights) -> ctypes.Array[abi.HwOp]:
    found = (abi.HwOp * len(listing.operations))()
    for place, operation in zip(found, listing.operations, strict=True):
        _fill(place, operation, weights)
    return found


def _fill(place: abi.HwOp, operation: Instruction, weights: NativeWeights) -> None:
    place.kind, place.epilogue = operation.kind, operation.epilogue
    place.in_, place.in2 = operation.source, operation.source2
    place.out, place.out2 = operation.out, operation.out2
    place.matrix, place.matrix2 = operation.matrix, operation.matrix2
    place.activation = operation.activation
    place.experts, place.chosen = operation.experts, operation.chosen
    place.normalise = operation.normalise
    place.eps, place.scale, place.softcap = operation.eps, operation.scale, operation.softcap
    if operation.weight is not None:
        place.weight = address(weights.vectors[operation.weight.index])
    spec = operation.spec
    if spec is not None:
        place.layer, place.heads, place.kv_heads = spec.layer, spec.heads, spec.kv_heads
        place.head_dim, place.window = spec.head_dim, spec.window or 0
        place.cos, place.sin = (address(table) for table in weights.ropes[spec.rope.index])
        if spec.norms is not None:
            queries, keys = spec.norms
            place.weight = address(weights.vectors[queries.index])
            place.weight2 = address(weights.vectors[keys.index])
