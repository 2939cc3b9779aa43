"""Answers as bytes: what is written comes back, and what is not one is none."""

from __future__ import annotations

from typing import Literal

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from headway.client.response_cache.answer import (
    MOST_NUMBERS,
    Answer,
    decode_answer,
    encode_answer,
)
from headway.types import TokenLogprobs

ANSWER = Answer(
    tokens=(3, 70_000),
    logprobs=(
        TokenLogprobs(token=3, logprob=-0.1, rank=1, top=((3, -0.1), (9, float("-inf")))),
        TokenLogprobs(token=70_000, logprob=-1.5, rank=2),
    ),
    prompt_logprobs=(TokenLogprobs(token=1, logprob=-2.25, rank=7),),
    finish="stop",
    stop_reason=70_000,
)


def test_an_answer_comes_back_as_it_was() -> None:
    value = encode_answer(ANSWER)
    assert value is not None
    assert decode_answer(value) == ANSWER
    begun = Answer(tokens=(1,))
    assert decode_answer(encode_answer(begun)) == begun


def test_more_of_an_answer_takes_more_bytes() -> None:
    """On which the store relies."""

    def size(tokens: int, finish: Literal["length"] | None) -> int:
        return len(encode_answer(Answer(tokens=tuple(range(tokens)), finish=finish)) or b"")

    begun = [size(tokens, None) for tokens in range(1, 40)]
    assert begun == sorted(set(begun))
    assert all(size(tokens, "length") > begun[tokens - 1] for tokens in range(1, 40))


def test_one_that_takes_long_to_encode_is_not_kept() -> None:
    assert encode_answer(Answer(tokens=(1,) * MOST_NUMBERS)) is not None
    assert encode_answer(Answer(tokens=(1,) * (MOST_NUMBERS + 1))) is None
    scored = TokenLogprobs(token=1, logprob=-1.0, rank=1, top=((1, -1.0),) * 20)
    many = (scored,) * (MOST_NUMBERS // 21 + 1)
    assert encode_answer(Answer(tokens=(1,), prompt_logprobs=many)) is None


@given(st.binary(max_size=60))
def test_any_other_bytes_are_no_answer(value: bytes) -> None:
    found = decode_answer(value)
    assert found is None or decode_answer(encode_answer(found)) == found


def test_what_no_engine_says_is_no_answer() -> None:
    encode = msgspec.msgpack.encode
    odd: tuple[dict[str, object], ...] = (
        {},
        {"tokens": []},
        {"tokens": [-1]},
        {"tokens": [2**31]},
        {"tokens": ["a"]},
        {"tokens": [1], "finish": "abort"},
        {"tokens": [1, 2], "logprobs": [{"token": 1, "logprob": -1.0, "rank": 1}]},
    )
    for fields in odd:
        assert decode_answer(encode(fields)) is None
    assert decode_answer(None) is None
    assert decode_answer(encode_answer(ANSWER)[:-1]) is None  # type: ignore[index]
