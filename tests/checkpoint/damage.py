"""Ways in which a file of the cache comes to be damaged."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

Damage = Callable[[Path], None]


def truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def garbage(path: Path) -> None:
    path.write_bytes(b"\xff\0{{{")


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "inside").write_text("x")


def a_file(path: Path) -> None:
    """In place of a folder."""
    shutil.rmtree(path)
    path.write_text("x")


def flipped_bit(path: Path, offset: int | None = None) -> None:
    """Its size stays what it was."""
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2 if offset is None else offset] ^= 1
    path.write_bytes(raw)


WHOLE_FILE: list[Damage] = [truncated, emptied, garbage, a_folder]
