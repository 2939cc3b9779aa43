"""The file: lines in order, one engine at a time, and no harm to the engine whatever happens."""

from __future__ import annotations

import errno
import logging
from pathlib import Path

import pytest

from headway.errors import InvalidRequest
from headway.recording.format import Recording, read_recordings
from headway.recording.recorder import RecordFile
from tests.recording.samples import ENGINE, RECORDING, STEPS, lines_of


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    return tmp_path / "steps.jsonl"


def _record(path: Path, recording: Recording) -> None:
    file = RecordFile(path)
    for line in lines_of(recording):
        file.write(line)
    file.close()


def test_what_was_written_can_be_read(path: Path) -> None:
    _record(path, RECORDING)
    assert read_recordings(path) == [RECORDING]


def test_lines_are_in_the_file_after_a_flush(path: Path) -> None:
    file = RecordFile(path)
    file.write(ENGINE)
    assert path.read_bytes() == b""
    file.flush()
    assert path.read_bytes().count(b"\n") == 1
    file.close()


def test_a_later_engine_appends_even_after_one_that_was_cut_off(path: Path) -> None:
    _record(path, RECORDING)
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    _record(path, RECORDING)
    first, second = read_recordings(path)
    assert first.steps == STEPS[:1]
    assert second == RECORDING


def test_two_engines_cannot_share_a_file(path: Path) -> None:
    file = RecordFile(path)
    with pytest.raises(InvalidRequest, match="another engine is recording") as caught:
        RecordFile(path)
    assert caught.value.field == "record"
    file.close()
    RecordFile(path).close()


@pytest.mark.parametrize("name", ["absent/steps.jsonl", "."])
def test_a_path_that_cannot_be_written_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidRequest, match="cannot record to") as caught:
        RecordFile(tmp_path / name)
    assert caught.value.field == "record"


def test_many_lines_do_not_wait_for_a_flush(path: Path) -> None:
    file = RecordFile(path)
    file.write(ENGINE)
    for _ in range(10_000):
        file.write(STEPS[0])
    assert path.stat().st_size > 2**20
    file.close()


def test_a_recording_ends_at_its_bound(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = RecordFile(path, most_bytes=2000)
    file.write(ENGINE)
    file.flush()
    with caplog.at_level(logging.WARNING):
        for _ in range(100):
            file.write(STEPS[0])
            file.flush()
    file.close()
    assert [record.getMessage() for record in caplog.records] == [
        f"recording to {path} has stopped: it would exceed 2000 bytes"
    ]
    assert path.stat().st_size <= 2000
    (found,) = read_recordings(path)
    assert 0 < len(found.steps) < 100


def test_a_full_disk_ends_the_recording_and_not_the_engine(
    caplog: pytest.LogCaptureFixture,
) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    file = RecordFile(full)
    file.write(ENGINE)
    with caplog.at_level(logging.WARNING):
        file.flush()
    file.write(ENGINE)
    file.close()
    (record,) = caplog.records
    assert "has stopped: " in record.getMessage()


def test_a_disk_that_is_full_already_ends_the_recording_and_not_the_start(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cut = b'{"engine": '
    path.write_bytes(cut)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk, caplog.at_level(logging.WARNING):
        disk.setattr("headway.recording.recorder.os.write", full)
        file = RecordFile(path)
        file.write(ENGINE)
        file.flush()
        file.close()
    assert [record.getMessage() for record in caplog.records] == [
        f"recording to {path} has stopped: [Errno 28] No space left on device"
    ]
    assert path.read_bytes() == cut
    RecordFile(path).close()
