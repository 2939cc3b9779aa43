"""`make setup` takes PyTorch where, and only where, the native kernels cannot be built."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.native.compiling import compiler

ROOT = Path(__file__).parents[1]
# Stands for the virtual environment's Python: notes what pip is to do, and does all else.
PYTHON = """#!/bin/sh
case "$*" in
*"pip install"*) echo "$*" >> {log} ;;
*) exec {python} "$@" ;;
esac
"""

MAKES = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES")

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")


def setup(folder: Path, **environment: str) -> tuple[list[str], str]:
    """What pip was asked to install so far in this folder's environment, and what was told."""
    python = folder / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True, exist_ok=True)
    python.write_text(PYTHON.format(log=folder / "pip.log", python=sys.executable))
    python.chmod(0o755)
    # `make test` may have started us: its flags and variables are not this one's.
    inherited = {name: value for name, value in os.environ.items() if name not in MAKES}
    done = subprocess.run(
        ["make", "setup", f"VENV={folder / 'venv'}", f"PACKAGE={folder / 'package'}"],
        cwd=ROOT,
        env=inherited | environment,
        check=True,
        capture_output=True,
        text=True,
    )
    asked = (folder / "pip.log").read_text().splitlines()
    return [line.split()[-1] for line in asked], done.stderr


def test_without_a_compiler_torch_is_installed_once_and_said_to_be(tmp_path: Path) -> None:
    asked, told = setup(tmp_path, CXX="no-such-compiler")
    assert asked == [".", ".[torch]"]
    assert "no C++ compiler found (tried CXX=no-such-compiler)" in told
    assert "PyTorch is installed, to compute instead" in told
    asked, told = setup(tmp_path, CXX="no-such-compiler")
    assert asked == [".", ".[torch]"]
    assert "no C++ compiler" in told


def test_with_a_compiler_it_is_not_and_a_compiler_that_goes_brings_it(tmp_path: Path) -> None:
    compiler()
    asked, told = setup(tmp_path)
    assert asked == ["."]
    assert "PyTorch" not in told
    assert [path.stem for path in (tmp_path / "package").iterdir()] == ["libheadway"]
    assert setup(tmp_path, CXX="no-such-compiler")[0] == [".", ".[torch]"]
    assert not list((tmp_path / "package").iterdir())
