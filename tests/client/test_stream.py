"""A stream joins what was not read in time and forgets what was cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from headway.client import Stream
from headway.types import TokenEvent


def test_unread_events_of_a_request_are_joined_in_order() -> None:
    async def main() -> None:
        stream = Stream(["a", "b"], lambda ids: None)
        stream.push(TokenEvent(id="a", tokens=(1,), cached_tokens=4, scheduled_at=2.0))
        stream.push(TokenEvent(id="b", tokens=(9,)))
        stream.push(TokenEvent(id="a", tokens=(2,), preemptions=2, draft_tokens=2))
        stream.push(
            TokenEvent(
                id="a",
                tokens=(3, 4),
                finish="stop",
                stop_reason=4,
                preemptions=1,
                draft_tokens=3,
                accepted_tokens=1,
            )
        )
        assert await anext(stream) == TokenEvent(
            id="a",
            tokens=(1, 2, 3, 4),
            finish="stop",
            stop_reason=4,
            cached_tokens=4,
            scheduled_at=2.0,
            preemptions=3,
            draft_tokens=5,
            accepted_tokens=1,
        )
        assert (await anext(stream)).tokens == (9,)
        stream.push(TokenEvent(id="b"))
        stream.push(TokenEvent(id="b", finish="error", error="later", retry_after=3.5))
        last = await anext(stream)
        assert (last.finish, last.error, last.retry_after) == ("error", "later", 3.5)
        with pytest.raises(StopAsyncIteration):
            await anext(stream)

    asyncio.run(main())


def test_cancelling_wakes_the_reader_and_reports_only_what_ran() -> None:
    async def main() -> None:
        cancelled: list[Sequence[str]] = []
        stream = Stream(["a", "b"], cancelled.append)
        stream.push(TokenEvent(id="a", tokens=(1,), finish="length"))
        assert (await anext(stream)).id == "a"
        reader = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        stream.cancel()
        stream.cancel()
        stream.push(TokenEvent(id="b", tokens=(1,)))
        with pytest.raises(StopAsyncIteration):
            await reader
        assert cancelled == [["b"]]

    asyncio.run(main())


def test_a_released_request_can_be_read_to_its_last_event() -> None:
    async def main() -> None:
        cancelled: list[Sequence[str]] = []
        stream = Stream(["a", "b"], cancelled.append)
        stream.push(TokenEvent(id="a", tokens=(1,)))
        stream.release("a")
        stream.push(TokenEvent(id="a", tokens=(2,)))
        assert (await anext(stream)).tokens == (1,)
        reader = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        stream.release("b")
        with pytest.raises(StopAsyncIteration):
            await reader
        stream.cancel()
        assert cancelled == []

    asyncio.run(main())


def test_a_reader_that_was_cancelled_may_come_back() -> None:
    async def main() -> None:
        stream = Stream(["a"], lambda ids: None)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(stream), 0.01)
        stream.push(TokenEvent(id="a", tokens=(1,)))
        assert (await anext(stream)).tokens == (1,)

    asyncio.run(main())


def test_who_listens_is_called_when_told_and_takes_what_is_there() -> None:
    async def main() -> None:
        stream = Stream(["a", "b"], lambda ids: None)
        taken: list[TokenEvent | None] = []
        stream.listen(lambda: taken.append(stream.take()))
        stream.add(TokenEvent(id="a", tokens=(1,)))
        stream.add(TokenEvent(id="a", tokens=(2,)))
        assert taken == []
        stream.tell()
        stream.tell()
        assert taken == [TokenEvent(id="a", tokens=(1, 2)), None]
        stream.add(TokenEvent(id="a", tokens=(3,)))
        stream.add(TokenEvent(id="b", tokens=(7,)))
        stream.add(TokenEvent(id="a", tokens=(4,)))
        assert [each.tokens for each in stream.take_all()] == [(3, 4), (7,)]
        assert stream.take_all() == []
        stream.listen(None)
        stream.add(TokenEvent(id="b", tokens=(3,), finish="length"))
        stream.tell()
        assert len(taken) == 2
        assert not stream.ended
        assert (await anext(stream)).tokens == (3,)
        stream.add(TokenEvent(id="a", finish="length"))
        assert not stream.ended
        assert stream.take() is not None
        assert stream.ended

    asyncio.run(main())


def test_who_adds_or_cancels_is_not_called_back_in_the_midst_of_it() -> None:
    async def main() -> None:
        stream = Stream(["a", "b", "c"], lambda ids: None)
        calls: list[bool] = []
        stream.listen(lambda: calls.append(stream.ended))
        stream.push(TokenEvent(id="a", tokens=(1,), finish="length"))
        stream.cancel("b")
        stream.release("c")
        assert calls == []
        await asyncio.sleep(0)
        assert calls == [False] * 3
        stream.take()
        stream.cancel()
        await asyncio.sleep(0)
        assert calls[3:] == [True]

    asyncio.run(main())


def test_what_was_cancelled_is_not_added() -> None:
    stream = Stream(["a"], lambda ids: None)
    stream.cancel("a")
    stream.add(TokenEvent(id="a", tokens=(1,)))
    assert stream.take() is None
    assert stream.ended
