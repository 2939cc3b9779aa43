"""Each header of the C++ library can be parsed alone, as an editor does."""

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.native.compiling import CROSS_COMPILER, NATIVE, compiler

HEADERS = sorted(NATIVE.rglob("*.h"))
X86, ARM = ("avx2.h", "avx512.h"), ("neon.h",)


@pytest.mark.parametrize("header", HEADERS, ids=[str(h.relative_to(NATIVE)) for h in HEADERS])
def test_a_header_includes_what_it_needs(header: Path) -> None:
    by = compiler()
    if header.name in X86 and platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("intrinsics of another processor")
    if header.name in ARM and platform.machine() not in ("aarch64", "arm64"):
        by = shutil.which(CROSS_COMPILER) or pytest.skip(f"there is no {CROSS_COMPILER}")
    command = [by, "-std=c++17", "-fsyntax-only", "-Wno-psabi", "-x", "c++", str(header)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_the_interface_is_a_header_of_c() -> None:
    command = [compiler(), "-fsyntax-only", "-x", "c", str(NATIVE / "headway.h")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
