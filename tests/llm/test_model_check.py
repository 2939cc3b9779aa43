"""A damaged model is found: by an engine that does not start from it, and while it is served."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from headway.checkpoint import Prepared, hash_files, load_prepared
from headway.checkpoint.manifest import FileRecord, Manifest, write_manifest
from headway.config import EngineConfig
from headway.errors import HeadwayError, ModelError
from headway.llm import AsyncLLM, model_check
from headway.llm.model_check import find_damage, stoppable
from headway.types import SamplingParams
from tests.checkpoint.damage import flipped_bit
from tests.client.fake_engine import COMMAND, expected_tokens
from tests.client.support import started, until
from tests.llm.support import engine_client, write_prepared

TOKENIZER = "tokenizer.json"


def with_manifest(folder: Path, **script: object) -> Prepared:
    """A prepared model for the fake engine, with a manifest."""
    write_prepared(folder, **script)
    files = {}
    for name in ("model.json", "text.json", TOKENIZER, "weights.safetensors"):
        raw = (folder / name).read_bytes()
        files[name] = FileRecord(bytes=len(raw), sha256=hashlib.sha256(raw).hexdigest())
    write_manifest(folder, Manifest(source="fake", files=files))
    return load_prepared(folder)


class Preparing:
    """Stands in for `ready_model`: with `verify`, the sound file is put in place again."""

    def __init__(self, prepared: Prepared, *, fails: bool = False) -> None:
        self.prepared = prepared
        self.sound = (prepared.folder / TOKENIZER).read_bytes()
        self.mended = 0
        self.fails = fails

    def __call__(
        self, config: EngineConfig, *, verify: bool = False, **_: object
    ) -> tuple[EngineConfig, Prepared]:
        if verify and self.fails:
            raise ModelError("the download is gone")
        if verify:
            (self.prepared.folder / TOKENIZER).write_bytes(self.sound)
            self.mended += 1
        return config, self.prepared


def test_an_engine_that_does_not_start_from_a_damaged_model_gets_a_sound_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    preparing = Preparing(with_manifest(tmp_path))
    monkeypatch.setattr("headway.llm.async_llm.ready_model", preparing)
    (tmp_path / TOKENIZER).write_bytes(b"{" + preparing.sound[1:].replace(b'"', b"'"))

    async def main() -> None:
        async with await AsyncLLM.start(EngineConfig(), command=COMMAND) as llm:
            assert llm.tokenizer.encode("a")

    asyncio.run(main())
    assert preparing.mended == 1
    assert "did not start from a damaged model" in caplog.text


def test_an_engine_that_does_not_start_from_a_sound_model_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preparing = Preparing(with_manifest(tmp_path, refuse_from=0))
    monkeypatch.setattr("headway.llm.async_llm.ready_model", preparing)
    with pytest.raises(HeadwayError):
        asyncio.run(AsyncLLM.start(EngineConfig(), command=COMMAND))
    assert preparing.mended == 0


@pytest.mark.parametrize("fails", [False, True])
def test_damage_is_found_while_serving_and_streams_go_on(
    fails: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    preparing = Preparing(with_manifest(tmp_path, step_seconds=0.01), fails=fails)
    monkeypatch.setattr("headway.llm.async_llm.ready_model", preparing)
    monkeypatch.setattr(model_check, "CHECK_AFTER", 0.0)
    flipped_bit(tmp_path / TOKENIZER, preparing.sound.index(b"filler300"))

    async def main() -> None:
        async with await AsyncLLM.start(EngineConfig(), command=COMMAND) as llm:
            stream = llm.stream("Hi", SamplingParams(max_tokens=300, seed=4))
            tokens: list[int] = []
            async for delta in stream:
                tokens += delta.token_ids
                if fails and "served damaged" in caplog.text:
                    stream.cancel()
            (request,) = stream.request.requests
            assert tokens == expected_tokens(request)[: len(tokens)]
            assert fails or len(tokens) == 300
            if not fails:
                await until(lambda: engine_client(llm).restarts == 1)

    asyncio.run(main())
    assert f"prepared model damaged folder={tmp_path} files={TOKENIZER}" in caplog.text
    assert len(started(tmp_path)) == (1 if fails else 2)
    assert preparing.mended == (0 if fails else 1)
    assert ("the download is gone" in caplog.text) == fails


def test_the_check_finds_exactly_what_is_damaged(tmp_path: Path) -> None:
    prepared = with_manifest(tmp_path)

    def found() -> set[str]:
        return set(asyncio.run(find_damage(prepared, duty=1.0)))

    assert found() == set()
    flipped_bit(tmp_path / TOKENIZER)
    assert found() == {TOKENIZER}
    (tmp_path / "model.json").unlink()
    assert found() == {TOKENIZER, "model.json"}


def test_a_model_without_a_manifest_is_not_checked(tmp_path: Path) -> None:
    assert asyncio.run(find_damage(write_prepared(tmp_path))) == []


def test_hashing_takes_many_pieces_and_the_lowest_priority(tmp_path: Path) -> None:
    content = os.urandom(5 * hash_files.PIECE // 2)
    (tmp_path / "a b").write_bytes(content)
    program = (
        "import atexit, os, runpy, sys\n"
        "atexit.register(lambda: print(os.sched_getscheduler(0) == os.SCHED_IDLE))\n"
        "runpy.run_path(sys.argv.pop(1), run_name='__main__')"
    )
    words = [hash_files.__file__, str(os.getpid()), "1", str(tmp_path / "a b"), "none"]
    done = subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, check=True
    )
    digest = hashlib.sha256(content).hexdigest()
    assert done.stdout.splitlines() == [f"{digest} {tmp_path / 'a b'}", " none", "True"]


def test_hashing_ends_with_its_parent(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        file.truncate(2**32)  # four thousand pieces, with the longest pause after each
    parent = (
        "import os, subprocess, sys\n"
        "words = [sys.executable, sys.argv[1], str(os.getpid()), *sys.argv[2:]]\n"
        "subprocess.Popen(words, stdin=subprocess.DEVNULL)"
    )
    words = [hash_files.__file__, "1e-8", str(tmp_path / "file")]
    done = subprocess.run(
        [sys.executable, "-c", parent, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == ""


def test_stopping_does_not_wait_for_work_that_does_not_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(model_check, "STOP_SECONDS", 0.0)
    running, go_on = threading.Event(), threading.Event()
    stops: list[threading.Event] = []

    def work(stop: threading.Event) -> None:
        stops.append(stop)
        running.set()
        go_on.wait()

    async def main() -> None:
        task = asyncio.create_task(stoppable(work))
        while not running.is_set():
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait((task,))
        assert task.cancelled()

    asyncio.run(main())  # which would wait for the threads of an executor
    assert stops[0].is_set()
    go_on.set()


def test_stoppable_gives_results_and_errors() -> None:
    async def main() -> None:
        assert await stoppable(lambda stop: stop.is_set()) is False
        with pytest.raises(ModelError, match="broken"):
            await stoppable(_broken)

    asyncio.run(main())


def _broken(_: threading.Event) -> None:
    raise ModelError("broken")
