"""Tiny models, each prepared once in each storage that is asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from headway.checkpoint import Storage, prepare
from headway.native import available
from tests.models.families import write_tiny

Tiny = Callable[[str, Storage], Path]


@pytest.fixture(scope="session")
def tinies(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """Gives the folder of a tiny model of 256 positions, by family and storage."""
    home = tmp_path_factory.mktemp("tinies")

    def give(family: str, storage: Storage) -> Path:
        if storage.startswith("native") and not available():
            pytest.skip("the native library is not built")
        if not (home / family).exists():
            write_tiny(family, home / family)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HEADWAY_HOME", str(home / "home"))
            return prepare(str(home / family), dtype=storage, progress=False).folder

    return give


@pytest.fixture(scope="session")
def tiny(tinies: Tiny) -> Path:
    """A Llama in float32, for the reference."""
    return tinies("llama", "float32")


@pytest.fixture(scope="session", params=["float32", "native-float32"])
def either(request: pytest.FixtureRequest, tinies: Tiny) -> Path:
    """A Llama in float32, for each backend in turn."""
    return tinies("llama", request.param)
