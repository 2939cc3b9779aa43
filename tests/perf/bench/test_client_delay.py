"""Client delay: what the probe measures, and when the client says that it could not keep up."""

from __future__ import annotations

import asyncio
import time

import pytest

from headway.perf.bench.run_load import PROBE_INTERVAL, TOLERABLE, ClientDelay, ClientDelayProbe


def client_delay(**changed: float) -> ClientDelay:
    easy = {
        "late_p99": 0.001,
        "late_max": 0.002,
        "wake_p99": 0.001,
        "wake_max": 0.002,
        "busy": 0.1,
        "duration": 1.0,
    }
    return ClientDelay(**(easy | changed))


def test_a_client_that_kept_up_says_nothing() -> None:
    assert client_delay().warning is None
    assert client_delay(late_max=5.0, wake_max=5.0).warning is None, "one stall is no reason"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"wake_p99": 0.3}, "woke up to 300 ms late"),
        ({"late_p99": 0.2}, "left up to 200 ms late"),
        ({"busy": 0.97}, "97% of a core"),
    ],
)
def test_a_client_that_could_not_keep_up_says_why(changed: dict[str, float], said: str) -> None:
    warning = client_delay(**changed).warning
    assert warning is not None
    assert said in warning


def test_many_at_once_may_take_a_share_of_a_long_run_to_leave() -> None:
    assert client_delay(late_p99=0.2, duration=60.0).warning is None
    assert client_delay(late_p99=0.2, duration=10.0).warning is not None


def test_the_probe_sees_a_blocked_event_loop() -> None:
    async def main() -> ClientDelay:
        with ClientDelayProbe() as probe:
            for _ in range(5):
                await asyncio.sleep(2 * PROBE_INTERVAL)
                time.sleep(4 * TOLERABLE)
        return probe.result([], 1.0)

    seen = asyncio.run(main())
    assert seen.wake_max > TOLERABLE
    assert seen.wake_p99 > TOLERABLE
    assert seen.warning is not None


def test_the_probe_counts_processor_time_and_sleeping_is_none() -> None:
    async def main(work: float) -> ClientDelay:
        with ClientDelayProbe() as probe:
            end = time.thread_time() + work
            while time.thread_time() < end:
                pass
        return probe.result([0.0, 0.5], 2.0)

    seen = asyncio.run(main(0.1))
    assert 0.05 <= seen.busy < 0.5
    assert seen.late_max == 0.5
