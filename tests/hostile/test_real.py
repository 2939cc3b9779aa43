"""Mixed hostile load and faults of the machine under the real server, at a small scale."""

from __future__ import annotations

import asyncio

import pytest

from tests.hostile import faults, mixed
from tests.server.serving import headway_serve, until_idle

pytestmark = pytest.mark.model


def test_streams_beside_hostile_clients_say_what_they_say_alone() -> None:
    with headway_serve() as (process, url):
        report = asyncio.run(
            mixed.run(
                url,
                process.pid,
                seconds=12,
                streams=4,
                tokens=16,
                scale=0.02,
                kill_every=5,
            )
        )
        until_idle(url)
    assert mixed.failures(report) == []
    assert report["engine_kills"] == 2


@pytest.mark.parametrize("fault", ["stopped", "no_descriptors"])
def test_a_fault_while_streaming_costs_no_stream_a_token(fault: str) -> None:
    (row,) = asyncio.run(faults.matrix([fault], ["streaming"]))
    assert row.lost == 0, row.errors
    assert row.same_tokens
    assert row.engine_replaced
