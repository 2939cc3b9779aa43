"""The C++ tests of `native/tests`, as they are and under the sanitizers."""

import subprocess
from functools import cache
from pathlib import Path

import pytest

from headway.native import available, load, supported
from tests.native.compiling import NATIVE, builder, compiler

PROGRAMS = sorted((NATIVE / "tests").glob("*.cpp"))


@cache
def why_not(sanitize: str) -> str:
    """Why this machine cannot run programs under a sanitizer; empty where it can."""
    script = builder()
    command = [compiler(), f"-fsanitize={sanitize}", "-x", "c++", "-", "-o"]
    target = script.OBJECTS / f"sanitized-{sanitize.replace(',', '-')}"
    target.parent.mkdir(parents=True, exist_ok=True)
    program = "int main() { return 0; }"
    made = subprocess.run(
        [*command, str(target)], input=program, text=True, capture_output=True, check=False
    )
    if made.returncode != 0:
        return f"the compiler has no -fsanitize={sanitize}"
    ran = subprocess.run([str(target)], capture_output=True, text=True, check=False)
    return "" if ran.returncode == 0 else f"{sanitize} does not run here: {ran.stderr[:200]}"


def instruction_sets(sanitize: str) -> tuple[str, ...]:
    """Those that a program is built with: all, or the two least alike where compiling is slow."""
    if not sanitize or not available():
        return ()
    names = supported(load())
    return (names[0], names[-1])


@pytest.mark.timeout(900)
@pytest.mark.parametrize("sanitize", ["", "address,undefined", "thread"])
@pytest.mark.parametrize("source", PROGRAMS, ids=[source.stem for source in PROGRAMS])
def test_cpp(source: Path, sanitize: str) -> None:
    if sanitize and why_not(sanitize):
        pytest.skip(why_not(sanitize))
    script = builder()
    options = script.Options(
        compiler=compiler(), sanitize=sanitize, sets=instruction_sets(sanitize)
    )
    folder = script.OBJECTS / ("tests-" + sanitize.replace(",", "-")).rstrip("-")
    program = script.build_test(source, folder, options)
    result = subprocess.run(
        [str(program)], capture_output=True, text=True, check=False, timeout=600
    )
    report = result.stdout + result.stderr
    assert result.returncode == 0, report
    assert "FAIL" not in report
    assert "ok " in result.stdout
