"""The response cache over HTTP: in every dialect, told in header, usage and metrics."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest
from starlette.datastructures import Headers

from headway.client.response_cache import CachingEngine
from headway.config import ServerConfig
from headway.errors import InvalidRequest
from headway.server.response_cache import asks_anew
from headway.types.response_cache import ResponseCacheConfig
from tests.server.conftest import Running, serving
from tests.server.test_metrics import values

CHAT = "/v1/chat/completions"
COMPLETION = "/v1/completions"
KEYS = ("one", "two")


@pytest.fixture(scope="module")
def shared() -> Iterator[Running]:
    with serving(config=ServerConfig(port=0, response_cache=2**20)) as running:
        yield running


@pytest.fixture(autouse=True)
def _from_nothing(request: pytest.FixtureRequest) -> None:
    if "server" in request.fixturenames:
        running: Running = request.getfixturevalue("server")
        running.call(cache_of(running).store.clear)
        running.engine.submitted.clear()


def cache_of(server: Running) -> CachingEngine:
    assert isinstance(server.llm.client, CachingEngine)
    return server.llm.client


def body(**fields: Any) -> dict[str, Any]:
    return {"prompt": "Hello", "max_tokens": 9, "temperature": 0} | fields


def ask(http: httpx.Client, path: str = COMPLETION, **fields: Any) -> httpx.Response:
    headers = fields.pop("headers", None)
    answer = http.post(path, json=body(**fields) if path == COMPLETION else fields, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer


def told(answer: httpx.Response) -> str | None:
    found: str | None = answer.headers.get("x-headway-cache")
    return found


def without_ids(answer: httpx.Response) -> dict[str, Any]:
    """An answer without what is every answer's own, and what the cache and the prefix cache say."""
    found: dict[str, Any] = answer.json()
    usage = found["usage"]
    usage.pop("response_cache", None)
    usage.pop("prompt_tokens_details")
    return {name: value for name, value in found.items() if name not in ("id", "created")}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"logprobs": 2, "return_token_ids": True},
        {"temperature": 1, "seed": 5, "n": 3},
        {"stop": "e", "n": 2},
        {"stop_token_ids": [ord("d")]},
        {"prompt": ["one", "two", "one"], "echo": True},
        {"prompt_logprobs": 1},
    ],
)
def test_a_hit_is_what_computing_gives(
    server: Running, http: httpx.Client, fields: dict[str, Any]
) -> None:
    answers = [ask(http, **fields) for _ in range(2)]
    anew = ask(http, **fields, headers={"Cache-Control": "no-cache"})
    assert [told(each) for each in (*answers, anew)] == ["miss", "hit", None]
    assert [each.json()["usage"].get("response_cache") for each in (*answers, anew)] == [
        "miss",
        "hit",
        None,
    ]
    assert without_ids(answers[0]) == without_ids(answers[1]) == without_ids(anew)
    assert anew.json()["usage"]["prompt_tokens_details"]["cached_tokens"] > 0
    assert answers[1].json()["usage"]["prompt_tokens_details"]["cached_tokens"] == 0


@pytest.mark.parametrize("fields", [{"temperature": 1}, {"temperature": 0.5, "n": 2}])
def test_what_is_drawn_is_drawn_anew(
    server: Running, http: httpx.Client, fields: dict[str, Any]
) -> None:
    for _ in range(2):
        answer = ask(http, **fields)
        assert (told(answer), "response_cache" in answer.json()["usage"]) == (None, False)
    assert len(server.engine.submitted) == 2 * fields.get("n", 1)
    assert server.call(lambda: len(cache_of(server).store)) == 0


def test_a_search_of_beams_is_no_business_of_the_cache(server: Running, http: httpx.Client) -> None:
    for _ in range(2):
        assert told(ask(http, use_beam_search=True, n=2, max_tokens=3)) is None
    assert server.call(lambda: len(cache_of(server).store)) == 0


@pytest.mark.parametrize(
    "fields", [{"max_tokens": 8}, {"seed": 7, "temperature": 1}, {"stop": "x"}]
)
def test_other_requests_get_answers_of_their_own(
    server: Running, http: httpx.Client, fields: dict[str, Any]
) -> None:
    ask(http)
    # A stop string is the client's business alone: the tokens are the same.
    assert told(ask(http, **fields)) == ("hit" if "stop" in fields else "miss")


def test_a_streamed_hit_has_the_shape_of_a_stream(server: Running, client: openai.OpenAI) -> None:
    def stream() -> tuple[str | None, str, list[Any], Any]:
        raw = client.chat.completions.with_raw_response.create(
            model="alphabet",
            messages=[{"role": "user", "content": "Hi"}],
            temperature=0,
            max_tokens=30,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = list(raw.parse())
        assert chunks[0].choices[0].delta.role == "assistant"
        text = "".join(each.choices[0].delta.content or "" for each in chunks if each.choices)
        ends = [each.choices[0].finish_reason for each in chunks if each.choices]
        return raw.headers.get("x-headway-cache"), text, ends, chunks[-1].usage

    first, second = stream(), stream()
    assert [each[0] for each in (first, second)] == ["miss", "hit"]
    assert first[1] == second[1] == "abcdefghijklmnopqrstuvwxyzabcd"
    for _, _, ends, usage in (first, second):
        assert ends[-1] == "length"
        assert set(ends[:-1]) == {None}
        assert usage.completion_tokens == 30
    assert second[3].model_extra == {"response_cache": "hit"}
    # Whole and streamed answers are the same ones.
    whole = client.chat.completions.create(
        model="alphabet",
        messages=[{"role": "user", "content": "Hi"}],
        temperature=0,
        max_tokens=30,
    )
    assert whole.choices[0].message.content == first[1]
    assert whole.usage is not None
    assert whole.usage.model_extra == {"response_cache": "hit"}
    assert len(server.engine.submitted) == 1


def test_a_stop_string_ends_an_answer_that_others_go_on_with(
    server: Running, http: httpx.Client
) -> None:
    short = ask(http, stop="d", max_tokens=20)
    again = ask(http, stop="d", max_tokens=20)
    longer = ask(http, stop="k", max_tokens=20)
    whole = ask(http, max_tokens=20)
    texts = [each.json()["choices"][0]["text"] for each in (short, again, longer, whole)]
    assert texts == ["abc", "abc", "abcdefghij", "abcdefghijklmnopqrst"]
    assert [told(each) for each in (short, again, longer, whole)] == ["miss", "hit", "hit", "hit"]
    assert [len(each.generated) for each in server.engine.submitted][:2] == [0, 4]
    assert told(ask(http, max_tokens=20)) == "hit"
    assert len(server.engine.submitted) == 3


def test_equal_requests_in_flight_are_computed_once_and_each_may_leave(
    server: Running, http: httpx.Client
) -> None:
    server.hold()
    with ThreadPoolExecutor(64) as pool:
        first = pool.submit(ask, http)
        server.until(lambda: len(server.engine.submitted) == 1)
        with server.http() as leaving, pytest.raises(httpx.ReadTimeout):
            leaving.post(COMPLETION, json=body(stream=True), timeout=0.2)
        others = [pool.submit(ask, http, stream=bool(n % 2)) for n in range(62)]
        server.until(lambda: server.state.requests == 63)
        server.go_on()
        answers = [each.result(30) for each in (first, *others)]
    assert [told(each) for each in answers] == ["miss"] + ["joined"] * 62
    assert len(server.engine.submitted) == 1
    texts = {each.json()["choices"][0]["text"] for each in answers[::2] if each.text[0] == "{"}
    assert texts == {"abcdefghi"}


def test_the_last_one_to_leave_ends_the_computation(server: Running) -> None:
    server.hold()
    for _ in range(2):
        with server.http() as leaving, pytest.raises(httpx.ReadTimeout):
            leaving.post(COMPLETION, json=body(stream=True), timeout=0.2)
    server.until(lambda: not server.state.requests)
    assert server.call(lambda: set(server.engine.running)) == set()
    assert server.call(lambda: len(cache_of(server).store)) == 0
    server.go_on()


def test_the_other_dialects_have_it_too(server: Running, http: httpx.Client) -> None:
    message = {"role": "user", "content": "Hi"}
    asked: list[tuple[str, dict[str, Any]]] = [
        (CHAT, {"messages": [message], "temperature": 0, "max_tokens": 5}),
        (
            "/v1/messages",
            {"messages": [message], "temperature": 0, "max_tokens": 6, "model": "alphabet"},
        ),
        ("/v1/responses", {"input": "Hi", "temperature": 0, "max_output_tokens": 7}),
        ("/completion", {"prompt": "Hi", "temperature": 0, "n_predict": 4}),
        (
            "/api/chat",
            {
                "messages": [message],
                "model": "alphabet",
                "stream": False,
                "options": {"temperature": 0, "num_predict": 3},
            },
        ),
    ]
    for path, fields in asked:
        answers = []
        for headers in ({}, {}, {"cache-control": "max-age=0, No-Store"}):
            answer = http.post(path, json=fields, headers=headers)
            assert answer.status_code == 200, (path, answer.text)
            answers.append(told(answer))
        assert answers == ["miss", "hit", None], path
    # A chat is a chat: what one dialect asked, another one may get.
    assert told(http.post("/v1/chat/completions", json=asked[1][1])) == "hit"


def test_metrics_count_hits_as_they_are_served(server: Running, http: httpx.Client) -> None:
    def counts() -> dict[str, float]:
        return values(http.get("/metrics").content)

    before = counts()
    for _ in range(3):
        ask(http)
    after = counts()

    def grown(name: str) -> float:
        return after[name] - before.get(name, 0)

    assert grown("headway:response_cache_queries_total") == 3
    assert grown("headway:response_cache_hits_total") == 2
    assert grown("headway:response_cache_joined_total") == 0
    assert grown("headway:response_cache_tokens_total") == 18
    assert after["headway:response_cache_entries"] == 1
    assert 0 < after["headway:response_cache_bytes"] < 2**20
    assert grown("vllm:time_to_first_token_seconds_count") == 3
    assert grown("vllm:e2e_request_latency_seconds_count") == 3
    assert grown("vllm:generation_tokens_total") == 27
    assert grown("vllm:request_success_total[length]") == 3
    # Only what was computed was a step.
    assert grown("vllm:iteration_tokens_total_count") == 9
    assert grown("vllm:prompt_tokens_cached_total") == 2


def test_each_key_has_answers_of_its_own_unless_they_are_shared() -> None:
    for is_shared in (False, True):
        config = ServerConfig(
            port=0, api_key=KEYS, response_cache=2**20, response_cache_shared=is_shared
        )
        with serving(config=config) as server, server.http() as http:
            outcomes = [
                told(ask(http, headers={"Authorization": f"Bearer {key}"}, **salt))
                for key in KEYS
                for salt in ({}, {"cache_salt": "own"}, {})
            ]
            others = ["hit", "hit", "hit"] if is_shared else ["miss", "miss", "hit"]
            assert outcomes == ["miss", "miss", "hit", *others]


def test_without_the_flag_nothing_is_kept_and_nothing_told() -> None:
    with serving() as server, server.http() as http:
        answers = [ask(http) for _ in range(2)]
        assert [told(each) for each in answers] == [None, None]
        assert "response_cache" not in answers[1].text
        assert len(server.engine.submitted) == 2
        assert b"response_cache" not in http.get("/metrics").content


def test_what_cache_control_asks() -> None:
    def anew(*given: str) -> bool:
        return asks_anew(Headers(raw=[(b"cache-control", each.encode()) for each in given]))

    assert anew("no-cache")
    assert anew("max-age=0, no-store")
    assert anew("private", "NO-CACHE")
    assert not anew()
    assert not anew("max-age=0")
    assert not anew('private="no-store-x"')


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"response_cache_redis": "redis://host"}, "response_cache_redis"),
        ({"response_cache_shared": True}, "response_cache_shared"),
        ({"response_cache": 2**20, "response_cache_redis": "host:6379"}, "response_cache_redis"),
        ({"response_cache": "64MiB"}, "response_cache"),
    ],
)
@pytest.mark.parametrize("settings", [ServerConfig, ResponseCacheConfig])
def test_settings_of_a_cache_that_cannot_be(settings: Any, given: Any, field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        settings(**given)
    assert caught.value.field == field
