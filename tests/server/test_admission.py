"""What the server tells a client that it has no room for."""

from __future__ import annotations

import asyncio

import pytest

from headway.config import ServerConfig
from headway.errors import Overloaded
from headway.server.admission import FIRST_RETRY_AFTER, MAX_RETRY_AFTER, ServerState
from headway.types import SamplingParams
from tests.server.fakes import FakeLLM


def retry_after(seconds: float, *, requests: int) -> float:
    """What a refused client hears after so many requests took so long each."""

    async def main() -> float:
        llm = FakeLLM()
        state = ServerState(ServerConfig(max_num_queued_reqs=1), ("alphabet",))
        state.open(llm)
        for _ in range(requests):
            with state.admit("a", 1) as handle:
                handle.generation = llm.resolve([1, 2], params=SamplingParams())
                handle.admitted_at -= seconds
        with state.admit("b", 1), pytest.raises(Overloaded) as refused, state.admit("c", 1):
            pass
        return refused.value.retry_after

    return asyncio.run(main())


def test_a_refused_client_may_come_back_when_requests_have_lately_ended() -> None:
    assert retry_after(0.0, requests=0) == FIRST_RETRY_AFTER
    assert 19.0 < retry_after(20.0, requests=80) < 20.5
    assert 1.0 < retry_after(20.0, requests=3) < 10.0


def test_nobody_is_sent_away_for_longer_than_a_minute() -> None:
    assert retry_after(10_000.0, requests=500) == pytest.approx(MAX_RETRY_AFTER, rel=1e-3)
