import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.native.compiling import NATIVE, builder, compiler

SOURCE = """
#include "number.h"
extern "C" __attribute__((visibility("default"))) int number() { return NUMBER + isa(); }
"""
# 10 where the units were told that this instruction set is compiled in.
ISA = """
#ifdef HW_HAVE_PORTABLE
int isa() { return 10; }
#else
int isa() { return 0; }
#endif
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A checkout with two small units instead of the kernels."""
    native = tmp_path / "native"
    (native / "isa").mkdir(parents=True)
    shutil.copy(NATIVE / "build.py", native)
    (native / "number.h").write_text("#define NUMBER 1\nint isa();\n")
    (native / "program.cpp").write_text(SOURCE)
    (native / "isa" / "portable.cpp").write_text(ISA)
    return native


def options(script: ModuleType, **changes: object) -> object:
    return script.Options(compiler=compiler(), **changes)


def number(library: Path, copy: Path) -> int:
    shutil.copy(library, copy)  # a path that is loaded already would not be read again
    result: int = ctypes.CDLL(str(copy)).number()
    return result


def test_the_library_is_built_and_follows_sources_and_headers(tree: Path, tmp_path: Path) -> None:
    script = builder(tree)
    library = script.build_library(tmp_path / "out", options(script))
    assert number(library, tmp_path / "first") == 11
    (tree / "number.h").write_text("#define NUMBER 2\nint isa();\n")
    script.build_library(tmp_path / "out", options(script))
    assert number(library, tmp_path / "second") == 12
    (tree / "isa" / "portable.cpp").write_text("int isa() { return 30; }")
    script.build_library(tmp_path / "out", options(script))
    assert number(library, tmp_path / "third") == 32


def test_nothing_is_compiled_twice(tree: Path, tmp_path: Path) -> None:
    script = builder(tree)
    library = script.build_library(tmp_path / "out", options(script))
    made = {path: path.stat().st_mtime_ns for path in [library, *script.OBJECTS.iterdir()]}
    script.build_library(tmp_path / "out", options(script))
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert sorted(script.OBJECTS.iterdir()) == sorted(path for path in made if path != library)


def test_a_removed_unit_is_no_longer_linked(tree: Path, tmp_path: Path) -> None:
    script = builder(tree)
    (tree / "extra.cpp").write_text(SOURCE.replace("number()", "extra()"))
    library = script.build_library(tmp_path / "out", options(script))
    shutil.copy(library, tmp_path / "first")
    assert ctypes.CDLL(str(tmp_path / "first")).extra() == 11
    (tree / "extra.cpp").unlink()
    script.build_library(tmp_path / "out", options(script))
    shutil.copy(library, tmp_path / "second")
    assert not hasattr(ctypes.CDLL(str(tmp_path / "second")), "extra")


def test_an_instruction_set_that_the_compiler_lacks_is_left_out(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = builder(tree)
    made_up = script.InstructionSet(name="nosuch", flags=("-mnosuch",), macro="__cplusplus")
    older = script.InstructionSet(name="older", flags=(), macro="__NOT_DEFINED_BY_ANY_COMPILER")
    for isa in (made_up, older):
        isa.source.write_text("#error compiled after all")
    monkeypatch.setattr(script, "INSTRUCTION_SETS", (made_up, older, *script.INSTRUCTION_SETS))
    assert [isa.name for isa in script.instruction_sets(options(script))] == ["portable"]
    assert script.build_library(tmp_path / "out", options(script)).exists()


def test_only_the_instruction_sets_asked_for_are_built(tree: Path) -> None:
    script = builder(tree)
    (tree / "isa" / "avx2.cpp").write_text("int other() { return 0; }")
    names = [isa.name for isa in script.instruction_sets(options(script, sets=("portable",)))]
    assert names == ["portable"]


def test_of_inline_functions_the_plainest_units_own_is_kept(tree: Path, tmp_path: Path) -> None:
    # They differ here to be told apart; in earnest they differ in the instructions they use.
    text = "__attribute__((noinline)) inline int which() { return %d; }\n"
    (tree / "program.cpp").write_text(
        text % 1 + "int isa();\n"
        'extern "C" __attribute__((visibility("default"))) int number()'
        " { return 10 * isa() + which(); }\n"
    )
    (tree / "isa" / "portable.cpp").write_text(text % 2 + "int isa() { return which(); }\n")
    script = builder(tree)
    library = script.build_library(tmp_path / "out", options(script))
    assert number(library, tmp_path / "copy") == 11


# Needs of the C++ runtime what the kernels need.
THROWS = """
#include <stdexcept>
#include <string>
extern "C" __attribute__((visibility("default"))) int caught(const char* text) {
  try {
    throw std::invalid_argument(std::string(text) + "!");
  } catch (const std::exception& error) {
    return std::string(error.what()).size();
  }
}
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it is part of the system")
def test_the_library_brings_its_own_cpp_runtime_and_keeps_it_to_itself(
    tree: Path, tmp_path: Path
) -> None:
    script = builder(tree)
    probe = [compiler(), "-print-file-name=libstdc++.a"]
    if "/" not in subprocess.run(probe, capture_output=True, text=True, check=True).stdout:
        pytest.skip("the compiler comes without the runtime's static form")
    (tree / "program.cpp").write_text(THROWS + SOURCE)
    library = ctypes.CDLL(str(script.build_library(tmp_path / "out", options(script))))
    assert library.caught(b"four") == 5
    # A symbol is looked up in the library and in all that it was linked with.
    assert not hasattr(library, "__cxa_throw")
    assert not hasattr(library, "_Unwind_RaiseException")


def test_a_compiler_without_a_static_runtime_uses_the_systems(tree: Path, tmp_path: Path) -> None:
    mine = tmp_path / "c++"
    mine.write_text(
        "#!/bin/sh\n"
        'case "$*" in *-static-libstdc++*) echo "cannot find -lstdc++" >&2; exit 1 ;; esac\n'
        f'exec {compiler()} "$@"\n'
    )
    mine.chmod(0o755)
    script = builder(tree)
    library = script.build_library(tmp_path / "out", script.Options(compiler=str(mine)))
    assert number(library, tmp_path / "copy") == 11


def test_a_broken_source_is_named_and_the_old_library_stays(tree: Path, tmp_path: Path) -> None:
    script = builder(tree)
    library = script.build_library(tmp_path / "out", options(script))
    (tree / "program.cpp").write_text("int f( {")
    with pytest.raises(script.BuildError, match=r"failed on program\.cpp"):
        script.build_library(tmp_path / "out", options(script))
    assert number(library, tmp_path / "copy") == 11


def test_where_it_cannot_be_built_there_is_a_warning_and_no_library(
    tree: Path, tmp_path: Path
) -> None:
    script = builder(tree)
    script.build_library(tmp_path / "out", options(script))
    warnings: list[str] = []
    environment = {"PATH": os.environ["PATH"], "CXX": "no-such-compiler"}
    assert script.build_if_possible(tmp_path / "out", environment, warnings.append) is None
    assert list((tmp_path / "out").iterdir()) == []
    assert "CXX=no-such-compiler" in warnings[0]
    assert "several times slower" in warnings[0]


def test_without_any_compiler_all_that_were_tried_are_named(tmp_path: Path) -> None:
    script = builder()
    with pytest.raises(script.BuildError, match=r"c\+\+, g\+\+, clang\+\+"):
        script.find_compiler({"PATH": str(tmp_path)})


def test_a_compiler_given_by_the_environment_is_preferred(tmp_path: Path) -> None:
    for name in ("c++", "mine"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    found = builder().find_compiler({"PATH": str(tmp_path), "CXX": "mine"})
    assert found == str(tmp_path / "mine")


def test_the_script_fails_without_a_compiler_unless_the_library_is_optional(
    tree: Path, tmp_path: Path
) -> None:
    environment = {"PATH": os.environ["PATH"], "CXX": "no-such-compiler"}
    command = [sys.executable, str(tree / "build.py"), str(tmp_path / "out")]
    plain = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert plain.returncode == 1
    assert b"no C++ compiler" in plain.stderr
    lenient = subprocess.run(
        [*command, "--optional"], env=environment, capture_output=True, check=False
    )
    assert lenient.returncode == 0
    assert b"warning: no C++ compiler" in lenient.stderr
