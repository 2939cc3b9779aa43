"""Log lines: events for people and as JSON, and a log that cannot be written costs nothing."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from headway.logs import JsonFormatter, LogWriter, line, log_format, start_logging

ROOT = Path(__file__).parents[1]


def record_of(message: object, *args: object, **more: object) -> logging.LogRecord:
    record = logging.LogRecord("some.logger", logging.WARNING, "", 0, message, args, None)
    vars(record).update(more)
    return record


def as_json(message: object, *args: object, **more: object) -> dict[str, object]:
    text = JsonFormatter().format(record_of(message, *args, **more))
    assert "\n" not in text
    found: dict[str, object] = json.loads(text)
    return found


def test_a_line_is_keys_and_values() -> None:
    assert line("done", id="a-1", seconds=0.12345, n=2) == "event=done id=a-1 seconds=0.123 n=2"
    assert line("done", stream=True) == "event=done stream=true"


def test_none_is_left_out() -> None:
    assert line("done", reason=None) == "event=done"


@pytest.mark.parametrize("value", ["a b", "x\nevent=forged", 'say "hi"', "k=v", ""])
def test_what_could_be_misread_is_quoted(value: str) -> None:
    text = line("done", user=value)
    assert text.startswith('event=done user="')
    assert "\n" not in text
    assert as_json(text)["user"] == value


def test_an_event_as_json_keeps_the_types_of_its_fields() -> None:
    found = as_json(
        line("done", id="12", n=2, seconds=0.12345678, stream=True, path=Path("/x"), bad=1e400),
        created=1700000000.25,
    )
    assert found == {
        "time": "2023-11-14T22:13:20.250Z",
        "level": "warning",
        "logger": "some.logger",
        "event": "done",
        "id": "12",
        "n": 2,
        "seconds": 0.123457,
        "stream": True,
        "path": "/x",
        "bad": None,
    }
    moment = datetime.fromisoformat(str(found["time"]))
    assert moment == datetime.fromtimestamp(1700000000.25, UTC)


def test_a_field_never_hides_what_every_line_has() -> None:
    found = as_json(line("done", level="mine", time=3))
    assert (found["level"], found["level_"], found["time_"]) == ("warning", "mine", 3)


def test_what_is_no_event_is_a_message() -> None:
    found = as_json("%d of %s", 3, "é\ud800")
    assert (found["event"], found["message"]) == ("message", "3 of é\ud800")


def test_events_of_code_that_formats_them_itself() -> None:
    found = as_json("event=%s n=%d seconds=%.1f what=%s ok=true", "done", 3, 0.5, '"a b"')
    expected = {"event": "done", "n": 3, "seconds": 0.5, "what": "a b", "ok": True}
    assert {name: found[name] for name in expected} == expected


def test_a_traceback_is_in_its_line() -> None:
    try:
        raise ValueError("what\nhappened")
    except ValueError:
        found = as_json("it failed", exc_info=sys.exc_info())
    assert str(found["exception"]).startswith("Traceback")
    assert "what\nhappened" in str(found["exception"])


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            continue


def write(writer: LogWriter, *messages: str) -> None:
    for message in messages:
        writer.handle(record_of(message))


def test_lines_are_written_in_order(pipe: tuple[int, int]) -> None:
    writer = LogWriter(pipe[1])
    write(writer, "a", "b\ud800", "c")
    writer.flush()
    assert os.read(pipe[0], 100) == b"a\nb\\ud800\nc\n"
    writer.close()


def test_nobody_reads_any_more(pipe: tuple[int, int]) -> None:
    os.close(pipe[0])
    writer = LogWriter(pipe[1])
    write(writer, "a", "b")
    writer.flush()
    assert writer.lost == 2
    writer.close()


def test_a_full_disk_loses_lines_and_says_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    full = threading.Event()
    full.set()
    written: list[bytes] = []

    def os_write(descriptor: int, data: bytes) -> int:
        if not full.is_set():
            written.append(bytes(data))
            return len(data)
        if len(data) > 3:
            return 2  # a part still fits
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("headway.logs.os.write", os_write)
    writer = LogWriter(-1)
    write(writer, "four", "five")
    writer.flush()
    assert writer.lost == 2
    full.clear()
    write(writer, "six", "seven")
    writer.flush()
    # The torn line is ended first, so that the next can be read.
    assert written == [b"\nsix\n", b"event=log_lines_lost lines=2\n", b"seven\n"]
    assert writer.lost == 0
    writer.close()


def test_whoever_logs_does_not_wait_for_a_reader_that_sleeps(pipe: tuple[int, int]) -> None:
    writer = LogWriter(pipe[1], most_unwritten=10)
    lines = 2000  # far more than a pipe holds
    for number in range(lines):  # would never end if it waited
        write(writer, f"{number:0100}")
    assert writer.lost > 0
    got = b""
    while b"log_lines_lost" not in got:
        got += os.read(pipe[0], 1 << 20)
    assert got.startswith(f"{0:0100}\n".encode())
    assert int(got.split(b"lines=")[1].split()[0]) > 0
    writer.close()


def test_what_cannot_be_formatted_is_said_and_nothing_raised(pipe: tuple[int, int]) -> None:
    writer = LogWriter(pipe[1])
    writer.handle(record_of("%d", "no number"))
    writer.flush()
    assert os.read(pipe[0], 1000) == b"a log line could not be formatted: some.logger: '%d'\n"
    writer.close()


def test_a_program_with_its_own_logging_keeps_it() -> None:
    before = (logging.getLogger().handlers[:], logging.getLogger().level, sys.excepthook)
    assert before[0], "pytest's own"
    start_logging("error", "json")
    assert (logging.getLogger().handlers, logging.getLogger().level, sys.excepthook) == before
    assert log_format() == "text"


PROGRAM = """
import logging, sys, threading, warnings
from headway.logs import log_format, start_logging
start_logging("info", sys.argv[1])
logging.getLogger("a.library").info("%s\\nline", "second")
warnings.warn("old")
thread = threading.Thread(target=lambda: 1 / 0)
thread.start()
thread.join()
assert log_format() == sys.argv[1]
raise KeyError("at the end")
"""


def run(how: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stderr


def test_every_line_of_a_program_is_json_even_its_end() -> None:
    code, text = run("json")
    found = [json.loads(each) for each in text.splitlines()]
    assert code == 1
    assert [each["logger"] for each in found] == [
        "a.library",
        "py.warnings",
        "headway",
        "headway",
    ]
    assert found[0]["message"] == "second\nline"
    assert "ZeroDivisionError" in found[2]["exception"]
    assert "KeyError: 'at the end'" in found[3]["exception"]


def test_the_same_as_text() -> None:
    code, text = run("text")
    assert code == 1
    assert "INFO a.library: second" in text
    assert "KeyError: 'at the end'" in text


def test_a_program_ends_well_though_nobody_reads_its_log() -> None:
    command = [sys.executable, "-c", PROGRAM.replace("raise", "#")]
    with subprocess.Popen([*command, "text"], stderr=subprocess.PIPE) as program:
        assert program.stderr is not None
        program.stderr.close()
        assert program.wait(60) == 0
