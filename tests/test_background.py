"""Background work does not end unnoticed."""

from __future__ import annotations

import asyncio

import pytest

from headway.background import BackgroundTaskEnded, later, soon, watched


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_a_failure_is_logged_with_its_traceback_and_told(caplog: pytest.LogCaptureFixture) -> None:
    failures: list[BaseException] = []

    async def broken() -> None:
        raise KeyError("lost")

    async def main() -> None:
        watched(broken(), name="the thing", on_failure=failures.append)
        await _settle()

    asyncio.run(main())
    assert [type(error) for error in failures] == [KeyError]
    (record,) = caplog.records
    assert "the thing" in record.message
    assert record.exc_info is not None
    assert record.exc_info[1] is failures[0]


def test_who_cancels_a_task_of_his_own_hears_nothing() -> None:
    failures: list[BaseException] = []

    async def main() -> None:
        task = watched(asyncio.sleep(3600), name="sleeper", on_failure=failures.append)
        done = watched(asyncio.sleep(0, 7), name="short", on_failure=failures.append)
        await _settle()
        task.cancel()
        await _settle()
        assert task.cancelled()
        assert done.result() == 7

    asyncio.run(main())
    assert failures == []


def test_a_task_whose_wait_was_cancelled_has_failed() -> None:
    failures: list[BaseException] = []

    async def main() -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def wait() -> None:
            await future

        watched(wait(), name="waiter", on_failure=failures.append)
        await _settle()
        future.cancel()
        await _settle()

    asyncio.run(main())
    assert [type(error) for error in failures] == [BackgroundTaskEnded]


def test_callbacks_are_guarded_even_if_the_reaction_fails(
    caplog: pytest.LogCaptureFixture,
) -> None:
    failures: list[BaseException] = []
    called: list[bool] = []

    def broken() -> None:
        raise ValueError("callback")

    def react(error: BaseException) -> None:
        failures.append(error)
        raise RuntimeError("reaction")

    async def main() -> None:
        soon(broken, name="the callback", on_failure=react)
        later(0.0, broken, name="the timer", on_failure=react)
        later(0.0, lambda: called.append(True), name="fine", on_failure=react)
        later(0.0, broken, name="cancelled", on_failure=react).cancel()
        assert failures == []
        await asyncio.sleep(0.01)

    asyncio.run(main())
    assert [str(error) for error in failures] == ["callback"] * 2
    assert called == [True]
    for expected in ("the callback", "the timer", "RuntimeError: reaction"):
        assert expected in caplog.text
