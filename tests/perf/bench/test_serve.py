"""Loading a server from beginning to end: waiting, trying, warming up, measuring."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from headway.errors import HeadwayError, InvalidRequest, Unavailable
from headway.perf.bench.serve import (
    ServedModel,
    ServeLoad,
    ServeResult,
    find_model,
    load_server,
)
from headway.perf.workload.workload import vocabulary_tokens
from tests.perf.bench.fakes import request, workload
from tests.perf.bench.hostile import END, HEAD, Hostile, Script, event, hostile, whole
from tests.server.conftest import Running, serving

MODELS = whole(200, b'{"data":[{"id":"first","owned_by":"vllm"},{"id":"second"}]}')


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with serving() as running:
        yield running


def responses(tokens: int) -> Script:
    pieces = [event('{"choices":[{"text":"a","token_ids":[7]}]}')] * tokens
    return [HEAD, *pieces, event('{"choices":[{"text":"","finish_reason":"length"}]}'), END]


def find(script: Script, *, model: str | None = None, patience: float = 0.3) -> ServedModel:
    async def main() -> ServedModel:
        async with hostile(lambda _: script) as host:
            return await find_model(host.address, model=model, headers={}, patience=patience)

    return asyncio.run(main())


def test_a_server_is_loaded_with_what_the_workload_says(server: Running) -> None:
    from headway.perf.bench.http_connection import Address

    before = len(server.llm.asked)
    requests = [request(3 + n, 2 + n) for n in range(6)]
    load = ServeLoad(workload=workload(*requests), address=Address.parse(server.url), warmups=4)
    loaded = asyncio.run(load_server(load))
    assert loaded.model == "alphabet"
    assert loaded.other_lengths == 0
    assert [record.output_tokens for record in loaded.load_result.records] == [2, 3, 4, 5, 6, 7]
    asked = server.llm.asked[before:]
    # A trial, the warm-up, the workload; only the last with the workload's own prompts.
    assert len(asked) == 1 + 4 + 6
    own = {tuple(vocabulary_tokens(each)) for each in requests}
    assert [prompt in own for prompt, *_ in asked] == [False] * 5 + [True] * 6
    assert [len(prompt) for prompt, *_ in asked[:5]] == [3, 3, 4, 5, 6]
    server.until_idle()


def test_the_first_model_is_taken_unless_one_is_named() -> None:
    assert find([MODELS]) == ServedModel(model="first", owner="vllm")
    assert find([MODELS], model="second") == ServedModel(model="second")
    assert find([MODELS], model="adapter") == ServedModel(model="adapter", owner="vllm")
    assert find([MODELS]).returns_token_ids
    assert not find([MODELS], model="second").returns_token_ids


def test_a_server_without_a_list_needs_a_name() -> None:
    nothing = whole(404, b"")
    assert find([nothing], model="m") == ServedModel(model="m")
    for script in ([nothing], [whole(200, b"<html>")], [whole(200, b'{"data":[]}')]):
        with pytest.raises(HeadwayError, match="--model"):
            find(script)


def test_a_locked_server_wants_a_key_at_once() -> None:
    with pytest.raises(InvalidRequest, match="--api-key"):
        find([whole(401, b"")], patience=60.0)


def test_a_server_that_is_never_ready_is_given_up() -> None:
    with pytest.raises(Unavailable, match="status 503"):
        find([whole(503, b"")])
    with pytest.raises(Unavailable, match="closed the connection"):
        find([None])
    with pytest.raises(Unavailable, match="bytes"):
        find([whole(200, b" " * (2**22 + 1))])


def test_a_server_that_starts_is_waited_for_and_the_user_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        def response(number: int) -> Script:
            return [whole(503, b"")] if number < 2 else [MODELS]

        async with hostile(response) as host:
            found = await find_model(host.address, model=None, headers={}, patience=60.0)
            assert found.model == "first"
            assert len(host.requests) == 3

    asyncio.run(main())
    (record,) = [each for each in caplog.records if each.name == "headway.perf.bench.serve"]
    assert "waiting up to 60 s for http://" in record.getMessage()
    assert "status 503" in record.getMessage()


def load_hostile(
    *scripts: Script, ready_timeout: float = 0.2, count: int = 2
) -> tuple[ServeResult, Hostile]:
    """The list of models, then the scripts in turn, the last one again and again."""

    async def main() -> tuple[ServeResult, Hostile]:
        async with hostile(
            lambda n: (MODELS,) if n == 0 else scripts[min(n, len(scripts)) - 1]
        ) as (host):
            requests = workload(*[request(output=3)] * count)
            load = ServeLoad(workload=requests, address=host.address, ready_timeout=ready_timeout)
            return await load_server(replace(load, max_concurrency=1)), host

    return asyncio.run(main())


def test_a_server_that_fails_the_trial_is_not_measured() -> None:
    with pytest.raises(HeadwayError, match="first request: 500: broken"):
        load_hostile([whole(500, b"broken")])
    with pytest.raises(HeadwayError, match="first request: 429: full"):
        load_hostile([whole(429, b"full")])


def test_a_server_that_is_full_at_first_is_asked_again() -> None:
    loaded, host = load_hostile([whole(429, b"full")], responses(3), ready_timeout=30.0)
    assert [record.outcome for record in loaded.load_result.records] == ["ok", "ok"]
    assert len(host.requests) == 1 + 2 + 2


def test_failures_while_measuring_are_records() -> None:
    loaded, _ = load_hostile(responses(3), responses(3), [whole(500, b"broken")])
    assert [record.outcome for record in loaded.load_result.records] == ["ok", "error"]
    assert loaded.load_result.records[1].error == "500: broken"


def test_answers_of_another_length_are_counted_and_told(caplog: pytest.LogCaptureFixture) -> None:
    loaded, _ = load_hostile(responses(2), responses(3), responses(1))
    assert loaded.other_lengths == 1
    assert "2 tokens, though 3 were asked" in caplog.text


def test_without_a_ready_check_nothing_is_tried() -> None:
    loaded, host = load_hostile(responses(3), ready_timeout=0.0)
    assert len(host.requests) == 1 + 2
    assert loaded.model == "first"
    body = json.loads(host.requests[1].partition(b"\r\n\r\n")[2])
    assert body["return_token_ids"] is True
