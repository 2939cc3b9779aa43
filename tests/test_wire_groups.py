"""Messages between the processes: what a group of continuations shares is sent and kept once."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from headway import wire
from headway.types import Request, ResolvedSampling
from headway.types.objectives import parse_objectives
from headway.wire import HEADER, Submit, SubmitGroup, pack_requests, read_to_engine

SAMPLING = ResolvedSampling(
    max_tokens=9,
    seed=0,
    temperature=1.0,
    allowed_token_ids=tuple(range(20_000)),
    bad_words=((1, 2), (3,)),
    prompt_logprobs=2,
)
FIRST = Request(id="r-0", prompt=tuple(range(8_000)), sampling=SAMPLING, arrival=1.5, group="r")


def group_of(n: int) -> list[Request]:
    """Continuations as the resolver and the journal make them: some have begun already."""
    others = [
        replace(
            FIRST,
            id=f"r-{index}",
            sampling=replace(SAMPLING, seed=index, prompt_logprobs=None),
            generated=(5,) * index,
        )
        for index in range(1, n)
    ]
    return [FIRST, *others]


def received(frames: list[bytes]) -> list[Request]:
    found = []
    for frame in frames:
        message = read_to_engine(frame[HEADER.size :])
        assert isinstance(message, Submit | SubmitGroup)
        found += message.requests
    return found


def test_a_group_arrives_as_it_was_sent() -> None:
    single = replace(FIRST, id="s", group="", arrival=1.0)
    other = [
        replace(each, id="o" + each.id, group="o", prompt=(7,), arrival=2.0) for each in group_of(2)
    ]
    sent = [single, *group_of(5), *other, replace(single, id="t", arrival=3.0)]
    frames, refused = pack_requests(sent)
    assert refused == []
    assert received(frames) == sent


def test_what_came_together_on_other_terms_is_sent_as_it_is() -> None:
    objectives = parse_objectives("ttft_p99=1s,tpot=50ms")
    hurried = replace(FIRST, objectives=objectives, service_class="interactive")
    for sent in (
        [replace(each, objectives=objectives) for each in group_of(3)],
        [FIRST, replace(hurried, id="r-1", service_class="standard")],
        [hurried, replace(FIRST, id="r-1", service_class="interactive")],
        [hurried, replace(hurried, id="r-1", service_class="batch")],
    ):
        frames, refused = pack_requests(sent)
        assert refused == []
        assert received(frames) == sent


def test_the_size_of_a_group_hardly_grows_with_its_continuations() -> None:
    one, many = (sum(map(len, pack_requests(group_of(n))[0])) for n in (1, 64))
    assert many < 1.2 * one


def test_prompts_that_came_together_share_how_they_are_sampled() -> None:
    sent = [
        replace(each, group="", prompt=(number,) * 10) for number, each in enumerate(group_of(100))
    ]
    frames, _ = pack_requests(sent)
    assert sum(map(len, frames)) < 1.2 * sum(map(len, pack_requests(sent[:1])[0]))
    first, *others = received(frames)
    assert [first, *others] == sent
    assert {id(each.sampling.allowed_token_ids) for each in others} == {
        id(first.sampling.allowed_token_ids)
    }


def test_the_engine_keeps_what_is_shared_once() -> None:
    first, *others = received(pack_requests(group_of(20))[0])
    for other in others:
        assert other.prompt is first.prompt
        assert other.sampling.allowed_token_ids is first.sampling.allowed_token_ids
        assert other.sampling.bad_words is first.sampling.bad_words


def test_a_group_in_name_only_is_sent_as_it_is() -> None:
    sent = [FIRST, replace(FIRST, id="r-1"), replace(FIRST, id="r-2", priority=1)]
    frames, _ = pack_requests(sent)
    assert received(frames) == sent


def test_long_groups_take_several_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "FRAME_BYTES", 1_000)
    sent = group_of(300)
    frames, refused = pack_requests(sent)
    assert len(frames) > 10
    assert refused == []
    assert received(frames) == sent


def test_what_no_message_holds_is_handed_back(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = len(msgspec.msgpack.encode(FIRST))
    monkeypatch.setattr(wire, "FRAME_BYTES", 1_000)
    monkeypatch.setattr(wire, "MAX_MESSAGE", shared - 1)
    frames, refused = pack_requests(group_of(3))
    assert frames == []
    assert [request.id for request, _ in refused] == ["r-0", "r-1", "r-2"]
    assert str(shared) in refused[0][1]


@pytest.mark.parametrize("place", [0, 1])
def test_one_that_cannot_be_written_leaves_the_others(place: int) -> None:
    sent = group_of(3)
    odd = replace(sent[place], sampling=replace(sent[place].sampling, seed=2**80))
    others = [each for each in sent if each.id != odd.id]
    sent[place] = odd
    frames, refused = pack_requests(sent)
    assert received(frames) == others
    assert [request for request, _ in refused] == [odd]
