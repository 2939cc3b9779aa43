"""The supervised engine, from the outside: requests in, events out, whatever happens between."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from headway.client import EngineClient, EngineHandle
from headway.config import EngineConfig
from headway.errors import EngineError, HeadwayError, InvalidRequest, Unavailable
from headway.types import Request, ServiceClass
from headway.types.batch_news import BatchNews
from headway.types.objectives import parse_objectives
from tests.client.fake_engine import (
    BROKEN,
    GARBAGE,
    HUNGRY,
    NUM_BLOCKS,
    POISON,
    SHED,
    SLOW_POISON,
    STOPPER,
    expected_tokens,
)
from tests.client.support import (
    PATIENCE,
    alive,
    collect,
    request,
    running_client,
    started,
    tokens,
    until,
)


def test_a_request_runs_to_its_end(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_client(tmp_path) as client:
            asked = request("a")
            events = await collect(client.submit(asked))
            assert tokens(events) == expected_tokens(asked)
            assert events[-1].finish == "length"
            assert client.live == 0
            assert client.info.hardware.backend == "fake"
        assert client.state == "closed"

    asyncio.run(main())


def test_one_stream_carries_several_requests(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_client(tmp_path) as client:
            asked = [request(f"a-{index}", (5, index)) for index in range(3)]
            events = await collect(client.submit(*asked))
            for each in asked:
                own = [event for event in events if event.id == each.id]
                assert tokens(own) == expected_tokens(each)

    asyncio.run(main())


def test_an_id_that_is_running_is_refused_and_nothing_of_the_submission_runs(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with running_client(tmp_path, step_seconds=0.01) as client:
            stream = client.submit(request("a"))
            with pytest.raises(InvalidRequest, match="'a' is running"):
                client.submit(request("b"), request("a"))
            assert client.live == 1
            await collect(stream)

    asyncio.run(main())


def test_killing_the_engine_under_32_streams_loses_and_repeats_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_client(tmp_path, step_seconds=0.002) as client:
            asked = [request(f"r{n}", (3, n, 9), max_tokens=40 + 3 * n) for n in range(32)]
            streams = [client.submit(each) for each in asked]
            finished = [asyncio.ensure_future(collect(stream)) for stream in streams]
            await until(lambda: client.stats.computed_tokens >= 300)
            first = client.pid
            assert first is not None
            os.kill(first, signal.SIGKILL)
            late = request("late", (1, 2))
            late_stream = client.submit(late)
            await until(lambda: client.restarts == 1 and client.state == "ready")
            assert client.pid != first
            for each, future in zip(asked, finished, strict=True):
                events = await asyncio.wait_for(future, PATIENCE)
                assert tokens(events) == expected_tokens(each)
                assert [event.finish for event in events if event.finish] == ["length"]
                assert sum(event.scheduled_at is not None for event in events) == 1
            assert tokens(await collect(late_stream)) == expected_tokens(late)

    asyncio.run(main())


def test_the_terms_of_a_request_outlive_engines(tmp_path: Path) -> None:
    """Two continuations, which travel as a group, and one request by itself."""
    kinds: list[tuple[str, float, ServiceClass]] = [
        ("r-0", 4.25, "batch"),
        ("r-1", 4.25, "batch"),
        ("s", 5.5, "interactive"),
    ]
    asked = [
        replace(
            request(name, max_tokens=300, arrival=arrival),
            objectives=parse_objectives("ttft_p99=1s,e2el=9s"),
            service_class=service_class,
            tenant="key-1",
            caller="c",
        )
        for name, arrival, service_class in kinds
    ]
    log = tmp_path / "requests.log"

    async def main() -> None:
        async with running_client(tmp_path, step_seconds=0.002, requests_log=str(log)) as client:
            stream = client.submit(*asked)
            await until(lambda: client.stats.computed_tokens >= 30)
            os.kill(client.pid or 0, signal.SIGKILL)
            await collect(stream)

    asyncio.run(main())
    sent = [msgspec.json.decode(line, type=Request) for line in log.read_bytes().splitlines()]
    assert sent[:3] == asked
    assert all(each.generated for each in sent[3:])
    assert [replace(each, generated=()) for each in sent[3:]] == asked


def test_a_shed_request_is_told_how_long_to_wait(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_client(tmp_path) as client:
            (event,) = await collect(client.submit(request("a", (5, SHED))))
            assert (event.finish, event.retry_after) == ("error", 2.5)
            assert client.live == 0

    asyncio.run(main())


def test_readers_have_all_of_a_step_after_those_who_watch_the_engine(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_client(tmp_path, step_seconds=0.001) as client:
            heard: list[str] = []
            client.subscribe(lambda events, stats, now: heard.append("step"))
            stream = client.submit(request("a"), request("b"))
            over = asyncio.get_running_loop().create_future()

            def read() -> None:
                taken = []
                while (event := stream.take()) is not None:
                    taken.append(event.id)
                if taken:
                    heard.append(" ".join(taken))
                if stream.ended and not over.done():
                    over.set_result(None)

            stream.listen(read)
            await over
            assert heard == ["step", "a b"] * 12

    asyncio.run(main())


def test_counters_do_not_fall_when_the_engine_is_restarted(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_client(tmp_path) as client:
            seen: list[int] = []
            client.subscribe(lambda events, stats, now: seen.append(stats.computed_tokens))
            await collect(client.submit(request("a", max_tokens=50)))
            os.kill(client.pid or 0, signal.SIGKILL)
            await until(lambda: client.restarts == 1 and client.state == "ready")
            await collect(client.submit(request("b", max_tokens=5)))
            assert seen == sorted(seen)
            assert seen[-1] == 55

    asyncio.run(main())


def test_prompt_logprobs_are_reported_once_in_spite_of_a_restart(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_client(tmp_path, step_seconds=0.002) as client:
            asked = request("a", (5, 6, 7, 8), max_tokens=60)
            asked = replace(asked, sampling=replace(asked.sampling, prompt_logprobs=0))
            stream = client.submit(asked)
            events = [await anext(stream)]
            os.kill(client.pid or 0, signal.SIGKILL)
            events += await collect(stream)
            assert [each.token for event in events for each in event.prompt_logprobs] == [6, 7, 8]
            assert tokens(events) == expected_tokens(asked)

    asyncio.run(main())


@pytest.mark.parametrize("poison", [POISON, SLOW_POISON, BROKEN, GARBAGE, HUNGRY])
def test_a_request_that_kills_engines_is_ended_and_the_others_are_spared(
    tmp_path: Path, poison: int
) -> None:
    async def main() -> None:
        async with running_client(tmp_path, step_seconds=0.001) as client:
            asked = [request(f"r{n}", (3, n), max_tokens=30, arrival=n) for n in range(6)]
            bad = request("bad", (3, poison), max_tokens=200, arrival=2.5)
            streams = [client.submit(each) for each in (*asked[:3], bad, *asked[3:])]
            results = await asyncio.wait_for(
                asyncio.gather(*(collect(stream) for stream in streams)), PATIENCE
            )
            ended = results.pop(3)[-1]
            assert ended.finish == "error"
            assert "died repeatedly while running this request" in (ended.error or "")
            for each, events in zip(asked, results, strict=True):
                assert tokens(events) == expected_tokens(each)
                assert events[-1].finish == "length"
            assert client.state == "ready"

    asyncio.run(main())


def test_a_lone_poison_costs_three_engines_and_the_client_stays_up(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_client(tmp_path) as client:
            events = await collect(client.submit(request("bad", (POISON,))))
            assert [event.finish for event in events] == ["error"]
            after = request("after")
            assert tokens(await collect(client.submit(after))) == expected_tokens(after)
            assert len(started(tmp_path)) == 4

    asyncio.run(main())


def test_an_engine_killed_while_idle_is_replaced(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_client(tmp_path) as client:
            for name in ("first", "second"):
                dead = client.pid or 0
                os.kill(dead, signal.SIGKILL)
                await until(lambda: not alive(dead) and client.state == "ready")  # noqa: B023
                asked = request(name)
                assert tokens(await collect(client.submit(asked))) == expected_tokens(asked)

    asyncio.run(main())


def test_an_engine_that_cannot_start_says_which_setting_to_mend(tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(HeadwayError, match="does not fit") as caught:
            async with running_client(tmp_path, refuse_from=0):
                pass
        assert caught.value.field == "kv_cache_memory"
        with pytest.raises(EngineError, match=r"while starting \(exit code 3\)"):
            async with running_client(tmp_path, exit_from=0):
                pass
        with pytest.raises(EngineError, match="cannot start the engine program"):
            await EngineClient.start(EngineConfig(), tmp_path, command=["/no/such/program"])
        assert not any(alive(pid) for pid in started(tmp_path))

    asyncio.run(main())


def test_an_engine_that_stays_down_fails_and_ends_all_streams(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_client(tmp_path, refuse_from=1) as client:
            stream = client.submit(request("a", max_tokens=1_000_000))
            await anext(stream)
            os.kill(client.pid or 0, signal.SIGKILL)
            *_, last = await asyncio.wait_for(collect(stream), PATIENCE)
            assert last.finish == "error"
            assert client.state == "failed"
            assert last.error == client.failure
            with pytest.raises(Unavailable, match="stays down"):
                client.submit(request("b"))

    asyncio.run(main())


def test_requests_cancelled_at_random_leave_no_block_behind(tmp_path: Path) -> None:
    async def main() -> None:
        draw = random.Random(4)
        async with running_client(tmp_path, step_seconds=0.0005) as client:

            async def leave_early(number: int) -> None:
                stream = client.submit(request(f"r{number}", max_tokens=400))
                for _ in range(draw.randrange(6)):
                    await anext(stream)
                stream.cancel()
                assert await collect(stream) == []

            await asyncio.gather(*(leave_early(number) for number in range(200)))
            assert client.live == 0
            await until(lambda: client.stats.free_blocks == NUM_BLOCKS)
            assert client.stats.running == 0

    asyncio.run(main())


def test_an_abort_ends_the_stream_as_aborted(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_client(tmp_path, step_seconds=0.002) as client:
            aborted: list[str] = []
            unsubscribe = client.subscribe(
                lambda events, stats, now: aborted.extend(
                    event.id for event in events if event.finish == "abort"
                )
            )
            stream = client.submit(request("a", max_tokens=100_000))
            await anext(stream)
            client.abort("a")
            client.abort("unknown")
            assert (await collect(stream))[-1].finish == "abort"
            await until(lambda: client.stats.free_blocks == NUM_BLOCKS)
            assert aborted == ["a"]
            unsubscribe()
            assert tokens(await collect(client.submit(request("b", (STOPPER,))))) != []

    asyncio.run(main())


def test_a_request_taken_from_one_engine_goes_on_in_another(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()

    async def main() -> None:
        async with (
            running_client(folders[0], step_seconds=0.002) as one,
            running_client(folders[1]) as two,
        ):
            handles: list[EngineHandle] = [one, two]
            ended: list[str] = []
            one.subscribe(lambda events, *_: ended.extend(e.id for e in events if e.finish))
            asked = request("a", max_tokens=400)
            stream = handles[0].submit(asked, request("b", max_tokens=40))
            events = [await anext(stream) for _ in range(5)]
            taken = handles[0].take("a")
            assert taken is not None
            assert handles[0].take("a") is None
            events += await collect(stream)
            own = [event for event in events if event.id == "a"]
            assert taken.generated == tuple(tokens(own))
            assert 0 < len(taken.generated) < 400
            assert replace(taken, generated=()) == asked
            assert all(event.finish is None for event in own)
            assert ended == ["b"]
            rest = await collect(handles[1].submit(taken))
            assert tokens(own) + tokens(rest) == expected_tokens(asked)
            assert rest[-1].finish == "length"
            await until(lambda: one.stats.free_blocks == NUM_BLOCKS)
            assert (one.live, one.take("unknown"), two.take("a")) == (0, None, None)

    asyncio.run(main())


@pytest.mark.parametrize("queued", [True, False])
def test_requests_can_be_taken_while_there_is_no_engine(tmp_path: Path, *, queued: bool) -> None:
    async def main() -> None:
        async with running_client(tmp_path, step_seconds=0.002) as client:
            asked = request("a", max_tokens=300)
            received: list[int] = []
            if not queued:
                stream = client.submit(asked)
                received = tokens([await anext(stream)])
            os.kill(client.pid or 0, signal.SIGKILL)
            await until(lambda: client.state == "restarting")
            if queued:
                stream = client.submit(asked)
            taken = client.take("a")
            assert taken is not None
            received += tokens(await collect(stream))
            assert taken == replace(asked, generated=tuple(received))
            await until(lambda: client.state == "ready")
            assert client.live == 0
            # The new engine was never given it, so the id is free at once.
            again = await collect(client.submit(taken))
            assert received + tokens(again) == expected_tokens(asked)

    asyncio.run(main())


def test_a_caller_that_does_not_read_holds_nobody_up(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_client(tmp_path) as client:
            idle = request("idle", max_tokens=300)
            unread = client.submit(idle)
            other = request("other", max_tokens=300)
            assert tokens(await collect(client.submit(other))) == expected_tokens(other)
            events = await collect(unread)
            # What was not read in time has been joined.
            assert len(events) < 20
            assert tokens(events) == expected_tokens(idle)

    asyncio.run(main())


def test_one_engine_is_the_only_replica_and_can_be_replaced(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_client(tmp_path, step_seconds=0.002) as client:
            (status,) = client.replicas
            assert (status.id, status.state, status.pid) == (0, "ready", client.pid)
            assert (status.live, status.restarts, status.cpus) == (0, 0, ())
            with pytest.raises(Unavailable, match="--replicas 2"):
                await client.add_replica()
            with pytest.raises(Unavailable, match="the only replica"):
                await client.drain(0)
            with pytest.raises(InvalidRequest, match="no replica 1"):
                await client.drain(1)
            asked = request("a", max_tokens=200)
            stream = client.submit(asked)
            await until(lambda: client.stats.running == 1)
            for restarts in (1, 2, 3):
                await client.restart()
                assert (client.state, client.restarts) == ("ready", restarts)
            assert client.pid != status.pid
            assert tokens(await collect(stream)) == expected_tokens(asked)
        with pytest.raises(Unavailable, match="closed"):
            await client.restart()
        assert client.replicas[0].state == "failed"

    asyncio.run(main())


def test_closing_aborts_what_runs_and_may_be_repeated(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_client(tmp_path, step_seconds=0.002) as client:
            stream = client.submit(request("a", max_tokens=100_000))
            await anext(stream)
            await client.close()
            assert (await collect(stream))[-1].finish == "abort"
            await client.close()
            with pytest.raises(Unavailable, match="closed"):
                client.submit(request("b"))

    asyncio.run(main())


def test_closing_during_a_restart_leaves_no_process(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_client(tmp_path) as client:
            os.kill(client.pid or 0, signal.SIGKILL)
            await until(lambda: client.state == "restarting")

    asyncio.run(main())


def test_a_listener_that_fails_disturbs_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise KeyError("metric")

    async def main() -> None:
        async with running_client(tmp_path) as client:
            client.subscribe(fail)
            asked = request("a")
            assert tokens(await collect(client.submit(asked))) == expected_tokens(asked)
            assert client.restarts == 0

    asyncio.run(main())
    assert "a listener failed" in caplog.text


def test_the_batch_is_told_while_somebody_watches(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_client(tmp_path, step_seconds=0.001) as client:
            heard: list[BatchNews] = []
            stop = client.watch_batch(heard.append)
            await until(lambda: bool(heard))
            stream = client.submit(request("a", max_tokens=100_000))
            await until(lambda: heard[-1].num_running == 1)
            stop()
            # What is still under way comes; then nothing.
            before = client.stats.step
            await until(lambda: client.stats.step > before + 5)
            count = len(heard)
            before = client.stats.step
            await until(lambda: client.stats.step > before + 5)
            assert len(heard) == count
            stream.cancel()

    asyncio.run(main())


def test_a_new_engine_tells_its_batch_as_well(tmp_path: Path) -> None:
    def fails(_: BatchNews) -> None:
        raise RuntimeError("one who fails does not keep others from hearing")

    async def main() -> None:
        async with running_client(tmp_path) as client:
            heard: list[BatchNews] = []
            client.watch_batch(fails)
            client.watch_batch(heard.append)
            await until(lambda: bool(heard))
            assert client.pid is not None
            os.kill(client.pid, signal.SIGKILL)
            await until(lambda: client.restarts == 1 and client.state == "ready")
            heard.clear()
            asked = request("a")
            await collect(client.submit(asked))
            await until(lambda: bool(heard))

    asyncio.run(main())
