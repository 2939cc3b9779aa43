"""What is measured of an answer."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from headway.llm import Delta
from headway.server.timing import TimedUsage


@pytest.mark.parametrize("scheduled", [-0.5, 0.25])
def test_a_prompt_takes_no_longer_than_the_whole(scheduled: float) -> None:
    arrival = time.monotonic() - 1.0
    request: Any = SimpleNamespace(
        requests=[SimpleNamespace(arrival=arrival)],
        prompts=[],
        prompt_of=lambda _: SimpleNamespace(token_ids=(1, 2)),
    )
    usage = TimedUsage(request)
    usage.add(Delta(index=0, token_ids=(3,), scheduled_at=arrival + scheduled))
    times = usage.choices[0]
    assert times.scheduled_at == arrival + max(0.0, scheduled)
    assert times.prompt_seconds <= usage.total_seconds
