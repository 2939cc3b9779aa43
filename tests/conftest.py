"""What holds for every test, wherever pytest was started; and the cache of a whole run.

Downloads that the user has are not fetched again, and missing ones come where the user's belong, as
by any other use. What is prepared or measured goes into a folder that is removed at the end. Tests
that look at the cache itself have one of their own.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

from headway.environment import cache_home

# No test may fail for a slow or busy machine: Hypothesis would allow an example 0.2 seconds.
settings.register_profile("headway", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# For `benchmarks/mutation.py`, which asks whether a test fails and not how simply.
settings.register_profile(
    "mutation",
    settings.get_profile("headway"),
    phases=[Phase.explicit, Phase.generate],
    max_examples=12,
)
settings.load_profile("headway")


def pytest_configure() -> None:
    """Tests send signals to programs that they start, which inherit what pytest ignores.

    A shell that runs a script starts what it puts into the background with SIGINT ignored, and
    `nohup` ignores SIGHUP. A handler that does nothing is the same to pytest, and not inherited.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


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


@pytest.fixture(scope="session", autouse=True)
def _torch_leaves_nothing(tmp_path_factory: pytest.TempPathFactory) -> None:
    """PyTorch makes a folder for compiled code, also where it compiles nothing, and leaves it."""
    folder = tmp_path_factory.getbasetemp() / "inductor"
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder))
