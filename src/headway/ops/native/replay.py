"""A `Program` in the native library: created once, replayed for every step with a single call.

Turns handles and buffer numbers into the addresses that the library wants, keeps alive what those
point at (weights, KV cache), and owns the compute threads. A step's tokens, positions and block
tables come in an `abi.HwStep`, which the runner fills.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence

import numpy as np

from headway.errors import InvalidRequest, ModelError
from headway.native import Library, abi
from headway.ops.native.memory import CacheMemory, address
from headway.ops.native.program import Instruction, Program
from headway.ops.native.weights import NativeWeights
from headway.ops.protocol import Floats

_MESSAGE_BYTES = 512

Seconds = ctypes.Array[ctypes.c_double]


def no_seconds() -> Seconds:
    """Zero seconds for each `abi.HwKind`, and for sampling as the last entry."""
    return (ctypes.c_double * (len(abi.HwKind) + 1))()


class CompiledProgram:
    """A program that the library can run, on threads that end with the last reference to it.

    Raises `ModelError` where the library finds that the program makes no sense.
    """

    def __init__(
        self,
        library: Library,
        program: Program,
        weights: NativeWeights,
        cache: CacheMemory,
        *,
        isa: str,
        threads: int,
        cpus: Sequence[int] | None = None,
    ) -> None:
        self._library = library
        self._program = program
        self._keep = (weights, cache)
        pinned = None if cpus is None else (ctypes.c_int32 * len(cpus))(*cpus)
        pool = library.hw_pool_create(threads, pinned)
        if not pool:
            raise InvalidRequest(f"{threads} threads cannot be started", field="threads")
        message = ctypes.create_string_buffer(_MESSAGE_BYTES)
        instructions = _instructions(program, weights)
        matrices = _matrices(weights)
        buffers = _buffers(program)
        self._handle = library.hw_program_create(
            pool,
            isa.encode(),
            instructions,
            len(instructions),
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
        found = np.empty((num_tokens, self._program.buffers[buffer].width), dtype=np.float32)
        if self._library.hw_program_read(self._handle, buffer, _floats(found)):
            raise ValueError(f"there is no buffer {buffer}")
        return found

    def hidden(self, num_tokens: int) -> Floats:
        """Hidden states of all rows of the last step, as lm_head reads them, [num_tokens, H]."""
        return self.read(self._program.instructions[-1].source, num_tokens)

    def logits(self, num_tokens: int, vocabulary: int) -> Floats:
        """Logits of all rows of the last step, [num_tokens, vocabulary]."""
        found = np.empty((num_tokens, vocabulary), dtype=np.float32)
        if self._library.hw_program_logits(self._handle, _floats(found)):
            raise MemoryError("not enough memory for the logits of a step")
        return found


def _destroy(library: Library, handle: int, pool: int) -> None:
    library.hw_program_destroy(handle)
    library.hw_pool_destroy(pool)


def _floats(array: Floats) -> ctypes._Pointer[ctypes.c_float]:
    return array.ctypes.data_as(ctypes.POINTER(ctypes.c_float))


def _matrices(weights: NativeWeights) -> ctypes.Array[abi.HwMatrix]:
    found = (abi.HwMatrix * len(weights.matrices))()
    for target, matrix in zip(found, weights.matrices, strict=True):
        target.data, target.bias = matrix.data, matrix.bias
        target.format, target.n, target.k = matrix.format, matrix.outputs, matrix.inputs
    return found


def _buffers(program: Program) -> ctypes.Array[abi.HwBuffer]:
    found = (abi.HwBuffer * len(program.buffers))()
    for target, buffer in zip(found, program.buffers, strict=True):
        target.format, target.width = buffer.format, buffer.width
    return found


def _instructions(program: Program, weights: NativeWeights) -> ctypes.Array[abi.HwOp]:
    found = (abi.HwOp * len(program.instructions))()
    for target, instruction in zip(found, program.instructions, strict=True):
        _fill(target, instruction, weights)
    return found


def _fill(target: abi.HwOp, instruction: Instruction, weights: NativeWeights) -> None:
    target.kind, target.epilogue = instruction.kind, instruction.epilogue
    target.in_, target.in2 = instruction.source, instruction.source2
    target.out, target.out2 = instruction.out, instruction.out2
    target.matrix, target.matrix2 = instruction.matrix, instruction.matrix2
    target.activation = instruction.activation
    target.num_experts, target.top_k = instruction.experts, instruction.top_k
    target.normalise = instruction.normalise
    target.eps, target.scale, target.softcap = (
        instruction.eps,
        instruction.scale,
        instruction.softcap,
    )
    if instruction.weight is not None:
        target.weight = address(weights.vectors[instruction.weight.index])
    spec = instruction.spec
    if spec is not None:
        target.layer, target.heads, target.kv_heads = spec.layer, spec.heads, spec.kv_heads
        target.head_dim, target.window = spec.head_dim, spec.window or 0
        target.cos, target.sin = (address(table) for table in weights.ropes[spec.rope.index])
        if spec.norms is not None:
            queries, keys = spec.norms
            target.weight = address(weights.vectors[queries.index])
            target.weight2 = address(weights.vectors[keys.index])
