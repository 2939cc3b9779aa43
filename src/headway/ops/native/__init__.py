"""The native backend: a model's words, recorded once into a program of the compiled kernels.

`weights` finds packed matrices in a prepared file, `recorder` notes what a recipe says, `lower`
turns that into operations over row buffers and fuses what it can, `allocate` lets buffers share
memory, `describe` prints the result, and `program` hands it to the library and replays it. Only
numpy and ctypes are used; nothing here knows a request, a plan or a model family.
"""

from headway.ops.native.lower import lower
from headway.ops.native.program import BufferSpec, Instruction, Program, describe
from headway.ops.native.replay import CacheMemory, CompiledProgram, Seconds, cache_bytes, no_seconds
from headway.ops.native.weights import NativeWeights
from headway.ops.trace import Tracer

__all__ = [
    "BufferSpec",
    "CacheMemory",
    "CompiledProgram",
    "Instruction",
    "NativeWeights",
    "Program",
    "Seconds",
    "Tracer",
    "cache_bytes",
    "describe",
    "lower",
    "no_seconds",
]
