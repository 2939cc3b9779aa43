"""`/replicas`, and what `/health` says of several engines, over engines that are none."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from headway.config import ServerConfig
from headway.errors import EngineError, InvalidRequest
from headway.server.exposure import check_from_here
from headway.server.replicas import ReplicaChanges, kv_usage
from headway.types.fleet import MOST_REPLICAS
from headway.wire import EngineStats
from tests.server.conftest import Running, serving
from tests.server.fakes import NUM_BLOCKS, FakeFleet

ONE_AT_A_TIME = "one change at a time"


@pytest.fixture(scope="module")
def fleet_server() -> Iterator[tuple[Running, httpx.Client]]:
    with serving(config=ServerConfig(port=0, replicas=3)) as server, server.http() as http:
        yield server, http


@pytest.fixture
def fleet(fleet_server: tuple[Running, httpx.Client]) -> tuple[Running, httpx.Client]:
    """Three replicas that are ready, whatever became of them before."""
    server, http = fleet_server
    fake = engines(server)
    fake.statuses = {each: fake.status_of(each) for each in range(3)}
    return server, http


def engines(server: Running) -> FakeFleet:
    assert isinstance(server.engine, FakeFleet)
    return server.engine


def reason(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status
    message: str = answer.json()["error"]["message"]
    return message


def test_each_is_listed_with_what_it_does(fleet: tuple[Running, httpx.Client]) -> None:
    server, http = fleet
    server.call(lambda: engines(server).become(2, "restarting"))
    told = http.get("/replicas").json()
    assert (told["router"], told["most"]) == ("predicted", MOST_REPLICAS)
    assert [each["id"] for each in told["replicas"]] == [0, 1, 2]
    assert [each["state"] for each in told["replicas"]] == ["ready", "ready", "restarting"]
    assert told["replicas"][2] == {
        "id": 2,
        "state": "restarting",
        "pid": 1002,
        "restarts": 2,
        "live_requests": 4,
        "running": 2,
        "waiting": 1,
        "kv_cache_usage": 0.5,
        "cpus": [2],
        "gpu": "GPU-2",
        "role": "both",
        "handed_over": 0,
    }


def test_one_engine_is_listed_and_stays_one(server: Running, http: httpx.Client) -> None:
    told = http.get("/replicas").json()
    assert (len(told["replicas"]), told["router"], told["most"]) == (1, None, 1)
    assert told["replicas"][0]["gpu"] is None
    assert "--replicas 2" in reason(http.post("/replicas", json={}), 409)
    assert "could go nowhere" in reason(http.delete("/replicas/0"), 409)
    assert http.get("/health").json() == {"status": "ok"}


def test_one_is_added(fleet: tuple[Running, httpx.Client]) -> None:
    http = fleet[1]
    added = http.post("/replicas", json={"role": "decode"}).json()
    assert added["role"] == "decode"
    assert (added["id"], added["state"]) == (3, "ready")
    assert len(http.get("/replicas").json()["replicas"]) == 4


def test_one_is_drained_and_its_number_is_not_used_again(
    fleet: tuple[Running, httpx.Client],
) -> None:
    http = fleet[1]
    assert http.delete("/replicas/2").json() == {"id": 2, "moved": 4}
    assert [each["id"] for each in http.get("/replicas").json()["replicas"]] == [0, 1]
    assert "there are 0, 1" in reason(http.delete("/replicas/2"), 404)


@pytest.mark.parametrize("odd", ["7", "-1", "x", "01", "1.0", "%20", "9" * 400])
def test_what_no_replica_is_called_is_not_found(
    fleet: tuple[Running, httpx.Client], odd: str
) -> None:
    assert len(reason(fleet[1].delete(f"/replicas/{odd}"), 404)) < 300


def test_the_last_that_serves_is_not_drained(fleet: tuple[Running, httpx.Client]) -> None:
    server, http = fleet
    server.call(lambda: engines(server).become(0, "restarting"))
    server.call(lambda: engines(server).become(2, "restarting"))
    assert "no other replica is ready" in reason(http.delete("/replicas/1"), 409)
    # One that does not serve may go, as there is one that does.
    assert http.delete("/replicas/0").status_code == 200


def test_there_are_no_more_than_the_most(fleet: tuple[Running, httpx.Client]) -> None:
    server, http = fleet
    fake = engines(server)
    fake.statuses = {each: fake.status_of(each) for each in range(MOST_REPLICAS)}
    assert str(MOST_REPLICAS) in reason(http.post("/replicas", json={}), 409)


def test_one_change_at_a_time(fleet: tuple[Running, httpx.Client]) -> None:
    server, http = fleet
    fake = engines(server)
    server.call(fake.changing.clear)
    answers: list[httpx.Response] = []

    def drain() -> None:
        answers.append(httpx.delete(server.url + "/replicas/1", timeout=30))

    asking = threading.Thread(target=drain)
    asking.start()
    server.until(lambda: fake.statuses[1].state == "draining")
    for answer in (http.delete("/replicas/2"), http.post("/replicas", json={})):
        message = reason(answer, 409)
        assert "replica 1 is being drained" in message
        assert ONE_AT_A_TIME in message
    assert http.get("/health").json() == {"status": "ok", "not_serving": {"1": "draining"}}
    server.call(fake.changing.set)
    asking.join(30)
    assert answers[0].json() == {"id": 1, "moved": 2}
    assert http.post("/replicas", json={}).status_code == 200


def test_a_change_that_fails_is_told_and_another_may_follow(
    fleet: tuple[Running, httpx.Client],
) -> None:
    server, http = fleet
    engines(server).failure = EngineError("no memory for one more")
    assert "no memory" in reason(http.post("/replicas", json={}), 500)
    engines(server).failure = None
    assert http.post("/replicas", json={}).status_code == 200


def test_health_names_who_does_not_serve(fleet: tuple[Running, httpx.Client]) -> None:
    server, http = fleet
    assert http.get("/health").json() == {"status": "ok"}
    server.call(lambda: engines(server).become(1, "failed"))
    for path, status in (("/health", "ok"), ("/v1/health", "ok"), ("/ready", "ready")):
        answer = http.get(path)
        assert answer.status_code == 200
        assert answer.json() == {"status": status, "not_serving": {"1": "failed"}}


def test_one_that_is_silent_leaves_others_that_serve(fleet: tuple[Running, httpx.Client]) -> None:
    server, http = fleet
    server.engine.silence = 9.0
    try:
        assert http.get("/ready").status_code == 200
        for replica in (0, 1):
            engines(server).statuses[replica] = engines(server).status_of(replica, "restarting")
        assert "silent for 9 s" in reason(http.get("/ready"), 503)
    finally:
        server.engine.silence = 0.0


def test_a_body_is_an_empty_object(fleet: tuple[Running, httpx.Client]) -> None:
    http = fleet[1]
    assert http.post("/replicas", json={"count": 2}).status_code == 400
    assert "role" in reason(http.post("/replicas", json={"role": "chef"}), 400)
    # As a page of elsewhere could have a browser send it.
    assert http.post("/replicas", content=b"{}").status_code == 415
    assert len(http.get("/replicas").json()["replicas"]) == 3


def test_a_key_is_needed_where_keys_are() -> None:
    config = ServerConfig(port=0, replicas=2, api_key=("k",))
    with serving(config=config) as server, server.http() as http:
        calls: tuple[tuple[str, str, dict[str, Any]], ...] = (
            ("GET", "/replicas", {}),
            ("POST", "/replicas", {"json": {}}),
            ("DELETE", "/replicas/0", {}),
        )
        for method, path, body in calls:
            assert http.request(method, path, **body).status_code == 401
        for method, path, body in calls:
            answer = http.request(method, path, headers={"x-api-key": "k"}, **body)
            assert answer.status_code == 200


def test_a_server_that_ends_changes_nothing(fleet: tuple[Running, httpx.Client]) -> None:
    server, http = fleet
    server.state.phase = "draining"
    try:
        assert "shutting down" in reason(http.post("/replicas", json={}), 503)
        assert "shutting down" in reason(http.delete("/replicas/0"), 503)
    finally:
        server.state.phase = "open"


@pytest.mark.parametrize(
    ("client", "may"),
    [(("127.0.0.1", 1), True), (("::1", 1), True), (None, True), (("10.0.0.7", 1), False)],
)
def test_without_keys_this_machine_alone_may(client: tuple[str, int] | None, may: bool) -> None:
    if may:
        check_from_here({"client": client}, "replicas are added")
        return
    with pytest.raises(InvalidRequest, match="replicas are added from this machine alone"):
        check_from_here({"client": client}, "replicas are added")


def test_a_change_goes_on_when_whoever_asked_has_left() -> None:
    async def main() -> None:
        changes, gate = ReplicaChanges(), asyncio.Event()
        done: list[str] = []

        async def work() -> None:
            await gate.wait()
            done.append("done")

        asking = asyncio.ensure_future(changes.run("a change", work()))
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        assert changes.under_way == "a change"
        gate.set()
        async with asyncio.timeout(10):
            while not done:
                await asyncio.sleep(0)
        assert changes.under_way == ""

    asyncio.run(main())


def test_a_process_that_has_told_nothing_uses_nothing() -> None:
    status = FakeFleet(2).status_of(1)
    assert kv_usage(status) == 0.25
    assert kv_usage(replace(status, stats=EngineStats(step=7))) == 0.0
    full = EngineStats(running=3, free_blocks=0)
    assert kv_usage(replace(status, stats=full)) == 1.0
    assert kv_usage(replace(status, stats=EngineStats(free_blocks=NUM_BLOCKS))) == 0.0
