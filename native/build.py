"""Compiles the native library, and the C++ tests, with whatever C++17 compiler there is.

Every unit is compiled for the oldest processor of its kind, except the files of `isa/`, each of
which has flags of its own and is left out where the compiler does not know them. Objects are kept
and made again when a source, a header or a flag has changed. Needs nothing but Python, because it
runs inside `pip install` before anything is installed; it must not import headway.

    python native/build.py src/headway/native
    python native/build.py build/native --test native/tests/threads.cpp --sanitize thread
    CXX=aarch64-linux-gnu-g++ python native/build.py build/aarch64
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

NATIVE = Path(__file__).resolve().parent
OBJECTS = NATIVE.parent / "build" / "native"
LIBRARY = "libheadway.dylib" if sys.platform == "darwin" else "libheadway.so"
COMPILERS = ("c++", "g++", "clang++")

# Contracting a * b + c would make results depend on the compiler; kernels call fma themselves.
BASE = (
    *("-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden", "-pthread"),
    *("-fno-math-errno", "-ffp-contract=off", "-Wall", "-Wextra"),
    # Vectors never cross units; and clang does not know every warning that gcc has to be told of.
    *("-Wno-psabi", "-Wno-unknown-warning-option"),
)
_AVX2 = ("-mavx2", "-mfma", "-mf16c")
_AVX512 = (
    *("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma", "-mf16c"),
    *("-Wno-uninitialized", "-Wno-maybe-uninitialized"),  # gcc 12 suspects its own intrinsics
)
_NEON_DOT = "-march=armv8.2-a+dotprod"

# A wheel must run where the C++ runtime is older than the compiler's, so the library has it inside;
# and hidden, because PyTorch may load another one into the same process.
OWN_RUNTIME = ("-static-libstdc++", "-static-libgcc", "-Wl,--exclude-libs,ALL", "-Wl,--gc-sections")

WITHOUT = (
    "Headway's native CPU kernels were not built. It works without them, on PyTorch's own"
    " operations (pip install 'headway[torch]'), but several times slower."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class InstructionSet:
    """A file of `isa/`: its flags, the macro by which the compiler confirms them, and the header of
    its intrinsics."""

    name: str
    flags: tuple[str, ...]
    macro: str
    header: str = ""

    @property
    def source(self) -> Path:
        return NATIVE / "isa" / f"{self.name}.cpp"


INSTRUCTION_SETS = (
    InstructionSet(
        name="avx512_bf16",
        flags=(*_AVX512, "-mavx512vnni", "-mavx512bf16"),
        macro="__AVX512BF16__",
        header="immintrin.h",
    ),
    InstructionSet(name="avx512", flags=_AVX512, macro="__AVX512VL__", header="immintrin.h"),
    InstructionSet(name="avx2", flags=_AVX2, macro="__F16C__", header="immintrin.h"),
    InstructionSet(
        name="neon_i8mm",
        flags=(f"{_NEON_DOT}+i8mm+bf16",),
        macro="__ARM_FEATURE_MATMUL_INT8",
        header="arm_neon.h",
    ),
    InstructionSet(
        name="neon_dot",
        flags=(_NEON_DOT,),
        macro="__ARM_FEATURE_DOTPROD",
        header="arm_neon.h",
    ),
    InstructionSet(name="portable", flags=(), macro="__cplusplus"),
)


class BuildError(Exception):
    """No usable compiler, or a compiler that refused our sources; the message says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What changes the compiler's command line. Every combination has a folder of objects."""

    compiler: str
    debug: bool = False
    sanitize: str = ""  # as the compiler spells it: "thread", "address,undefined"
    sets: tuple[str, ...] = ()  # the only instruction sets to build; all where empty

    @property
    def flags(self) -> tuple[str, ...]:
        # A later -O replaces the one in BASE.
        extra = ["-O0", "-g"] if self.debug else []
        if self.sanitize:
            extra += ["-O1", "-g1", "-fno-omit-frame-pointer", f"-fsanitize={self.sanitize}"]
            if "undefined" in self.sanitize.split(","):
                extra += ["-fno-sanitize-recover=undefined"]
        return (*BASE, *extra)


def find_compiler(environment: Mapping[str, str]) -> str:
    """The path of $CXX, or of the first compiler on the path. Raises BuildError without one."""
    given = environment.get("CXX")
    for name in (given,) if given else COMPILERS:
        path = shutil.which(name, path=environment.get("PATH"))
        if path is not None:
            return path
    tried = f"CXX={given}" if given else ", ".join(COMPILERS)
    raise BuildError(f"no C++ compiler found (tried {tried}); install one, or name it with CXX")


def instruction_sets(options: Options) -> list[InstructionSet]:
    """Those asked for whose file is there and whose flags the compiler knows for this machine."""
    wanted = [isa for isa in INSTRUCTION_SETS if not options.sets or isa.name in options.sets]
    return [isa for isa in wanted if isa.source.exists() and _knows(options, isa)]


def _knows(options: Options, isa: InstructionSet) -> bool:
    header = f"#include <{isa.header}>\n" if isa.header else ""
    text = f"#ifndef {isa.macro}\n#error\n#endif\n{header}int probe;\n"
    command = [options.compiler, "-std=c++17", "-w", *isa.flags, "-c"]
    target = OBJECTS / f"probe-{_digest([command, text])}.o"
    if target.exists():
        return True
    with tempfile.TemporaryDirectory() as folder:
        probe = Path(folder) / "probe.cpp"
        probe.write_text(text)
        try:
            _make(target, [*command, str(probe)], probe.name)
        except BuildError:
            return False
    return True


def build_library(folder: Path, options: Options) -> Path:
    """Makes the shared library in `folder` and returns its path."""
    target, objects = folder / LIBRARY, _objects(options)
    if sys.platform == "linux" and not options.sanitize:
        try:
            _link(target, objects, ["-shared", *OWN_RUNTIME], options)
            return target
        except BuildError:
            pass  # some systems keep the runtime's static form in a package of its own
    _link(target, objects, ["-shared"], options)
    return target


def build_if_possible(
    folder: Path, environment: Mapping[str, str], warn: Callable[[str], object]
) -> Path | None:
    """`build_library` that, where it cannot be done, warns, leaves no library and returns None."""
    try:
        return build_library(folder, Options(compiler=find_compiler(environment)))
    except BuildError as error:
        # A library from another day would claim to be made of these sources.
        (folder / LIBRARY).unlink(missing_ok=True)
        warn(f"{error}\n{WITHOUT}")
        return None


def build_test(source: Path, folder: Path, options: Options) -> Path:
    """Makes a program of one test file and all of the library, and returns its path."""
    target = folder / source.stem
    _link(target, [*_objects(options), *_compile({source: ()}, options)], [], options)
    return target


def _objects(options: Options) -> list[Path]:
    sets = instruction_sets(options)
    defined = [f"-DHW_HAVE_{isa.name.upper()}=1" for isa in sets]
    # From the plainest to the richest: of an inline function that several units hold, the linker
    # keeps the first, which must not need more than the processor has.
    units = {source: tuple(defined) for source in sorted(NATIVE.glob("*.cpp"))}
    units |= {isa.source: (*isa.flags, *defined) for isa in reversed(sets)}
    if not units:
        raise BuildError(f"no C++ sources in {NATIVE}")
    return _compile(units, options)


def _compile(units: Mapping[Path, Sequence[str]], options: Options) -> list[Path]:
    newest = _newest([*NATIVE.rglob("*.h"), Path(__file__)])

    def compile_one(item: tuple[Path, Sequence[str]]) -> Path:
        source, flags = item
        command = [options.compiler, *options.flags, *flags, f"-I{NATIVE}", "-c", str(source)]
        target = OBJECTS / f"{source.stem}-{_digest(command)}.o"
        if not target.exists() or target.stat().st_mtime < max(newest, _newest([source])):
            _make(target, command, source.name)
        return target

    with ThreadPoolExecutor(os.cpu_count()) as executor:
        # The files of isa/ stand last and take longest, so the work starts there.
        return list(executor.map(compile_one, reversed([*units.items()])))[::-1]


def _link(target: Path, objects: list[Path], flags: list[str], options: Options) -> None:
    stamp = _digest([*objects, *flags])
    made_of = OBJECTS / f"{target.name}-{_digest(target.resolve())}.linked"
    fresh = target.exists() and target.stat().st_mtime >= _newest(objects)
    if fresh and made_of.exists() and made_of.read_text() == stamp:
        return
    command = [options.compiler, *options.flags, *flags, *map(str, objects)]
    _make(target, command, target.name)
    made_of.write_text(stamp)


def _make(target: Path, command: list[str], what: str) -> None:
    """Runs the compiler into a file beside `target`, then puts it in place in one move, so that
    neither a running process nor another build sees half a file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        made = Path(folder) / target.name
        started = time.time()
        result = subprocess.run(
            [*command, "-o", str(made)], capture_output=True, text=True, check=False
        )
        if result.returncode != 0:
            raise BuildError(f"{command[0]} failed on {what}:\n{result.stderr.strip()}")
        if result.stderr:
            print(result.stderr.strip(), file=sys.stderr)
        # A header saved while the compiler ran must count as newer.
        os.utime(made, (started, started))
        made.replace(target)


def _digest(value: object) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:12]


def _newest(paths: Iterable[Path]) -> float:
    return max(path.stat().st_mtime for path in paths)


def main() -> int:
    parser = argparse.ArgumentParser(description="Compile Headway's native library.")
    parser.add_argument("folder", type=Path, help="where the result goes")
    parser.add_argument("--test", type=Path, help="build this test program instead")
    parser.add_argument("--debug", action="store_true", help="no optimisation, with symbols")
    parser.add_argument("--sanitize", default="", help="address,undefined or thread")
    parser.add_argument("--isa", nargs="+", default=[], help="only these instruction sets")
    parser.add_argument(
        "--optional",
        action="store_true",
        help="succeed, with a warning, where nothing can be built",
    )
    given = parser.parse_args()
    if given.optional:
        build_if_possible(
            given.folder, os.environ, lambda text: print(f"warning: {text}", file=sys.stderr)
        )
        return 0
    try:
        compiler = find_compiler(os.environ)
        options = Options(
            compiler=compiler, debug=given.debug, sanitize=given.sanitize, sets=tuple(given.isa)
        )
        if given.test is None:
            print(build_library(given.folder, options))
        else:
            print(build_test(given.test, given.folder, options))
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
