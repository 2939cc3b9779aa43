"""No body keeps the event loop busy for long: measured against decoding a body of numbers."""

from __future__ import annotations

import json
import time

import pytest

from tests.hostile.bodies import FAMILIES, Family, answers, just_allowed, send
from tests.server.conftest import Running

SIZE = 4 * 2**20
MOST_UNITS = 8.0


@pytest.fixture(scope="module")
def unit() -> float:
    """Processor seconds that this machine takes to decode a million numbers."""
    numbers = json.dumps(list(range(10)) * 100_000)
    begun = time.thread_time()
    json.loads(numbers)
    return time.thread_time() - begun


REFUSED = [family for family in FAMILIES if family not in (answers, just_allowed)]
"""The others are served, so that what they cost is the real tokenizer's and model's."""


@pytest.mark.parametrize("family", REFUSED, ids=lambda family: family.__name__)
def test_no_body_keeps_the_event_loop_busy(server: Running, unit: float, family: Family) -> None:
    for body in family(SIZE):
        before = server.call(time.thread_time)
        status, text = send(f"127.0.0.1:{server.port}", body, 60)
        spent = server.call(time.thread_time) - before
        assert status in (200, 400, 404), (body.name, status, text)
        assert spent < MOST_UNITS * unit, (body.name, status, text)
