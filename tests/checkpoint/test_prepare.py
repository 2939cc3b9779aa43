"""Preparing happens once, whoever asks, and leaves nothing behind when it fails."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import shutil
from pathlib import Path

import pytest

from headway.checkpoint import (
    Storage,
    list_models,
    load_prepared,
    prepare,
    prepare_tokenizer,
    remove_model,
)
from headway.checkpoint.cache import atomic_folder, content_hash, locked
from headway.checkpoint.known import KnownModel
from headway.checkpoint.prepared import FORMAT
from headway.errors import ModelError, ModelNotFound
from headway.text import Tokenizer
from tests.checkpoint.conftest import save_tokenizer
from tests.checkpoint.damage import flipped_bit
from tests.checkpoint.test_gguf import write


def prepared_folder(path: str) -> str:
    return str(prepare(path, dtype="bfloat16", progress=False).folder)


def test_the_same_content_is_prepared_once(tmp_path: Path, home: Path) -> None:
    write(tmp_path / "a.gguf")
    first = prepare(str(tmp_path / "a.gguf"), dtype="bfloat16", progress=False)
    before = (first.folder / "weights.safetensors").stat().st_mtime_ns
    (tmp_path / "b.gguf").write_bytes((tmp_path / "a.gguf").read_bytes())
    second = prepare(str(tmp_path / "b.gguf"), dtype="bfloat16", progress=False)
    assert second == first == load_prepared(first.folder)
    assert (first.folder / "weights.safetensors").stat().st_mtime_ns == before
    wider = prepare(str(tmp_path / "a.gguf"), dtype="float32", progress=False)
    assert wider.folder != first.folder
    assert wider.weight_bytes > first.weight_bytes
    assert first.folder.parent == home / "prepared"


def test_processes_that_prepare_at_once_agree(tmp_path: Path) -> None:
    write(tmp_path / "a.gguf")
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        folders = pool.map(prepared_folder, [str(tmp_path / "a.gguf")] * 2)
    assert len(set(folders)) == 1
    assert load_prepared(Path(folders[0])).config.num_layers == 2


def test_a_failure_leaves_nothing(tmp_path: Path, home: Path) -> None:
    write(tmp_path / "a.gguf", without=["blk.1.ffn_up.weight"])
    with pytest.raises(ModelError):
        prepare(str(tmp_path / "a.gguf"), dtype="bfloat16", progress=False)
    assert [path for path in (home / "prepared").iterdir() if path.is_dir()] == []


def test_work_of_a_killed_process_is_removed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    left = tmp_path / ".target.part-old"
    left.mkdir()
    with locked(target), atomic_folder(target) as work:
        assert not left.exists()
        (work / "file").write_text("x")
        assert not target.exists()
    assert (target / "file").read_text() == "x"


def test_a_changed_file_gets_another_hash(tmp_path: Path, home: Path) -> None:
    file = tmp_path / "file"
    file.write_text("one")
    first = content_hash([file], home)
    assert content_hash([file], home) == first
    file.write_text("two")
    os.utime(file, ns=(1, 1))
    assert content_hash([file], home) != first


def test_models_are_listed_and_removed(tmp_path: Path) -> None:
    write(tmp_path / "a.gguf")
    found = prepare(str(tmp_path / "a.gguf"), dtype="bfloat16", progress=False)
    kinds = {entry.name: entry.kind for entry in list_models()}
    assert kinds == {
        "smollm2-135m-instruct": "known",
        "gemma-3-270m": "known",
        found.folder.name: "prepared",
    }
    (removed,) = remove_model(found.folder.name)
    assert removed.bytes > found.weight_bytes
    assert not found.folder.exists()
    with pytest.raises(ModelNotFound):
        remove_model(found.folder.name)


@pytest.fixture(name="known")
def _known(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> KnownModel:
    """A known model that is downloaded, and cannot be downloaded again."""
    write(tmp_path / "a.gguf")
    raw = (tmp_path / "a.gguf").read_bytes()
    model = KnownModel(
        name="made-up",
        about="",
        file="made-up.gguf",
        size=len(raw),
        sha256=hashlib.sha256(raw).hexdigest(),
        wheels=(),
        aliases=("other-name",),
    )
    monkeypatch.setattr("headway.checkpoint.known.known_models", lambda: (model,))
    (home / "downloads" / model.name).mkdir(parents=True)
    (home / "downloads" / model.name / model.file).write_bytes(raw)
    return model


def test_a_prepared_model_starts_without_its_download(known: KnownModel, home: Path) -> None:
    first = prepare("made-up", dtype="bfloat16", progress=False)
    shutil.rmtree(home / "downloads")
    assert prepare("other-name", dtype="bfloat16", progress=False) == first
    assert not (home / "downloads").exists()
    with pytest.raises(ModelError, match="the parts do not make"):
        prepare("made-up", dtype="float32", progress=False)


def test_a_damaged_download_is_not_prepared_but_downloaded_again(
    known: KnownModel, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = home / "downloads" / known.name / known.file
    flipped_bit(file, known.size - 8)
    with pytest.raises(ModelError, match="the parts do not make"):
        prepare("made-up", dtype="bfloat16", progress=False)
    assert f"downloaded again: {file} is damaged" in caplog.text


def test_a_hub_model_starts_from_what_was_prepared_under_its_name(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = home / "downloads" / "hub" / "models--some--model"
    folder.mkdir(parents=True)
    write(folder / "a.gguf")
    monkeypatch.setattr(
        "headway.checkpoint.inventory.fetch_from_hub", lambda *_, **__: folder / "a.gguf"
    )
    first = prepare("some/model:a.gguf", dtype="bfloat16", progress=False)
    shutil.rmtree(folder)
    assert prepare("some/model:a.gguf", dtype="bfloat16", progress=False) == first
    assert [entry.kind for entry in remove_model("some/model:a.gguf")] == ["prepared"]


def test_removing_a_model_removes_what_was_prepared_from_it(
    known: KnownModel, tmp_path: Path, home: Path
) -> None:
    storages: tuple[Storage, ...] = ("bfloat16", "float32")

    def prepare_all() -> set[str]:
        return {prepare("made-up", dtype=each, progress=False).folder.name for each in storages}

    names = prepare_all()
    write(tmp_path / "b.gguf", keys={"context_length": 64})
    other = prepare(str(tmp_path / "b.gguf"), dtype="bfloat16", progress=False)
    digest = known.sha256[:24]
    removed = remove_model(f"{digest}-float32-{FORMAT}")
    assert [entry.name for entry in removed] == [f"{digest}-float32-{FORMAT}"]
    prepare_all()
    assert {entry.name for entry in remove_model(digest)} == names
    prepare_all()
    assert {entry.name for entry in remove_model("other-name")} == {"made-up", *names}
    assert [entry.name for entry in list_models() if entry.folder] == [other.folder.name]
    assert [entry.name for entry in remove_model(str(tmp_path / "b.gguf"))] == [other.folder.name]
    assert (tmp_path / "b.gguf").exists()


def test_a_tokenizer_alone(tmp_path: Path) -> None:
    save_tokenizer(tmp_path)
    folder = prepare_tokenizer(str(tmp_path))
    assert folder == prepare_tokenizer(str(tmp_path))
    assert Tokenizer.load(folder).decode(Tokenizer.load(folder).encode("hello")) == "hello"


@pytest.mark.parametrize("name", ["nowhere", "no/such/path", "./nowhere.gguf"])
def test_a_name_that_leads_nowhere(name: str) -> None:
    with pytest.raises(ModelNotFound, match=r"nowhere|no/such"):
        prepare(name, dtype="bfloat16", progress=False)
