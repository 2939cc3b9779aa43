"""Streams read as they come: what counts as a token, when, and what is said of bad ones."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.perf.bench.http_client import MAX_ERROR_BODY, MAX_LINE, SSEReader


class Counter:
    tokens_received = 0


def read(*bodies: bytes, status: int = 200) -> SSEReader:
    """Each body comes a second after the one before, the first one at 1."""
    reading = SSEReader(Counter())
    reading.head(status)
    for second, body in enumerate(bodies, 1):
        reading.body(body, float(second))
    return reading


def data(**fields: Any) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def text(piece: str | None, **fields: Any) -> bytes:
    return data(id="x", choices=[{"index": 0, "text": piece, **fields}])


def delta(**fields: Any) -> bytes:
    finish = fields.pop("finish_reason", None)
    return data(choices=[{"index": 0, "delta": fields, "finish_reason": finish}])


DONE = b"data: [DONE]\n\n"


def test_pieces_with_token_ids_count_exactly() -> None:
    response = read(
        text("a", token_ids=[7], prompt_token_ids=[1, 2, 3]),
        text("", token_ids=[8, 9]),
        text("", token_ids=[]),
        text("", token_ids=[5], finish_reason=None) + text("", finish_reason="stop"),
        data(
            choices=[],
            usage={
                "prompt_tokens": 3,
                "completion_tokens": 4,
                "prompt_tokens_details": {"cached_tokens": 2},
                "completion_tokens_details": {
                    "reasoning_tokens": 0,
                    "accepted_prediction_tokens": 3,
                    "rejected_prediction_tokens": 4,
                },
            },
        )
        + DONE,
    ).response()
    assert list(response.times) == [1.0, 2.0, 4.0]
    assert (response.draft_tokens, response.accepted_tokens) == (7, 3)
    assert list(response.counts) == [1, 2, 1]
    assert (response.outcome, response.error) == ("ok", "")
    assert (response.prompt_tokens, response.output_tokens, response.cached_tokens) == (3, 4, 2)


def test_pieces_without_token_ids_count_one_each_but_the_end_none() -> None:
    response = read(
        text("a"), text(""), text("b"), text("", finish_reason="length"), DONE
    ).response()
    assert list(response.times) == [1.0, 2.0, 3.0]
    assert list(response.counts) == [1, 1, 1]
    assert response.output_tokens is None
    last = read(text("a"), text("b", finish_reason="length")).response()
    assert list(last.counts) == [1, 1]


def test_a_chat_begins_with_a_role_and_ends_with_nothing() -> None:
    response = read(
        delta(role="assistant", content=""),
        delta(content="Hi"),
        delta(reasoning_content="hm"),
        delta(content=""),
        delta(content=None, finish_reason="stop"),
        DONE,
    ).response()
    assert list(response.times) == [2.0, 3.0, 4.0]
    assert response.outcome == "ok"


def test_a_role_beside_the_first_word_is_a_token() -> None:
    response = read(delta(role="assistant", content="Hi", finish_reason="stop")).response()
    assert list(response.counts) == [1]


def test_comments_line_ends_and_other_fields_are_no_matter() -> None:
    response = read(
        b": ping\r\n\r\n",
        b"event: message\r\n" + text("a").replace(b"\n\n", b"\r\n\r\n"),
        text("b", finish_reason="stop").replace(b"data: ", b"data:"),
        DONE.replace(b"\n\n", b"\r\n\r\n"),
    ).response()
    assert list(response.times) == [2.0, 3.0]
    assert response.outcome == "ok"


@given(cuts=st.lists(st.integers(1, 400), max_size=12))
def test_however_the_stream_is_cut_the_tokens_are_the_same(cuts: list[int]) -> None:
    stream = b"".join(
        [*(text(str(n), token_ids=[n]) for n in range(5)), text("", finish_reason="length"), DONE]
    )
    places = sorted({min(cut, len(stream)) for cut in cuts})
    parts = [
        stream[a:b] for a, b in zip([0, *places], [*places, len(stream)], strict=True) if a < b
    ]
    response = read(*parts).response()
    assert sum(response.counts) == 5
    assert response.outcome == "ok"
    assert list(response.times) == sorted(response.times)


@pytest.mark.parametrize(
    ("bodies", "error"),
    [
        ((text("a"), b"data: {nonsense\n\n", DONE), "an event cannot be read"),
        ((text("a"), b'data: {"choices": 7}\n\n', DONE), "an event cannot be read"),
        ((b"data: \xff\xfe{}\n\n",), "an event cannot be read"),
        ((text("a"), data(error={"message": "boom", "code": 500}), DONE), "boom"),
        ((data(error="plain"),), "plain"),
        ((text("a"), text("b")), "the stream broke off"),
        ((b'{"choices": []}',), "the answer is no stream"),
        ((b'data: {"error": ' + b"[" * 100_000 + b"\n\n",), "an event cannot be read"),
        ((DONE,), "the answer has no tokens"),
        ((), "the answer is no stream"),
    ],
)
def test_bad_streams_are_errors_that_say_why(bodies: tuple[bytes, ...], error: str) -> None:
    response = read(*bodies).response()
    assert response.outcome == "error"
    assert error in response.error


def test_a_broken_connection_is_an_error_with_what_came_before() -> None:
    response = read(text("a"), text("b")).response("connection lost: reset")
    assert (response.outcome, response.error) == ("error", "connection lost: reset")
    assert list(response.times) == [1.0, 2.0]


@pytest.mark.parametrize(
    ("status", "body", "outcome", "error"),
    [
        (429, b'{"error": {"message": "queue full"}}', "refused", "429: queue full"),
        (503, b"down", "refused", "503: down"),
        (500, b"", "error", "500: no explanation"),
        (400, b'{"detail": "no model"}', "error", "400: no model"),
        (404, b'{"error": "nothing"}', "error", "404: nothing"),
        (302, b"[1]", "error", "302: [1]"),
        (500, b"[" * 8000, "error", "500: " + "[" * 200),
    ],
)
def test_other_statuses_are_refusals_or_errors(
    status: int, body: bytes, outcome: str, error: str
) -> None:
    response = read(body, status=status).response()
    assert (response.outcome, response.error) == (outcome, error)
    assert not response.times


def test_neither_a_long_line_nor_a_long_error_fills_the_memory() -> None:
    reading = read(status=500)
    for _ in range(10):
        reading.body(b"x" * MAX_ERROR_BODY, 1.0)
    assert len(reading.response().error) < 1000
    endless = read()
    endless.body(b"x" * MAX_LINE, 1.0)
    with pytest.raises(ValueError, match="line"):
        endless.body(b"y", 2.0)


def test_tokens_are_counted_over_all_answers() -> None:
    counter = Counter()
    for _ in range(3):
        reading = SSEReader(counter)
        reading.head(200)
        reading.body(text("a", token_ids=[1, 2]), 1.0)
    assert counter.tokens_received == 6
