"""A progress bar in bytes, on standard error, only where somebody watches."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

from tqdm import tqdm


@contextlib.contextmanager
def bar(title: str, total: int, wanted: bool) -> Iterator[Callable[[int], object]]:
    """Yield a function that is told the bytes done since it was last told."""
    off = not (wanted and sys.stderr.isatty())
    with tqdm(
        desc=title, total=total, unit="B", unit_scale=True, unit_divisor=1024, disable=off
    ) as shown:
        yield shown.update
