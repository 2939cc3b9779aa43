"""The kernels for Arm, cross-compiled and run in an emulator of its processors.

They are compared bit for bit with plain C++ on the same emulated processor and, where this machine
has AVX2 (which rounds alike), with this machine's. Of the C++ tests all are run but those of
attention, for which an emulator is too slow; on an Arm machine `test_cpp.py` runs those, too.
Skipped where the compiler or the emulator is missing (Debian: g++-aarch64-linux-gnu, qemu-user).
"""

from __future__ import annotations

import shutil
import subprocess
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.native.compiling import CROSS_COMPILER, NATIVE, builder, compiler

SYSTEM = Path("/usr/aarch64-linux-gnu")  # where Debian keeps the C library of that compiler
KERNELS = NATIVE / "digests" / "kernels.cpp"
ARM_SETS = ("neon_i8mm", "neon_dot", "portable")

pytestmark = pytest.mark.timeout(900)  # all of the kernels are compiled

Digests = Mapping[str, Mapping[str, str]]
"""By instruction set, then by kernel and form."""


@pytest.fixture(scope="module")
def program() -> Path:
    """The program that prints digests, for Arm; skips where there is no cross compiler."""
    if shutil.which(CROSS_COMPILER) is None:
        pytest.skip(f"there is no {CROSS_COMPILER}")
    return built(KERNELS, CROSS_COMPILER)


@pytest.fixture(scope="module")
def emulator(program: Path) -> str:
    """The path of the emulator; skips where it or the cross compiler is missing."""
    found = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
    if found is None:
        pytest.skip("there is no qemu-aarch64")
    return found


def built(source: Path, by: str) -> Path:
    """A C++ test, compiled by the compiler named, with all instruction sets that it knows."""
    script = builder()
    folder = script.OBJECTS / f"tests-{Path(by).name}"
    program: Path = script.build_test(source, folder, script.Options(compiler=by))
    return program


def output(command: Sequence[str | Path]) -> str:
    """What a C++ test prints; it must not have failed."""
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "ok " in result.stdout
    assert "FAIL" not in result.stdout
    return result.stdout


def emulated(emulator: str, program: Path, *cases: str, processor: str = "max") -> str:
    return output([emulator, "-cpu", processor, "-L", SYSTEM, program, *cases])


def digests(text: str) -> Digests:
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for line in text.splitlines():
        if line.startswith("digest "):
            _, isa, form, digest = line.split()
            found[isa][form] = digest
    return found


@pytest.fixture(scope="module")
def arm(emulator: str, program: Path) -> Digests:
    return digests(emulated(emulator, program, "instruction_sets_agree"))


@pytest.mark.usefixtures("program")
def test_a_library_for_arm_has_its_instruction_sets_and_no_others(tmp_path: Path) -> None:
    script = builder()
    options = script.Options(compiler=CROSS_COMPILER)
    assert tuple(isa.name for isa in script.instruction_sets(options)) == ARM_SETS
    header = script.build_library(tmp_path, options).read_bytes()[:20]
    assert header[:4] == b"\x7fELF"
    assert int.from_bytes(header[18:], "little") == 183  # AArch64


@pytest.mark.parametrize(
    ("processor", "sets"),
    [
        ("cortex-a72", ("portable",)),
        ("neoverse-n1", ("neon_dot", "portable")),
        ("max", ARM_SETS),
    ],
)
def test_the_best_instruction_set_that_a_processor_has_is_found(
    emulator: str, program: Path, processor: str, sets: Sequence[str]
) -> None:
    case = "instruction_sets_are_those_of_the_processor"
    text = emulated(emulator, program, case, processor=processor)
    assert f"sets {' '.join(sets)}\n" in text


def test_dot_products_of_bytes_give_the_bits_of_plain_code(arm: Digests) -> None:
    assert arm["neon_dot"] == arm["portable"]
    assert len(arm["portable"]) > 20


def test_products_of_matrices_give_them_too_except_where_bfloat16_is_multiplied(
    arm: Digests,
) -> None:
    different = {
        form for form in arm["portable"] if arm["neon_i8mm"][form] != arm["portable"][form]
    }
    names = ("linear", "linear-add", "linear-gate", "attention")
    assert different <= {f"{name}-bfloat16" for name in names}
    assert different


def test_arm_gives_the_bits_of_avx2(arm: Digests) -> None:
    here = digests(output([built(KERNELS, compiler()), "instruction_sets_agree"]))
    if "avx2" not in here:
        pytest.skip("this machine has no AVX2")
    assert here["avx2"] == arm["neon_dot"]


@pytest.mark.parametrize("name", ["linear", "peak_rates", "program", "sample", "threads"])
def test_cpp_in_the_emulator(emulator: str, name: str) -> None:
    emulated(emulator, built(NATIVE / "tests" / f"{name}.cpp", CROSS_COMPILER))
