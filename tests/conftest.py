"""The cache of a whole run: downloads are the user's, everything else lasts as long as the run.

Downloads that the user has are not fetched again, and missing ones come where the user's belong, as
by any other use. What is prepared or measured goes into a folder that is removed at the end. Tests
that look at the cache itself have one of their own.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from headway.config import cache_home


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_run() -> Iterator[Path]:
    """`HEADWAY_HOME` for this process and those that it starts; prepared models are shared."""
    downloads = cache_home() / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="headway-tests-"))
    (folder / "downloads").symlink_to(downloads.resolve(), target_is_directory=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADWAY_HOME", str(folder))
        yield folder
    shutil.rmtree(folder)
