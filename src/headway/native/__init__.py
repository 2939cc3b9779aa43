"""The compiled kernels as Python sees them: finding, loading and checking the library.

It is built beside this file where there was a C++ compiler; a package without it is in order, and
`available` says so without loading anything. What the functions take is `abi`'s to know, which
mirrors the C header; when to use them, and what to do without them, is the engine's. Nothing here
knows models, plans or how an operation is computed.
"""

from __future__ import annotations

import ctypes
import hashlib
import sys
from pathlib import Path
from typing import TypeAlias

from headway.errors import HeadwayError, InvalidRequest
from headway.native import abi

Library: TypeAlias = ctypes.CDLL
"""The loaded library, every function with its argument and result types declared."""

_FILE = Path(__file__).with_name(
    "libheadway.dylib" if sys.platform == "darwin" else "libheadway.so"
)


class LibraryError(HeadwayError):
    """The native library is absent, damaged, or of another version than this package."""


def available(path: Path = _FILE) -> bool:
    """Whether the library was built. Nothing is loaded, so it may still turn out damaged."""
    return path.is_file()


def load(path: Path = _FILE) -> Library:
    """Load the library and check that it speaks this version of the interface.

    Raises LibraryError where it is absent, cannot be loaded, or is of another version.
    """
    if not available(path):
        raise LibraryError(
            "the native kernels are not built: install a C++ compiler, then Headway again"
        )
    try:
        library = ctypes.CDLL(str(path))
        version = library.hw_abi()
        if version == abi.ABI:
            abi.declare(library)
            return library
    except (OSError, AttributeError) as error:
        raise LibraryError(f"the native library {path} is damaged: {error}") from error
    raise LibraryError(
        f"the native library {path} has version {version}, but version {abi.ABI} is needed: "
        "install Headway again"
    )


def build_of(path: Path = _FILE) -> str:
    """Which build of the library this is: equal for two starts with nothing built in between."""
    found = path.stat()
    return f"{abi.ABI} {found.st_size} {found.st_mtime_ns}"


def digest_of(path: Path = _FILE) -> str:
    """A digest of the library itself: equal where the same kernels compute, on any machine.

    Empty where there is no library.
    """
    return hashlib.sha256(path.read_bytes()).hexdigest() if available(path) else ""


def compiled(library: Library) -> list[str]:
    """The instruction sets that the library was built with, best first."""
    names: bytes = library.hw_compiled()
    return names.decode().split()


def supported(library: Library) -> list[str]:
    """Those of the compiled instruction sets that this processor has, best first."""
    return [name for name in compiled(library) if library.hw_supported(name.encode())]


def choose_isa(wanted: str | None) -> str:
    """The instruction set to compute with: the wanted one, or by default the best of this machine.

    Raises InvalidRequest where the wanted one was not built or this processor lacks it, and
    LibraryError as `load` does.
    """
    library = load()
    names = supported(library)
    if not names:
        raise LibraryError("this processor runs none of the instruction sets that were built")
    if wanted is None:
        return names[0]
    if wanted not in names:
        built = wanted in compiled(library)
        problem = "this processor lacks" if built else "the native library was built without"
        raise InvalidRequest(
            f"{problem} the instruction set {wanted!r}; there is {', '.join(names)}", field="isa"
        )
    return wanted
