"""The engine process's own start."""

from __future__ import annotations

import gc

import pytest

from headway.config import EngineConfig
from headway.engine import __main__ as process
from headway.wire import Start


def test_what_the_start_made_is_not_collected_again(monkeypatch: pytest.MonkeyPatch) -> None:
    built = (object(), object())
    monkeypatch.setattr("headway.engine.build.build_engine", lambda start: built)
    before = gc.get_freeze_count()
    try:
        assert process.build(Start(config=EngineConfig(), prepared="")) is built
        assert gc.get_freeze_count() > before
    finally:
        gc.unfreeze()
