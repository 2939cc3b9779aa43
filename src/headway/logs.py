"""Log lines of every process: text for people, or JSON, an object a line, for machines.

A line is never worth a request: lines are written by a thread of their own, so that a full pipe or
a slow disk delays nobody, and one that cannot be written (nobody reads any more, the disk is full)
is counted and dropped. The event loop and the engine's step loop never wait for a log.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import select
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from queue import SimpleQueue
from types import TracebackType

from headway.config import LogFormat

TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
MOST_UNWRITTEN = 10_000
"""Lines that may wait to be written; further ones are dropped."""
FLUSH_SECONDS = 2.0
"""Time to write what waits when a process ends."""

_BARE = re.compile(r"[A-Za-z0-9_.:/,+-]+")
_FIELD = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|\S*)')
_COMMON = ("time", "level", "logger", "event", "message", "exception")

Value = str | int | float | bool | None


class Event(str):
    """A message of the form `event=... key=value ...` that keeps its fields as values."""

    __slots__ = ("fields", "name")

    name: str
    fields: dict[str, object]


def line(event: str, **fields: object) -> Event:
    """The event with its fields; those that are None are left out, floats get three digits.

    Values that clients chose are quoted, so none can forge a line or a field.
    """
    kept = {name: value for name, value in fields.items() if value is not None}
    parts = [f"event={event}", *(f"{name}={_text(value)}" for name, value in kept.items())]
    made = Event(" ".join(parts))
    made.name, made.fields = event, kept
    return made


class JsonFormatter(logging.Formatter):
    """One JSON object a record, on one line: time (RFC 3339, UTC), level, logger, event, fields.

    A record that is no event, such as a library's, has the event "message" and its text as
    `message`. Tracebacks are in `exception`.
    """

    def format(self, record: logging.LogRecord) -> str:
        found: dict[str, object] = {
            "time": _rfc3339(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        text = record.getMessage()
        if isinstance(record.msg, Event) and not record.args:
            found["event"] = record.msg.name
            fields = record.msg.fields
        elif text.startswith("event="):
            fields = dict(_fields(text))
            found["event"] = fields.pop("event")
        else:
            found["event"] = "message"
            found["message"] = text
            fields = {}
        for name, value in fields.items():
            found[f"{name}_" if name in _COMMON else name] = _value(value)
        if record.exc_info:
            found["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            found["stack"] = record.stack_info
        return json.dumps(found, separators=(",", ":"), default=str)


class LogWriter(logging.Handler):
    """Writes lines to a file descriptor in a thread of its own; see the module."""

    def __init__(self, descriptor: int, *, most_unwritten: int = MOST_UNWRITTEN) -> None:
        super().__init__()
        self.lost = 0
        """Lines dropped since one was last written."""
        self._descriptor = descriptor
        self._most = most_unwritten
        self._unwritten: SimpleQueue[bytes | threading.Event | None] = SimpleQueue()
        self._torn = False
        threading.Thread(target=self._run, name="log-writer", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
        except Exception:  # what is logged must not fail whoever logs it
            text = f"a log line could not be formatted: {record.name}: {record.msg!r}"
        if self._unwritten.qsize() >= self._most:
            self.lost += 1
        else:
            self._unwritten.put(_encoded(text))

    def flush(self) -> None:
        """Wait until what was logged is written, or for `FLUSH_SECONDS`."""
        done = threading.Event()
        self._unwritten.put(done)
        done.wait(FLUSH_SECONDS)

    def close(self) -> None:
        self.flush()
        self._unwritten.put(None)
        super().close()

    def _run(self) -> None:
        while (item := self._unwritten.get()) is not None:
            if isinstance(item, threading.Event):
                item.set()
            elif not self._write(item):
                self.lost += 1
            elif self.lost:
                lost, self.lost = self.lost, 0
                self._write(self._notice(lost))

    def _write(self, data: bytes) -> bool:
        """Whether all of it was written; after a part of a line, the next begins a new one."""
        if self._torn:
            data = b"\n" + data
        left = memoryview(data)
        try:
            while left:
                try:
                    left = left[os.write(self._descriptor, left) :]
                except BlockingIOError:  # somebody made the descriptor non-blocking
                    select.select([], [self._descriptor], [])
        except (OSError, ValueError):
            self._torn = self._torn or 0 < len(left) < len(data)
            return False
        self._torn = False
        return True

    def _notice(self, lost: int) -> bytes:
        record = logging.LogRecord(
            __name__, logging.WARNING, "", 0, line("log_lines_lost", lines=lost), None, None
        )
        return _encoded(self.format(record))


def start_logging(level: int | str, log_format: LogFormat = "text") -> None:
    """Log to standard error from now on, in place of an earlier call; uncaught errors as well.

    A program that has set up logging by itself keeps what it has.
    """
    root = logging.getLogger()
    ours = _writers()
    if len(ours) < len(root.handlers):
        return
    for each in ours:
        root.removeHandler(each)
        each.close()
    with suppress(AttributeError, OSError, ValueError):  # closed, or no file at all
        writer = LogWriter(sys.stderr.fileno())
        writer.setFormatter(JsonFormatter() if log_format == "json" else logging.Formatter(TEXT))
        root.addHandler(writer)
    if not root.handlers:
        root.addHandler(logging.NullHandler())
    root.setLevel(level.upper() if isinstance(level, str) else level)
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread


def flush_logs() -> None:
    """Write what was logged so far, before something else is printed."""
    for each in _writers():
        each.flush()


def log_format() -> LogFormat:
    """How this process writes its log, for a process that it starts."""
    json_ = any(isinstance(each.formatter, JsonFormatter) for each in logging.getLogger().handlers)
    return "json" if json_ else "text"


def _writers() -> list[LogWriter]:
    return [each for each in logging.getLogger().handlers if isinstance(each, LogWriter)]


def _log_uncaught(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)
    else:
        logging.getLogger("headway").critical(
            line("uncaught", reason=kind.__name__), exc_info=(kind, error, traceback)
        )


def _log_uncaught_in_thread(given: threading.ExceptHookArgs) -> None:
    if given.exc_value is not None and not isinstance(given.exc_value, SystemExit):
        _log_uncaught(given.exc_type, given.exc_value, given.exc_traceback)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace") + b"\n"


def _rfc3339(seconds: float) -> str:
    whole = math.floor(seconds)
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))
    return f"{moment}.{int((seconds - whole) * 1000):03}Z"


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.3f}"
    text = str(value)
    return text if _BARE.fullmatch(text) else json.dumps(text)


def _value(value: object) -> Value:
    """As JSON has it: numbers and truth values stay what they are, all else becomes a text."""
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value if isinstance(value, str | int) else str(value)


def _fields(text: str) -> Iterator[tuple[str, object]]:
    """The fields of an event that came as a text, numbers as numbers."""
    for name, given in _FIELD.findall(text):
        if given in ("true", "false"):
            yield name, given == "true"
            continue
        for read in (int, float, json.loads):
            try:
                yield name, read(given)
                break
            except ValueError:
                continue
        else:
            yield name, given
