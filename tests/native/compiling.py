"""Getting hold of `native/build.py`, which is a script and in no package."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

NATIVE = Path(__file__).parents[2] / "native"
CROSS_COMPILER = "aarch64-linux-gnu-g++"
"""Debian's compiler for Arm."""


def builder(native: Path = NATIVE) -> ModuleType:
    """The build script of a `native` folder, which works on the folder that it lies in."""
    spec = importlib.util.spec_from_file_location("native_build", native / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def compiler() -> str:
    """The C++ compiler of this machine; skips the test where there is none."""
    script = builder()
    try:
        found: str = script.find_compiler(os.environ)
    except script.BuildError as error:
        pytest.skip(str(error))
    return found
