"""Messages are split by their encoded size, and what fits in none comes back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headway import wire
from headway.types import Grammar, Request
from headway.wire import (
    HEADER,
    Abort,
    Submit,
    SubmitGroup,
    body_length,
    pack,
    pack_aborts,
    pack_requests,
    read_to_engine,
)
from tests.client.support import request


def received(frames: list[bytes]) -> list[Request]:
    found: list[Request] = []
    for frame in frames:
        assert body_length(frame[: HEADER.size]) == len(frame) - HEADER.size
        message = read_to_engine(frame[HEADER.size :])
        assert isinstance(message, Submit | SubmitGroup)
        found += message.requests
    return found


def test_requests_travel_in_frames_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "FRAME_BYTES", 10_000)
    asked = [request(f"r{number}", range(3, 100)) for number in range(200)]
    asked = [replace(each, arrival=float(number)) for number, each in enumerate(asked)]
    one = len(pack(Submit(requests=asked[:1])))
    frames, refused = pack_requests(asked)
    assert (received(frames), refused) == (asked, [])
    assert max(map(len, frames)) <= 10_000 + one
    assert len(frames) >= 200 * (one - 100) // 10_000
    assert pack_requests(asked[:15]) == ([pack(Submit(requests=asked[:15]))], [])
    assert pack_requests([]) == ([], [])


def test_the_size_counts_whatever_it_is_made_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "FRAME_BYTES", 10_000)
    asked = [request(f"r{number}", (5,)) for number in range(8)]
    allowed = tuple(range(5000))
    asked = [
        replace(
            each,
            sampling=replace(each.sampling, allowed_token_ids=allowed),
            arrival=float(number),
        )
        for number, each in enumerate(asked)
    ]
    frames, refused = pack_requests(asked)
    assert (received(frames), refused) == (asked, [])
    assert len(frames) == len(asked)


def test_grammars_travel_with_what_shares_them_and_alone() -> None:
    grammar = Grammar(kind="json", text='{"type":"string"}', whitespace="")
    plain = [request(f"r{number}", (5,)) for number in range(3)]
    asked = [
        replace(each, sampling=replace(each.sampling, structured_outputs=grammar)) for each in plain
    ]
    apart = [replace(each, arrival=float(number)) for number, each in enumerate(asked)]
    for some in (asked, apart):
        assert received(pack_requests(some)[0]) == some


def test_a_request_that_no_message_holds_comes_back_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_MESSAGE", 20_000)
    good = [request("a"), request("b")]
    large = request("large", range(20_000))
    odd = replace(good[0], id="odd", sampling=replace(good[0].sampling, seed=2**80))
    frames, refused = pack_requests([good[0], large, odd, good[1]])
    assert received(frames) == good
    assert [each.id for each, _ in refused] == ["large", "odd"]
    assert "a message holds 20000" in refused[0][1]
    with pytest.raises(ValueError, match="a message holds 20000"):
        pack(Submit(requests=[large]))


def test_aborts_are_split_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "FRAME_BYTES", 1000)
    ids = [f"request-{number}" for number in range(500)]
    frames, refused = pack_aborts([*ids, "\ud800"])
    assert [name for name, _ in refused] == ["\ud800"]
    found: list[str] = []
    for frame in frames:
        message = read_to_engine(frame[HEADER.size :])
        assert isinstance(message, Abort)
        found += message.ids
    assert found == ids
    assert len(frames) > 5
