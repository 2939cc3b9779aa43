"""The compiled kernels as Python sees them: the library's interface, and finding and loading it.

`abi` mirrors the C header, `library` loads the file that was built beside it. Nothing here knows
models, plans or how an operation is computed.
"""

from headway.native.library import (
    Library,
    LibraryError,
    available,
    choose_isa,
    compiled,
    load,
    supported,
)

__all__ = [
    "Library",
    "LibraryError",
    "available",
    "choose_isa",
    "compiled",
    "load",
    "supported",
]
