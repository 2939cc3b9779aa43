import subprocess
from pathlib import Path

import pytest

from headway.errors import HeadwayError, InvalidRequest
from headway.native import (
    LibraryError,
    abi,
    available,
    choose_isa,
    compiled,
    digest_of,
    load,
    supported,
)
from tests.native.compiling import compiler

needs_library = pytest.mark.skipif(not available(), reason="the native library is not built")


def stand_in(folder: Path, version: int) -> Path:
    """A library that has a version and no other function."""
    source = folder / "stand_in.cpp"
    source.write_text(f'extern "C" int hw_abi() {{ return {version}; }}')
    target = folder / "stand_in.so"
    subprocess.run(
        [compiler(), "-shared", "-fPIC", str(source), "-o", str(target)], check=True, timeout=60
    )
    return target


def test_an_absent_library_is_not_available_and_the_error_says_how_to_get_it(
    tmp_path: Path,
) -> None:
    assert not available(tmp_path / "libheadway.so")
    with pytest.raises(LibraryError, match=r"install a C\+\+ compiler"):
        load(tmp_path / "libheadway.so")


def test_a_damaged_library_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "libheadway.so"
    path.write_bytes(b"\x7fELF and nothing sensible after it")
    assert available(path)
    with pytest.raises(LibraryError, match=r"libheadway\.so is damaged"):
        load(path)


def test_a_library_of_another_version_is_refused(tmp_path: Path) -> None:
    path = stand_in(tmp_path, abi.ABI + 1)
    with pytest.raises(LibraryError, match=f"has version {abi.ABI + 1}, but version {abi.ABI} is"):
        load(path)


def test_a_library_that_lacks_functions_is_damaged(tmp_path: Path) -> None:
    with pytest.raises(LibraryError, match="is damaged"):
        load(stand_in(tmp_path, abi.ABI))


def test_its_digest_is_of_what_it_holds_wherever_and_whenever_it_was_built(tmp_path: Path) -> None:
    first, other = tmp_path / "first.so", tmp_path / "other.so"
    assert digest_of(first) == ""
    first.write_bytes(b"kernels")
    other.write_bytes(b"kernels")
    assert digest_of(first) == digest_of(other) != ""
    other.write_bytes(b"Kernels")
    assert digest_of(first) != digest_of(other)


def test_errors_are_those_that_users_may_see() -> None:
    assert issubclass(LibraryError, HeadwayError)


@needs_library
def test_every_machine_has_the_portable_instruction_set_last() -> None:
    library = load()
    assert compiled(library)[-1] == "portable"
    assert supported(library)[-1] == "portable"
    assert set(supported(library)) <= set(compiled(library))


@needs_library
def test_the_best_instruction_set_is_chosen_and_any_can_be_forced() -> None:
    names = supported(load())
    assert choose_isa(None) == names[0]
    for name in names:
        assert choose_isa(name) == name


@needs_library
@pytest.mark.parametrize("wanted", ["", "avx1024", "AVX2", "portable "])
def test_an_unknown_instruction_set_is_refused_with_those_there_are(wanted: str) -> None:
    with pytest.raises(InvalidRequest, match=r"there is .*portable") as caught:
        choose_isa(wanted)
    assert caught.value.field == "isa"
