"""The file that a recording is appended to.

Lines are encoded at once and written in bulk. A recording never harms its engine: a disk that is
full, or a file that has grown beyond its bound, ends the recording with a warning and nothing else.
"""

from __future__ import annotations

import fcntl
import logging
import os
from pathlib import Path

from headway.errors import InvalidRequest
from headway.recording.format import Line, encode_line

MOST_BYTES = 8 * 2**30
"""A recording stops here: at 64 sequences and 50 steps a second, after more than a day."""
_MOST_BUFFERED = 2**20

logger = logging.getLogger(__name__)


class RecordFile:
    """Appends lines to `path`, which no other engine may be writing to.

    Raises `InvalidRequest` where it cannot be written. Lines are in the file after `flush`.
    """

    def __init__(self, path: Path, *, most_bytes: int = MOST_BYTES) -> None:
        self._path = path
        self._most_bytes = most_bytes
        self._lines: list[bytes] = []
        self._buffered = 0
        self._file: int | None = _take(path)
        self._size = _complete(self._file)

    def write(self, line: Line) -> None:
        """Keep a line until the next flush; nothing once the recording has ended."""
        if self._file is None:
            return
        text = encode_line(line)
        self._lines.append(text)
        self._buffered += len(text)
        if self._buffered > _MOST_BUFFERED:
            self.flush()

    def flush(self) -> None:
        if self._file is None or not self._lines:
            return
        if self._size + self._buffered > self._most_bytes:
            self._give_up(f"it would exceed {self._most_bytes} bytes")
            return
        text = b"".join(self._lines)
        self._lines, self._buffered = [], 0
        self._size += len(text)
        try:
            while text:
                text = text[os.write(self._file, text) :]
        except OSError as error:
            self._give_up(str(error))

    def close(self) -> None:
        """Write what is left, and let another engine have the file."""
        self.flush()
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _give_up(self, reason: str) -> None:
        logger.warning("recording to %s has stopped: %s", self._path, reason)
        self._lines = []
        self.close()


def _take(path: Path) -> int:
    """The file, opened for this process alone."""
    try:
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise InvalidRequest(
            f"cannot record to {path}: {error.strerror}; give a file in a folder that exists and "
            "may be written to",
            field="record",
        ) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(file)
        raise InvalidRequest(
            f"another engine is recording to {path}; give each engine a file of its own",
            field="record",
        ) from error
    return file


def _complete(file: int) -> int:
    """The file's size, after its last line was ended where an earlier engine was cut off."""
    size = os.fstat(file).st_size
    if size and os.pread(file, 1, size - 1) != b"\n":
        size += os.write(file, b"\n")
    return size
