"""What is relayed is what one gets who awaits every delta; in fewer writes, and no task wakes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.client import Stream
from headway.errors import Overloaded
from headway.llm import Delta, RequestStream, TokensPrompt
from headway.server.relay import Relay
from headway.types import SamplingParams, TokenEvent
from tests.server.fakes import FakeLLM


class Notes:
    """A receiver that keeps what it is given."""

    def __init__(self) -> None:
        self.ready = True
        self.written: list[bytes] = []
        self.bug_at = ""
        """The text of a delta that cannot be taken in."""

    def take(self, delta: Delta) -> bytes:
        if self.bug_at and delta.text == self.bug_at:
            raise RuntimeError("a bug")
        return f"{delta.index}{delta.text}".encode() if delta.text else b""

    def write(self, data: bytes) -> None:
        assert self.ready
        assert data
        self.written.append(data)


class Request:
    """A request for some continuations whose events the test makes."""

    def __init__(self, n: int = 1, stop: str | None = None) -> None:
        llm = FakeLLM()
        stops = () if stop is None else (stop,)
        params = SamplingParams(n=n, max_tokens=100, seed=1, temperature=1, stop=stops)
        generation = llm.resolve(TokensPrompt(token_ids=(120,)), params=params)
        self.ids = [each.id for each in generation.requests]
        self.cancelled: list[str] = []
        self.events = Stream(self.ids, self.cancelled.extend)
        self.deltas = RequestStream(generation, self.events, llm.tokenizer)

    def say(self, index: int, text: str, *, ends: bool = False) -> None:
        tokens = tuple(map(ord, text))
        event = TokenEvent(id=self.ids[index], tokens=tokens, finish="length" if ends else None)
        self.events.add(event)


async def begun(relay: Relay) -> asyncio.Task[None]:
    task = asyncio.create_task(relay.run())
    await asyncio.sleep(0)
    return task


def test_what_comes_at_once_is_written_at_once_and_without_a_turn_of_the_loop() -> None:
    async def main() -> None:
        request, notes = Request(n=3), Notes()
        task = await begun(Relay(request.deltas, notes))
        for step in "ab":
            for index in range(3):
                request.say(index, step)
            request.events.tell()
            assert notes.written[-1] == f"0{step}1{step}2{step}".encode()
        assert len(notes.written) == 2
        assert not task.done()
        for index in range(3):
            request.say(index, "c", ends=True)
        request.events.tell()
        await task
        assert len(notes.written) == 3
        assert await anext(request.deltas, None) is None

    asyncio.run(main())


def test_what_was_there_before_is_relayed_first() -> None:
    async def main() -> None:
        request, notes = Request(), Notes()
        request.say(0, "a")
        request.say(0, "b", ends=True)
        await Relay(request.deltas, notes).run()
        assert notes.written == [b"0ab"]

    asyncio.run(main())


def test_a_receiver_that_is_not_ready_is_left_alone() -> None:
    async def main() -> None:
        request, notes = Request(), Notes()
        task = await begun(Relay(request.deltas, notes))
        request.say(0, "a")
        request.events.tell()
        notes.ready = False
        request.say(0, "b")
        request.events.tell()
        await task
        request.say(0, "c")
        request.events.tell()
        assert notes.written == [b"0a"]
        assert (await anext(request.deltas)).text == "bc"

    asyncio.run(main())


def test_an_error_ends_it_after_what_came_before() -> None:
    async def main() -> None:
        request, notes = Request(n=2), Notes()
        notes.bug_at = "x"
        task = await begun(Relay(request.deltas, notes))
        request.say(0, "a")
        request.say(1, "x")
        request.events.tell()
        request.say(0, "b")
        request.events.tell()
        with pytest.raises(RuntimeError, match="a bug"):
            await task
        assert notes.written == [b"0a"]

    asyncio.run(main())


def test_a_shed_continuation_is_told_to_who_relays() -> None:
    async def main() -> None:
        request, notes = Request(n=2), Notes()
        task = await begun(Relay(request.deltas, notes))
        shed = TokenEvent(id=request.ids[1], finish="error", error="full", retry_after=2.0)
        request.events.add(shed)
        request.events.tell()
        with pytest.raises(Overloaded, match="full"):
            await task
        assert request.cancelled == [request.ids[0]]

    asyncio.run(main())


def test_a_stop_string_ends_it_and_aborts_the_request() -> None:
    async def main() -> None:
        request, notes = Request(stop="b"), Notes()
        task = await begun(Relay(request.deltas, notes))
        request.say(0, "abc")
        request.events.tell()
        await task
        assert notes.written == [b"0a"]
        assert request.cancelled == request.ids

    asyncio.run(main())


def test_nothing_is_relayed_for_a_task_that_was_cancelled() -> None:
    async def main() -> None:
        request, notes = Request(), Notes()
        task = await begun(Relay(request.deltas, notes))
        task.cancel()
        request.say(0, "a")
        request.events.tell()  # before the task knows
        await asyncio.gather(task, return_exceptions=True)
        request.say(0, "b")
        request.events.tell()
        assert notes.written == []

    asyncio.run(main())


def test_a_patient_one_reads_seldom_and_every_end_at_once() -> None:
    async def main() -> None:
        request, notes = Request(n=2), Notes()
        task = await begun(Relay(request.deltas, notes, patience=3))
        written = []
        for step in range(8):
            request.say(0, "abcdefgh"[step])
            request.events.tell()
            written.append(len(notes.written))
        # The first look, as it begins, counts too.
        assert written == [0, 0, 1, 1, 1, 1, 2, 2]
        assert notes.written == [b"0abc", b"0defg"]
        request.say(1, "!", ends=True)
        request.events.tell()
        assert notes.written[2:] == [b"0h1!"]
        request.say(0, "i")
        request.events.tell()
        assert len(notes.written) == 3
        request.say(0, "!", ends=True)
        request.events.tell()
        await task
        assert notes.written[3:] == [b"0i!"]

    asyncio.run(main())


def test_a_patient_one_does_not_wait_for_what_has_ended() -> None:
    async def main() -> None:
        request, notes = Request(), Notes()
        request.say(0, "a", ends=True)
        assert (await anext(request.deltas)).text == "a"
        await Relay(request.deltas, notes, patience=3).run()
        assert notes.written == []

    asyncio.run(main())


def test_what_a_patient_one_had_not_read_is_taken_in_when_it_is_cancelled() -> None:
    async def main() -> None:
        request, notes = Request(), Notes()
        taken: list[str] = []
        notes.take = lambda delta: taken.append(delta.text) or b""  # type: ignore[func-returns-value,method-assign]
        task = await begun(Relay(request.deltas, notes, patience=9))
        request.say(0, "a")
        request.say(0, "b")
        request.events.tell()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert (taken, notes.written) == (["ab"], [])

    asyncio.run(main())


ACTS = st.lists(st.sampled_from(["0", "1", "2", "tell", "pause", "turn"]), max_size=40)


@given(acts=ACTS, stop=st.sampled_from([None, "c"]), patience=st.sampled_from([0, 2, 99]))
def test_whatever_comes_when_the_text_is_the_same(
    acts: list[str], stop: str | None, patience: int
) -> None:
    """As the server does: it awaits where the receiver is not ready, and relays elsewhere."""
    relayed = asyncio.run(_text(acts, stop, patience=patience))
    assert relayed == asyncio.run(_text(acts, stop, patience=None))


async def _text(acts: Sequence[str], stop: str | None, *, patience: int | None) -> dict[str, str]:
    """Without a patience nothing is relayed."""
    request, notes = Request(n=3, stop=stop), Notes()
    heard: list[bytes] = []

    async def drive() -> None:
        while (delta := await anext(request.deltas, None)) is not None:
            heard.append(notes.take(delta))
            notes.ready = True  # the client has read on
            if patience is not None:
                before = len(notes.written)
                await Relay(request.deltas, notes, patience=patience).run()
                heard.extend(notes.written[before:])

    task = asyncio.create_task(drive())
    counts = [0, 0, 0]
    for act in acts:
        if act == "tell":
            request.events.tell()
        elif act == "pause":
            notes.ready = False
        elif act == "turn":
            await asyncio.sleep(0)
        else:
            counts[int(act)] += 1
            request.say(int(act), "abcd"[counts[int(act)] % 4])
    for index in range(3):
        request.say(index, "!", ends=True)
    request.events.tell()
    await task
    return _by_continuation(b"".join(heard).decode())


def _by_continuation(text: str) -> dict[str, str]:
    """The letters behind each continuation's digit, in order."""
    found = dict.fromkeys("012", "")
    index = ""
    for character in text:
        if character in found:
            index = character
        else:
            found[index] += character
    return found
