"""The HTTP load client against our own server, and against one that breaks the protocol."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from headway.config import ServerConfig
from headway.errors import InvalidRequest
from headway.perf.bench.http_client import CHAT, HttpLoadClient, RequestBuilder
from headway.perf.bench.http_connection import Address
from headway.perf.bench.run_load import STOP_TOKEN, ClientResponse, run_load
from headway.perf.workload.workload import WorkloadRequest
from headway.types.objectives import parse_objectives
from tests.perf.bench.fakes import request, workload
from tests.perf.bench.hostile import END, HEAD, Script, chunk, event, hostile, whole
from tests.server.conftest import Running, serving

TOKEN = '{"choices":[{"text":"a","token_ids":[7]}]}'
LAST = '{"choices":[{"text":"","finish_reason":"length"}]}'
GOOD: Script = [HEAD, event(TOKEN), event(LAST), event("[DONE]"), END]


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with serving() as running:
        yield running


def letters(each: WorkloadRequest) -> list[int]:
    return [97 + n % 26 for n in range(each.prompt_tokens)]


def asked(script: Script, count: int = 1, timeout: float = 30.0) -> list[ClientResponse]:
    """The responses to requests sent one after the other to a server that always does the same."""

    async def main() -> list[ClientResponse]:
        async with hostile(lambda _: script) as host:
            client = HttpLoadClient(host.address, RequestBuilder(model="m"), timeout=timeout)
            responses = [
                await client.send(request(), [1, 2, 3, 4], request_id="a") for _ in range(count)
            ]
            client.close()
            return responses

    return asyncio.run(main())


@pytest.mark.parametrize("token_ids", [True, False])
def test_our_server_gives_answers_of_the_asked_lengths(server: Running, token_ids: bool) -> None:
    async def main() -> None:
        client = HttpLoadClient(
            Address.parse(server.url), RequestBuilder(model="alphabet", token_ids=token_ids)
        )
        requests = [request(3 + n, n + 1) for n in range(20)]
        load_result = await run_load(client, workload(*requests), max_concurrency=4, tokens=letters)
        client.close()
        assert {record.error for record in load_result.records} == {""}
        assert [record.output_tokens for record in load_result.records] == list(range(1, 21))
        assert [len(record.itls) for record in load_result.records] == list(range(20))
        assert [record.prompt_tokens for record in load_result.records] == list(range(3, 23))
        assert all(record.cached_tokens == 2 for record in load_result.records)
        assert client.tokens_received == 210

    asyncio.run(main())
    server.until_idle()


def test_our_server_chats(server: Running) -> None:
    async def main() -> None:
        client = HttpLoadClient(
            Address.parse(server.url), RequestBuilder(model="alphabet", endpoint=CHAT)
        )
        response = await client.send(request(6, 9), [1, 2, 3, 4, 5, 6], request_id="a")
        client.close()
        assert (response.outcome, response.error) == ("ok", "")
        assert (len(response.times), response.output_tokens) == (9, 9)
        assert response.prompt_tokens is not None
        assert response.prompt_tokens > 6

    asyncio.run(main())
    server.until_idle()


def test_a_full_server_refuses_and_a_closed_port_is_an_error() -> None:
    with serving(config=ServerConfig(port=0, max_num_queued_reqs=1)) as server:
        server.hold()

        async def main() -> None:
            client = HttpLoadClient(Address.parse(server.url), RequestBuilder(model="alphabet"))
            first = asyncio.create_task(client.send(request(), letters(request()), request_id="a"))
            await asyncio.to_thread(server.until, lambda: server.state.requests == 1)
            second = await client.send(request(), letters(request()), request_id="b")
            assert second.outcome == "refused"
            assert second.error.startswith("429: ")
            server.go_on()
            assert (await first).outcome == "ok"
            wrong = HttpLoadClient(Address.parse(server.url), RequestBuilder(model="other"))
            third = await wrong.send(request(), letters(request()), request_id="c")
            assert third.outcome == "error"
            assert third.error.startswith("404: ")
            client.close()
            wrong.close()

        asyncio.run(main())


def test_cancelling_lets_the_server_go(server: Running) -> None:
    server.hold()

    async def main() -> None:
        client = HttpLoadClient(Address.parse(server.url), RequestBuilder(model="alphabet"))
        under_way = asyncio.create_task(client.send(request(), letters(request()), request_id="a"))
        await asyncio.to_thread(server.until, lambda: server.state.requests == 1)
        under_way.cancel()
        with pytest.raises(asyncio.CancelledError):
            await under_way
        await asyncio.to_thread(server.until, lambda: server.state.requests == 0)

    asyncio.run(main())
    server.go_on()


def test_connections_are_kept_and_one_that_was_closed_is_no_failure() -> None:
    async def main() -> None:
        async with hostile(lambda n: [*GOOD, None] if n == 2 else GOOD) as host:
            client = HttpLoadClient(host.address, RequestBuilder(model="m"))
            for number in range(5):
                response = await client.send(request(), [1], request_id=str(number))
                assert (response.outcome, response.error) == ("ok", "")
            assert host.connections == 2
            assert len(host.requests) == 5
            client.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("script", "error", "pieces"),
    [
        ([HEAD, event(TOKEN), None], "the server closed the connection", 1),
        ([None], "the server closed the connection", 0),
        ([HEAD[:20], None], "the server closed the connection", 0),
        ([b"\x00\xff nonsense\r\n\r\n"], "the answer cannot be read", 0),
        ([HEAD, event(TOKEN), b"zz\r\nno chunk"], "the answer cannot be read", 1),
        ([HEAD, event(TOKEN), END], "the stream broke off", 1),
        ([HEAD, chunk(b"data: {nonsense\n\n"), END], "an event cannot be read", 0),
        ([HEAD, event(TOKEN), event('{"error":{"message":"boom"}}'), END], "boom", 1),
        ([whole(500, b'{"error":{"message":"broken"}}')], "500: broken", 0),
        ([whole(302, b"")], "302: no explanation", 0),
        ([whole(200, b'{"choices":[{"text":"whole"}]}')], "the answer is no stream", 0),
        ([HEAD, event(TOKEN), 60.0], "no end after 1 s", 1),
    ],
)
def test_a_hostile_server_gives_errors_and_never_an_exception(
    script: Script, error: str, pieces: int
) -> None:
    for response in asked(script, 2, timeout=1.0 if "1 s" in error else 30.0):
        assert response.outcome == "error"
        assert error in response.error
        assert len(response.times) == len(response.counts) == pieces


def test_a_body_of_unknown_length_ends_with_the_connection() -> None:
    head = b"HTTP/1.1 200 OK\r\n\r\n"
    plain = f"data: {TOKEN}\n\ndata: {LAST}\n\n".encode()
    for response in asked([b"HTTP/1.1 100 Continue\r\n\r\n" + head, plain, None], 2):
        assert (response.outcome, response.error) == ("ok", "")
        assert list(response.counts) == [1]


def test_no_server_there_is_an_error_that_names_the_place() -> None:
    async def main() -> None:
        async with hostile(lambda _: GOOD) as host:
            address = host.address
        client = HttpLoadClient(address, RequestBuilder(model="m"))
        response = await client.send(request(), [1], request_id="a")
        assert response.outcome == "error"
        assert f"cannot connect to {address.at}" in response.error

    asyncio.run(main())


def test_times_are_those_at_which_pieces_came() -> None:
    script: Script = [HEAD, event(TOKEN), 0.1, event(TOKEN) + event(TOKEN), 0.1, event(LAST), END]
    before = time.perf_counter()
    (response,) = asked(script)
    first, second, third = response.times
    assert before < first < second == third < time.perf_counter()
    assert second - first >= 0.09


def test_a_request_says_what_forces_its_length() -> None:
    body = json.loads(RequestBuilder(model="m", token_ids=True).body(request(2, 5), [8, 9]))
    assert body == {
        "model": "m",
        "prompt": [8, 9],
        "max_tokens": 5,
        "temperature": 0.0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
        "return_token_ids": True,
    }
    hidden = json.loads(RequestBuilder(model="m").body(request(2, 5, cap=50), [8, 9]))
    assert (hidden["max_tokens"], hidden["min_tokens"]) == (50, 4)
    assert hidden["stop_token_ids"] == [STOP_TOKEN]
    assert hidden["logit_bias"] == {str(STOP_TOKEN): 100.0}
    assert "return_token_ids" not in hidden


def test_extra_fields_add_replace_and_remove() -> None:
    extra = {"ignore_eos": None, "temperature": 1.0, "priority": 3}
    body = json.loads(RequestBuilder(model="m", extra=extra).body(request(), [1]))
    assert "ignore_eos" not in body
    assert (body["temperature"], body["priority"]) == (1.0, 3)


def test_text_has_a_word_for_every_token() -> None:
    text = json.loads(RequestBuilder(model="m", prompts="text").body(request(), [1, 2, 1, 400]))[
        "prompt"
    ]
    words = text.split(" ")
    assert len(words) == 4
    assert words[0] == words[2] != words[1]
    chat = json.loads(RequestBuilder(model="m", endpoint=CHAT).body(request(), [1, 2, 1, 400]))
    assert chat["messages"] == [{"role": "user", "content": text}]


def test_an_endpoint_is_a_path() -> None:
    with pytest.raises(InvalidRequest, match="--endpoint"):
        RequestBuilder(model="m", endpoint="v1/completions")


def test_headers_go_along_and_cannot_hide_others() -> None:
    async def main() -> None:
        async with hostile(lambda _: GOOD) as host:
            headers = {"Authorization": "Bearer secret"}
            client = HttpLoadClient(host.address, RequestBuilder(model="m"), headers=headers)
            await client.send(request(), [1], request_id="a")
            client.close()
            assert b"\r\nAuthorization: Bearer secret\r\n" in host.requests[0]
            assert f"\r\nHost: {host.address.at}\r\n".encode() in host.requests[0]
            for bad in ({"a": "b\r\nc: d"}, {"a b": "c"}, {"": "c"}, {"a:": "c"}):
                with pytest.raises(InvalidRequest):
                    HttpLoadClient(host.address, RequestBuilder(model="m"), headers=bad)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("url", "at", "prefix", "host"),
    [
        ("http://127.0.0.1:8000", "127.0.0.1:8000", "", "127.0.0.1:8000"),
        ("localhost:9", "localhost:9", "", "localhost:9"),
        ("https://api.example.com/v1/", "api.example.com:443", "", "api.example.com"),
        ("http://h/openai/v1", "h:80", "/openai", "h"),
        ("http://[::1]:7/x", "[::1]:7", "/x", "[::1]:7"),
    ],
)
def test_addresses(url: str, at: str, prefix: str, host: str) -> None:
    address = Address.parse(url)
    assert (address.at, address.prefix, address.name) == (at, prefix, host)
    assert Address.parse(address.url) == address


@pytest.mark.parametrize(
    "url", ["ftp://x", "http://", "http://h:no", "http://h?x=1", "http://u@h", "http://h/a b", ""]
)
def test_bad_addresses_name_the_flag(url: str) -> None:
    with pytest.raises(InvalidRequest, match="--base-url"):
        Address.parse(url)


def test_a_request_says_whom_it_is_for_only_where_it_is_known() -> None:
    builder = RequestBuilder(model="m")
    plain = json.loads(builder.body(request(), [1]))
    assert not {"slo", "user"} & set(plain)
    wanted = parse_objectives("ttft_p50=2s,ttft_p99=1100ms,tpot=30ms,itl=500ms,e2el=1min")
    asked = replace(request(), tenant="a", service_class="batch", objectives=wanted)
    body = json.loads(builder.body(asked, [1]))
    assert body["user"] == "a"
    assert body["slo"] == {
        "ttft_ms": 1100,
        "tpot_ms": 30,
        "itl_ms": 500,
        "deadline_ms": 60_000,
        "class": "batch",
    }
    without = RequestBuilder(model="m", extra={"slo": None})
    assert "slo" not in json.loads(without.body(asked, [1]))
    assert json.loads(builder.body(replace(request(), service_class="interactive"), [1]))[
        "slo"
    ] == {"class": "interactive"}
