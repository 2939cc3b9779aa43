"""`/live`: what viewers get, who may be one, and that nothing happens without any."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from headway.client.response_cache import caching_engine
from headway.config import ServerConfig
from headway.errors import InvalidRequest, Unavailable
from headway.server.metrics import Metrics
from headway.server.page import news as news_module
from headway.server.page.figures import CycleTimes, FigureMaker
from headway.server.page.news import FRAME_BYTES, MOST_UNREAD, SNAPSHOT_BYTES, LiveNews, Viewer
from headway.server.slo import Explainer
from headway.types.batch_news import (
    MOST_ENDED_TOLD,
    MOST_RUNNING_TOLD,
    MOST_WAITING_TOLD,
)
from headway.types.fleet import MOST_REPLICAS
from headway.types.response_cache import ResponseCacheConfig
from headway.wire import EngineStats
from tests.server.conftest import MODEL, Running, serving
from tests.server.fakes import FakeEngine, FakeFleet
from tests.server.page.batches import end, news, runs, sequence
from tests.server.test_metrics import HandClock
from tests.server.test_slo import busy_engine, pacing_of


def live_news(engine: FakeEngine, most: int = 2) -> LiveNews:
    live = LiveNews(most)
    metrics = Metrics(MODEL)
    metrics.attach(engine, {})
    live.attach(engine, lambda: FigureMaker(engine, metrics, Explainer(engine)), MODEL)
    return live


def decoded(event: bytes) -> tuple[str, dict[str, Any]]:
    name, data = event.decode().removesuffix("\n\n").split("\n")
    return name.removeprefix("event: "), json.loads(data.removeprefix("data: "))


async def next_of(viewer: Viewer) -> tuple[str, dict[str, Any]]:
    return decoded(await asyncio.wait_for(anext(viewer), 10))


@pytest.fixture
def quick_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(news_module, "FIGURES_SECONDS", 0.001)


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(news_module, "FIGURES_SECONDS", 1e6)


@pytest.mark.usefixtures("no_figures")
def test_nobody_asks_the_engine_while_nobody_watches() -> None:
    async def main() -> None:
        engine = FakeEngine()
        live = live_news(engine)
        before = engine.listening
        assert (live.collection, engine.watchers) == (None, [])
        with live.watching(""), live.watching(""):
            assert len(engine.watchers) == 1
            assert engine.listening == before + 1
        assert (live.collection, engine.watchers, engine.listening) == (None, [], before)
        assert len(asyncio.all_tasks()) == 1 or all(
            task.cancelling() for task in asyncio.all_tasks() - {asyncio.current_task()}
        )

    asyncio.run(main())


@pytest.mark.usefixtures("no_figures")
def test_a_snapshot_comes_first_and_then_what_changed() -> None:
    async def main() -> None:
        engine = FakeEngine()
        live = live_news(engine)
        with live.watching("") as viewer:
            (tell,) = engine.watchers
            name, first = await next_of(viewer)
            assert (name, first["number"], first["rows"], first["model"]) == (
                "snapshot",
                0,
                [],
                MODEL,
            )
            tell(news(runs("a"), waiting=[sequence("b")]))
            name, frame = await next_of(viewer)
            assert (name, frame["number"], frame["at"]) == ("frame", 1, 4.0)
            assert {row[1] for row in frame["rows"]} == {"a", "b"}
            assert frame["queue"]["waiting"] == 1
            with live.watching("") as late:
                name, second = await next_of(late)
                assert (name, second["number"], len(second["rows"])) == ("snapshot", 1, 2)
                tell(news(runs("a"), runs("b"), at=5.0))
                for each in (viewer, late):
                    name, frame = await next_of(each)
                    assert (name, frame["number"], len(frame["rows"])) == ("frame", 2, 1)

    asyncio.run(main())


@pytest.mark.usefixtures("no_figures")
def test_who_does_not_read_gets_a_snapshot_and_holds_few_frames() -> None:
    async def main() -> None:
        engine = FakeEngine()
        live = live_news(engine)
        with live.watching("") as slow, live.watching("") as quick:
            (tell,) = engine.watchers
            await next_of(slow)
            await next_of(quick)
            for count in range(50):
                tell(news(*(runs(f"r{n}") for n in range(count))))
                name, frame = await next_of(quick)
                assert (name, frame["number"]) == ("frame", count + 1)
                assert len(slow._unread) <= MOST_UNREAD
            assert slow._unread == []
            name, told = await next_of(slow)
            assert (name, told["number"], len(told["rows"])) == ("snapshot", 50, 49)
            tell(news(*(runs(f"r{n}") for n in range(50))))
            tell(news())
            both = await anext(slow)
            assert [decoded(each + b"\n\n")[1]["number"] for each in both.split(b"\n\n")[:2]] == [
                51,
                52,
            ]

    asyncio.run(main())


@pytest.mark.usefixtures("no_figures")
def test_one_too_many_is_refused_and_there_is_room_again() -> None:
    async def main() -> None:
        live = live_news(FakeEngine(), most=2)
        with live.watching(""):
            with live.watching(""), pytest.raises(Unavailable, match="max-page-viewers"):
                live.watching("").__enter__()
            with live.watching(""):
                pass

    asyncio.run(main())


@pytest.mark.usefixtures("no_figures")
def test_the_end_of_the_server_ends_all_viewers_at_once() -> None:
    async def main() -> None:
        live = live_news(FakeEngine())
        with live.watching("") as viewer:
            await next_of(viewer)
            waiting = asyncio.ensure_future(anext(viewer, None))
            await asyncio.sleep(0)
            live.close()
            assert await asyncio.wait_for(waiting, 10) is None
        with pytest.raises(Unavailable, match="shutting down"):
            live.watching("").__enter__()

    asyncio.run(main())


def test_watching_can_be_turned_off() -> None:
    engine = FakeEngine()
    with pytest.raises(InvalidRequest, match="turned off"):
        live_news(engine, most=0).watching("").__enter__()
    assert engine.watchers == []


def test_a_server_that_starts_has_nothing_to_watch() -> None:
    with pytest.raises(Unavailable, match="starting"):
        LiveNews(8).watching("").__enter__()


@pytest.mark.usefixtures("no_figures")
def test_frames_and_snapshots_of_the_largest_batch_are_bounded() -> None:
    async def main() -> None:
        engine = FakeEngine()
        live = live_news(engine)
        with live.watching("") as viewer:
            (tell,) = engine.watchers
            await anext(viewer)
            for turn in range(8):
                old = [runs(f"chatcmpl-{'x' * 32}-{turn}-{n}") for n in range(MOST_RUNNING_TOLD)]
                tell(
                    news(
                        *(
                            runs(f"chatcmpl-{'y' * 32}-{turn}-{n}")
                            for n in range(MOST_RUNNING_TOLD)
                        ),
                        waiting=[sequence(f"w{turn}-{n}") for n in range(MOST_WAITING_TOLD)],
                        ended=[end(each) for each in old[:MOST_ENDED_TOLD]],
                    )
                )
                assert len(await anext(viewer)) < FRAME_BYTES
            with live.watching("") as late:
                assert len(await anext(late)) < SNAPSHOT_BYTES

    asyncio.run(main())


@pytest.mark.usefixtures("no_figures")
def test_frames_and_snapshots_of_the_most_engines_are_bounded() -> None:
    async def main() -> None:
        engine = FakeFleet(MOST_REPLICAS)
        live = live_news(engine)
        with live.watching("") as viewer:
            (tell,) = engine.watchers
            await anext(viewer)
            collection = live.collection
            assert collection is not None
            for turn in range(12):
                for replica in range(MOST_REPLICAS):
                    named = (f"chatcmpl-{'y' * 32}-{replica}-{turn}-{n}" for n in range(64))
                    waits = [sequence(f"w{replica}-{turn}-{n}") for n in range(MOST_WAITING_TOLD)]
                    old = [end(runs(f"o{replica}-{turn}-{n}")) for n in range(8)]
                    tell(news(*map(runs, named), waiting=waits, ended=old, replica=replica))
                collection._tell(1.0, collection._figures.make(1.0))
                assert len(await anext(viewer)) < FRAME_BYTES
            with live.watching("") as late:
                assert len(await anext(late)) < SNAPSHOT_BYTES

    asyncio.run(main())


@pytest.mark.usefixtures("no_figures")
def test_what_several_engines_tell_is_one_frame() -> None:
    async def main() -> None:
        engine = FakeFleet(3)
        live = live_news(engine)
        with live.watching("") as viewer:
            (tell,) = engine.watchers
            await next_of(viewer)
            tell(news(runs("a"), replica=0))
            assert (await next_of(viewer))[1]["number"] == 1, "one engine, as far as is known"
            for turn in range(5):
                for replica in (2, 1, 0):
                    tell(news(*(runs(f"{replica}-{n}") for n in range(turn)), replica=replica))
            _, frame = await next_of(viewer)
            assert (frame["number"], frame["queue"]["running"]) == (2, 12)
            assert {each["replica"]: each["running"] for each in frame["queues"]} == {
                0: 4,
                1: 4,
                2: 4,
            }
            with live.watching("") as late:
                told = (await next_of(late))[1]
                assert {each["replica"] for each in told["queues"]} == {0, 1, 2}
                assert {(row[6], row[-1]) for row in told["rows"]} == {
                    (slot, replica) for slot in range(4) for replica in range(3)
                }

    asyncio.run(main())


@pytest.mark.usefixtures("no_figures")
def test_nothing_is_told_after_the_last_viewer_has_left() -> None:
    async def main() -> None:
        engine = FakeFleet(2)
        live = live_news(engine)
        with live.watching(""):
            (tell,) = engine.watchers
            tell(news(runs("a"), replica=0))
            tell(news(runs("b"), replica=1))
            collection = live.collection
            assert collection is not None
            assert collection._telling is not None
        assert collection._telling.cancelled()

    asyncio.run(main())


@pytest.mark.usefixtures("quick_figures")
def test_figures_tell_each_engine_and_forget_those_that_are_gone() -> None:
    async def main() -> None:
        engine = FakeFleet(2)
        live = live_news(engine)
        with live.watching("") as viewer:
            (tell,) = engine.watchers
            engine.become(1, "restarting")
            tell(news(runs("a"), replica=0))
            tell(news(runs("b"), replica=1))
            await next_of(viewer)
            while "figures" not in (frame := (await next_of(viewer))[1]):
                pass
            one = {"slots": 8, "waiting": 1, "role": "both"}
            assert frame["figures"]["replicas"] == [
                one | {"id": 0, "state": "ready", "running": 0, "kv_used": 0.0, "restarts": 0},
                one
                | {"id": 1, "state": "restarting", "running": 1, "kv_used": 0.25, "restarts": 1},
            ]
            del engine.statuses[1]
            while (frame := (await next_of(viewer))[1]).get("figures", {}).get("replicas") != []:
                pass
            assert live.collection is not None
            assert [row.name for row in live.collection._batch.shown.values()] == ["a"]

    asyncio.run(main())


@pytest.mark.usefixtures("quick_figures")
def test_figures_come_by_themselves() -> None:
    async def main() -> None:
        engine = busy_engine(pacing_of())
        live = live_news(engine)
        with live.watching("") as viewer:
            await next_of(viewer)
            name, frame = await next_of(viewer)
            assert name == "frame"
            figures = frame["figures"]
            assert (figures["state"], figures["max_num_seqs"]) == ("ready", 8)
            assert figures["predicted_seconds"] == 0.25
            assert figures["choice"]["limiting_factor"] in ("arrivals", "objective", "limit")
            assert figures["prefix_hit_share"] is None
            # Who joins later need not wait for the next ones.
            with live.watching("") as late:
                assert (await next_of(late))[1]["figures"]["kv_blocks"] == 100

    asyncio.run(main())


def test_steps_are_summed_by_their_cycles() -> None:
    steps = CycleTimes(EngineStats(busy_seconds=1.0, computed_tokens=10))
    assert steps.take() is None
    for busy, computed in ((1.5, 20), (1.7, 21), (1.7, 21), (2.7, 40)):
        steps.see(EngineStats(busy_seconds=busy, computed_tokens=computed))
    sums = steps.take()
    assert sums is not None
    assert (sums.count, sums.tokens) == (3, 30)
    assert (sums.shortest, sums.median, sums.longest) == pytest.approx((0.2, 0.5, 1.0))
    assert steps.take() is None


def test_figures_are_those_of_the_time_between() -> None:
    engine = FakeEngine()
    metrics = Metrics(MODEL)
    metrics.attach(engine, {})
    maker = FigureMaker(engine, metrics, Explainer(engine))
    engine.stats = EngineStats(
        step=9,
        prefix_queries=100,
        prefix_hits=25,
        busy_seconds=1.0,
        ideal_seconds=0.25,
        computed_tokens=60,
        draft_tokens=8,
        accepted_tokens=6,
    )
    figures = maker.make(2.0)
    assert (figures.prefix_hit_share, figures.accepted_share) == (0.25, 0.75)
    assert (figures.percent_of_limit, figures.busy_share) == (25.0, 0.5)
    assert figures.computed_per_second == 30.0
    assert figures.choice is None
    again = maker.make(1.0)
    assert (again.prefix_hit_share, again.accepted_share, again.percent_of_limit) == (None,) * 3


def test_figures_have_the_hits_of_a_response_cache() -> None:
    async def main() -> None:
        cache = caching_engine(FakeEngine(), ResponseCacheConfig(response_cache=2**20), b"m", None)
        metrics = Metrics(MODEL)
        metrics.attach(cache, {})
        maker = FigureMaker(cache, metrics, Explainer(cache))
        assert maker.make(1.0).cache_hit_share is None, "nobody asked"
        cache.counts.count(["hit", "miss", "joined", "miss"])
        assert maker.make(1.0).cache_hit_share == 0.5
        cache.counts.count(["hit"])
        assert maker.make(1.0).cache_hit_share == 1.0
        assert maker.make(1.0).cache_hit_share is None

    asyncio.run(main())


def test_figures_say_why_another_factor_binds() -> None:
    engine = busy_engine(pacing_of())
    metrics = Metrics(MODEL)
    metrics.attach(engine, {})
    explainer = Explainer(engine)
    maker = FigureMaker(engine, metrics, explainer)
    assert maker.make(1.0).change is None
    explainer.note_change("arrivals", "limit", "requests a second went from 1 to 9")
    change = maker.make(1.0).change
    assert change is not None
    assert (change.before, change.after) == ("arrivals", "limit")
    assert change.because == "requests a second went from 1 to 9"


def test_rates_are_those_of_all_engines_and_the_width_that_of_one() -> None:
    one, three = busy_engine(pacing_of()), FakeFleet(3)
    three.statuses = {
        each: replace(three.status_of(each), stats=one.stats, info=one.info) for each in range(3)
    }
    choices = []
    for engine in (one, three):
        metrics = Metrics(MODEL)
        metrics.attach(engine, {})
        choice = FigureMaker(engine, metrics, Explainer(engine, clock=HandClock())).make(1.0).choice
        assert choice is not None
        choices.append(choice)
    assert choices[0].width == choices[1].width
    assert 3 * choices[0].requests_per_second == choices[1].requests_per_second
    assert 3 * choices[0].tokens_per_second == choices[1].tokens_per_second


def events_of(response: httpx.Response) -> Iterator[tuple[str, dict[str, Any]]]:
    name = ""
    for line in response.iter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


def test_over_http(server: Running, http: httpx.Client) -> None:
    with http.stream("GET", "/live") as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        events = events_of(response)
        assert next(events)[0] == "snapshot"
        server.call(lambda: [tell(news(runs("a"))) for tell in server.engine.watchers])
        while "rows" not in (told := next(events)[1]):
            pass
        assert told["rows"][0][1] == "a"
    server.until(lambda: not server.engine.watchers)


def test_a_key_is_needed_where_keys_are_and_others_have_no_names() -> None:
    config = ServerConfig(port=0, api_key=("one", "two"))
    with serving(config=config) as server, server.http() as http:
        assert http.get("/live").status_code == 401
        header = {"authorization": "Bearer two"}
        with http.stream("GET", "/live", headers=header) as response:
            events = events_of(response)
            next(events)
            batch = news(runs("mine", tenant="key-1"), runs("theirs", tenant="key-0"))
            server.call(lambda: [tell(batch) for tell in server.engine.watchers])
            while "rows" not in (told := next(events)[1]):
                pass
            assert [row[1] for row in told["rows"]] == ["mine", None]


def test_viewers_are_counted_by_the_setting() -> None:
    with serving(config=ServerConfig(port=0, max_page_viewers=1)) as server, server.http() as http:
        with http.stream("GET", "/live") as response:
            events = events_of(response)
            next(events)
            refused = http.get("/live")
            assert refused.status_code == 503
            assert "retry-after" in refused.headers
        server.until(lambda: not server.engine.watchers)
