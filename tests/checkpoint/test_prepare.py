"""Preparing happens once, whoever asks, and leaves nothing behind when it fails."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest

from headway.checkpoint import list_models, load_prepared, prepare, prepare_tokenizer, remove_model
from headway.checkpoint.cache import atomic_folder, content_hash, locked
from headway.errors import ModelError, ModelNotFound
from headway.text import Tokenizer
from tests.checkpoint.conftest import save_tokenizer
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


def test_a_damaged_prepared_folder_is_made_again(tmp_path: Path) -> None:
    write(tmp_path / "a.gguf")
    found = prepare(str(tmp_path / "a.gguf"), dtype="bfloat16", progress=False)
    (found.folder / "model.json").write_text("{")
    assert prepare(str(tmp_path / "a.gguf"), dtype="bfloat16", progress=False) == found


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


def test_a_tokenizer_alone(tmp_path: Path) -> None:
    save_tokenizer(tmp_path)
    folder = prepare_tokenizer(str(tmp_path))
    assert folder == prepare_tokenizer(str(tmp_path))
    assert Tokenizer.load(folder).decode(Tokenizer.load(folder).encode("hello")) == "hello"


@pytest.mark.parametrize("name", ["nowhere", "no/such/path", "./nowhere.gguf"])
def test_a_name_that_leads_nowhere(name: str) -> None:
    with pytest.raises(ModelNotFound, match=r"nowhere|no/such"):
        prepare(name, dtype="bfloat16", progress=False)
