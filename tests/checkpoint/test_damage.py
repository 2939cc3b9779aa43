"""Damaged files of the cache: noticed by size or digest, made anew, and never a traceback."""

from __future__ import annotations

import hashlib
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from headway.checkpoint import Prepared, damaged_files, load_prepared, prepare, prepare_tokenizer
from headway.checkpoint.cache import content_hash
from headway.checkpoint.manifest import MANIFEST
from headway.checkpoint.verify import verify_models
from headway.cli.main import main
from headway.errors import InvalidRequest, ModelError
from headway.text import Tokenizer
from tests.checkpoint.conftest import save_tokenizer
from tests.checkpoint.damage import (
    WHOLE_FILE,
    Damage,
    a_file,
    a_folder,
    flipped_bit,
    garbage,
    truncated,
)
from tests.checkpoint.test_gguf import write

PARTS = ("model.json", "text.json", "tokenizer.json", "weights.safetensors")


@pytest.fixture(name="gguf")
def _gguf(tmp_path: Path) -> str:
    write(tmp_path / "a.gguf")
    return str(tmp_path / "a.gguf")


def prepared(gguf: str, *, verify: bool = False) -> Prepared:
    return prepare(gguf, dtype="bfloat16", progress=False, verify=verify)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_manifest_has_the_size_and_the_digest_of_every_file(gguf: str) -> None:
    found = prepared(gguf)
    assert found.manifest is not None
    assert found.manifest.source == gguf
    assert {
        name: (record.bytes, record.sha256) for name, record in found.manifest.files.items()
    } == {
        name: (len(raw), hashlib.sha256(raw).hexdigest())
        for name, raw in contents(found.folder).items()
        if name != MANIFEST
    }
    assert set(found.manifest.files) == set(PARTS)


@pytest.mark.parametrize("damage", WHOLE_FILE)
@pytest.mark.parametrize("name", [*PARTS, MANIFEST])
def test_a_file_of_another_size_is_prepared_anew_at_the_next_start(
    name: str, damage: Damage, gguf: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = prepared(gguf).folder
    before = contents(folder)
    damage(folder / name)
    assert prepared(gguf).folder == folder
    assert contents(folder) == before
    (record,) = [each for each in caplog.records if each.levelname == "WARNING"]
    assert "prepared anew" in record.getMessage()
    assert name in record.getMessage()


@pytest.mark.parametrize("name", PARTS)
def test_a_flipped_bit_shows_in_the_digest(
    name: str, gguf: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = prepared(gguf).folder
    before = contents(folder)
    assert damaged_files(folder) == []
    flipped_bit(folder / name)
    assert damaged_files(folder) == [name]
    prepared(gguf, verify=True)
    assert contents(folder) == before
    assert "prepared anew" in caplog.text


def test_without_a_manifest_a_model_stays_usable_and_its_size_is_known(gguf: str) -> None:
    folder = prepared(gguf).folder
    weights = (folder / "weights.safetensors").read_bytes()
    (folder / MANIFEST).unlink()
    assert prepared(gguf, verify=True).manifest is None
    assert not (folder / MANIFEST).exists()
    truncated(folder / "weights.safetensors")
    with pytest.raises(ModelError, match=r"weights\.safetensors: damaged: has"):
        load_prepared(folder)
    assert prepared(gguf).manifest is not None
    assert (folder / "weights.safetensors").read_bytes() == weights


def test_a_file_in_place_of_the_folder_is_replaced(gguf: str) -> None:
    folder = prepared(gguf).folder
    a_file(folder)
    assert prepared(gguf).folder == folder


def test_a_file_in_place_of_all_prepared_models_is_one_error(gguf: str) -> None:
    a_file(prepared(gguf).folder.parent)
    with pytest.raises(InvalidRequest, match=r"cannot write .*prepared: .*HEADWAY_HOME"):
        prepared(gguf)


def test_a_source_that_is_damaged_itself_is_not_prepared(gguf: str) -> None:
    truncated(prepared(gguf).folder / "model.json")
    facts = Path(gguf).stat()
    flipped_bit(Path(gguf), facts.st_size - 8)
    os.utime(gguf, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    with pytest.raises(ModelError, match="changed, or damaged, since it was hashed"):
        prepared(gguf)


@pytest.mark.parametrize("damage", WHOLE_FILE)
def test_a_damaged_index_of_hashes_is_passed_over(
    damage: Damage, gguf: str, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    digest = content_hash([Path(gguf)], home)
    damage(home / "hashes.json")
    assert content_hash([Path(gguf)], home) == digest
    assert "hashed again" in caplog.text

    assert content_hash([Path(gguf)], home) == digest


def test_what_is_no_hash_in_the_index_is_not_believed(gguf: str, home: Path) -> None:
    digest = content_hash([Path(gguf)], home)
    index = home / "hashes.json"
    index.write_text(index.read_text().replace(digest, "../../elsewhere"))
    assert content_hash([Path(gguf)], home) == digest


@pytest.mark.parametrize("damage", WHOLE_FILE)
@pytest.mark.parametrize("name", ["tokenizer.json", "text.json"])
def test_a_damaged_tokenizer_of_the_cache_is_written_anew(
    name: str, damage: Damage, tmp_path: Path
) -> None:
    save_tokenizer(tmp_path)
    folder = prepare_tokenizer(str(tmp_path))
    damage(folder / name)
    assert prepare_tokenizer(str(tmp_path)) == folder
    assert Tokenizer.load(folder).encode("hello")


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Writing beyond it fails as on a full disk, with another number of the error."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_nothing_and_a_later_start_works(gguf: str, home: Path) -> None:
    size = prepared(gguf).weight_bytes
    truncated(prepared(gguf).folder / "model.json")
    with (
        largest_file(size // 2),
        pytest.raises(ModelError, match=r"a\.gguf: cannot be prepared in .*prepared: ") as caught,
    ):
        prepared(gguf)
    assert "\n" not in caught.value.message
    assert [path.name for path in (home / "prepared").glob(".*.part-*")] == []
    assert prepared(gguf).weight_bytes == size


def test_verify_tells_and_mends(gguf: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = prepared(gguf).folder
    assert main(["models", "verify"]) == 0
    assert capsys.readouterr().out.startswith("sound ")
    flipped_bit(folder / "weights.safetensors")
    assert main(["models", "verify", folder.name]) == 0
    told = capsys.readouterr().out
    assert told.startswith("mended ")
    assert "weights.safetensors changed on disk" in told
    assert [found.verdict for found in verify_models(gguf)] == ["sound"]
    garbage(folder / MANIFEST)
    assert main(["models", "verify", folder.name]) == 1
    assert capsys.readouterr().out.startswith("damaged ")
    a_folder(folder / MANIFEST)
    assert main(["models", "verify", "no-such-model"]) == 2
    assert "nothing of this name" in capsys.readouterr().err


def test_verify_says_where_nothing_is_recorded(gguf: str) -> None:
    folder = prepared(gguf).folder
    (folder / MANIFEST).unlink()
    assert [found.verdict for found in verify_models()] == ["unknown"]


def test_verify_says_what_cannot_be_mended(gguf: str) -> None:
    folder = prepared(gguf).folder
    Path(gguf).unlink()
    flipped_bit(folder / "weights.safetensors")
    (found,) = verify_models(folder.name)
    assert found.verdict == "damaged"
    assert "cannot be prepared anew" in found.reason
    assert damaged_files(folder) == ["weights.safetensors"]
