"""The native backend: a model's ops, traced once and replayed as a program of the compiled kernels.

`weights` finds packed matrices in a prepared file. `headway.ops.trace` records a model's ops,
`lower` turns them into a `program` of kernel calls over row buffers and fuses what it can, and
`replay` hands that to the library and runs it for every step, over the KV cache that `memory`
provides, or `kept_cache` where it is to outlive the process; `other_caches` reads those of other
processes. Only numpy and ctypes are used;
nothing here knows a request, a plan or a model family.
"""

from headway.ops.native.kept_cache import KeptCache, KeptFile
from headway.ops.native.lower import lower
from headway.ops.native.memory import CacheMemory, address, cache_bytes
from headway.ops.native.other_caches import OtherCaches
from headway.ops.native.program import BufferSpec, Instruction, Program, describe
from headway.ops.native.replay import CompiledProgram, Seconds, no_seconds
from headway.ops.native.weights import NativeWeights
from headway.ops.trace import Tracer

__all__ = [
    "BufferSpec",
    "CacheMemory",
    "CompiledProgram",
    "Instruction",
    "KeptCache",
    "KeptFile",
    "NativeWeights",
    "OtherCaches",
    "Program",
    "Seconds",
    "Tracer",
    "address",
    "cache_bytes",
    "describe",
    "lower",
    "no_seconds",
]
