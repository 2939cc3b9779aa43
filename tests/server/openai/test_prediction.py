"""Drafts in the usage of answers, and predicted outputs, asked by the official client."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from tests.server.conftest import MODEL, Running, serving

HELLO: Any = [{"role": "user", "content": "hi"}]
CHAT = "/v1/chat/completions"


@pytest.fixture
def drafting(server: Running) -> Iterator[Running]:
    """Every token but the first comes of a step with three drafts, of which one is right."""
    server.engine.drafts = (3, 1)
    yield server
    server.engine.drafts = (0, 0)


def expected(content: object, **more: object) -> Any:
    return {"type": "content", "content": content, **more}


def tokens(text: str) -> tuple[int, ...]:
    return tuple(map(ord, text))


def test_usage_counts_drafts_that_were_right_and_wrong(
    drafting: Running, client: openai.OpenAI
) -> None:
    chat = client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=4)
    text = client.completions.create(model=MODEL, prompt="x", max_tokens=4, n=2, temperature=1)
    for answer, steps in ((chat, 3), (text, 6)):
        assert answer.usage is not None
        details = answer.usage.completion_tokens_details
        assert details is not None
        assert details.accepted_prediction_tokens == steps
        assert details.rejected_prediction_tokens == 2 * steps


def test_usage_of_a_stream_grows_with_the_drafts(drafting: Running, client: openai.OpenAI) -> None:
    options: Any = {"include_usage": True, "continuous_usage_stats": True}
    stream = client.chat.completions.create(
        model=MODEL, messages=HELLO, max_tokens=3, stream=True, stream_options=options
    )
    usages = [chunk.usage for chunk in stream]
    details = [None if each is None else each.completion_tokens_details for each in usages]
    counts = [None if each is None else each.rejected_prediction_tokens for each in details]
    assert counts[0] is None, "there is nothing to tell before the first draft"
    assert counts[-1] == 4


def test_where_nothing_was_computed_ahead_nothing_is_told(http: httpx.Client) -> None:
    usage = http.post(CHAT, json={"messages": HELLO, "max_tokens": 3}).json()["usage"]
    assert "completion_tokens_details" not in usage


def test_a_prediction_reaches_the_engine_as_tokens(server: Running, client: openai.OpenAI) -> None:
    parts = [{"type": "text", "text": "abc"}, {"type": "text", "text": "dé"}]
    for content, meant in (("abcdé", "abcdé"), (parts, "abcdé"), ("", "")):
        server.engine.submitted.clear()
        answer = client.chat.completions.create(
            model=MODEL, messages=HELLO, max_tokens=2, n=2, prediction=expected(content)
        )
        assert [choice.message.content for choice in answer.choices] == ["ab", "ab"]
        assert [each.prediction for each in server.engine.submitted] == [tokens(meant)] * 2
        assert answer.usage is not None
        details = answer.usage.completion_tokens_details
        assert (details is not None) == bool(meant)
        if details is not None:
            assert details.accepted_prediction_tokens == details.rejected_prediction_tokens == 0


def test_without_one_there_is_none(server: Running, http: httpx.Client) -> None:
    server.engine.submitted.clear()
    assert http.post(CHAT, json={"messages": HELLO, "max_tokens": 1}).status_code == 200
    assert [each.prediction for each in server.engine.submitted] == [()]


def test_what_is_beyond_the_context_is_left_out(http: httpx.Client) -> None:
    with serving(max_model_len=50) as server, server.http() as other:
        body = {"messages": HELLO, "max_tokens": 1, "prediction": expected("xy" * 5000)}
        assert other.post(CHAT, json=body).status_code == 200
        (request,) = server.engine.submitted
        assert request.prediction == tokens("xy" * 5000)[: len(request.prediction)]
        assert 0 < len(request.prediction) <= 50


@pytest.mark.parametrize(
    ("prediction", "field"),
    [
        (expected(3), "prediction.content"),
        (expected(None), "prediction.content"),
        ({"content": "x"}, "prediction.type"),
        (expected("x", type="file"), "prediction.type"),
        (expected("x", more=1), "prediction.more"),
        (expected([{"type": "image", "text": ""}]), "prediction.content[0].type"),
        ("x", "prediction"),
    ],
)
def test_a_prediction_that_is_none(http: httpx.Client, prediction: object, field: str) -> None:
    answer = http.post(CHAT, json={"messages": HELLO, "prediction": prediction})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == field


def test_a_search_of_beams_has_no_use_for_one(http: httpx.Client) -> None:
    body = {"messages": HELLO, "use_beam_search": True, "prediction": expected("x")}
    answer = http.post(CHAT, json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "prediction")
    assert "would have no effect" in answer.json()["error"]["message"]


def test_completions_have_none(http: httpx.Client) -> None:
    answer = http.post("/v1/completions", json={"prompt": "x", "prediction": expected("x")})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "prediction")
