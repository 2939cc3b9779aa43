"""A tiny Llama, prepared once."""

from __future__ import annotations

from pathlib import Path

import pytest

from headway.checkpoint import prepare
from tests.models.families import write_tiny


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a prepared tiny float32 Llama of 256 positions."""
    folder = tmp_path_factory.mktemp("tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADWAY_HOME", str(folder / "home"))
        write_tiny("llama", folder / "model")
        return prepare(str(folder / "model"), dtype="float32", progress=False).folder
