"""The ledger by itself: what is due when, and who is blamed, for any course of events."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.client.journal import FAR, RequestJournal
from headway.errors import InvalidRequest
from headway.types import Request, TokenEvent, TokenLogprobs
from tests.client.support import request


def ready(*requests: Request) -> RequestJournal:
    """A ledger whose requests run in a first engine."""
    ledger = RequestJournal()
    for each in requests:
        ledger.add(each)
    ledger.engine_ready()
    assert [each.id for each in ledger.due()] == [each.id for each in requests]
    return ledger


def restart(ledger: RequestJournal) -> tuple[list[str], list[Request]]:
    """Who is blamed for a death, and what the next engine gets first."""
    blamed = ledger.engine_died()
    assert ledger.due() == []
    ledger.engine_ready()
    return blamed, ledger.due()


def say(ledger: RequestJournal, name: str, *tokens: int, end: bool = False) -> TokenEvent | None:
    return ledger.read(TokenEvent(id=name, tokens=tokens, finish="length" if end else None))


def test_requests_wait_for_the_engine() -> None:
    ledger = RequestJournal()
    ledger.add(request("a"))
    assert ledger.due() == []
    ledger.engine_ready()
    assert ledger.due() == [request("a")]
    assert ledger.due() == []


def test_one_death_resumes_everything_with_its_tokens() -> None:
    ledger = ready(request("a"), request("b"))
    say(ledger, "a", 1, 2)
    blamed, due = restart(ledger)
    assert blamed == []
    assert due == [replace(request("a"), generated=(1, 2)), request("b")]


def test_what_has_ended_or_was_aborted_is_not_resumed() -> None:
    ledger = ready(request("a"), request("b"), request("c"))
    say(ledger, "a", 1, end=True)
    assert ledger.abort(["b", "unknown"]) == ["b"]
    assert [each.id for each in restart(ledger)[1]] == ["c"]


def test_an_id_stays_taken_until_the_engine_acknowledges_its_abort() -> None:
    ledger = ready(request("a"))
    ledger.abort(["a"])
    with pytest.raises(InvalidRequest):
        ledger.add(request("a"))
    assert say(ledger, "a", 5) is None
    assert ledger.read(TokenEvent(id="a", finish="abort")) is None
    ledger.add(request("a"))
    assert ledger.due() == [request("a")]


def test_suspects_run_alone_the_latest_first_until_the_culprit_dies() -> None:
    ledger = ready(*(request(name, arrival=at) for at, name in enumerate("abc")))
    restart(ledger)
    blamed, due = restart(ledger)
    assert (blamed, [each.id for each in due]) == ([], ["c"])
    assert due[0].sampling.max_tokens == 1
    ledger.add(request("new"))
    assert ledger.due() == []
    # Its trial ends after one token; the caller hears the token and no end.
    heard = say(ledger, "c", 7, end=True)
    assert heard is not None
    assert heard.finish is None
    assert [each.id for each in ledger.due()] == ["b"]
    blamed, due = restart(ledger)
    assert blamed == ["b"]
    assert {each.id for each in due} == {"a", "c", "new"}
    assert next(each for each in due if each.id == "c").generated == (7,)
    assert {each.sampling.max_tokens for each in due} == {12}


def test_an_aborted_trial_makes_way_once_the_engine_is_empty() -> None:
    ledger = ready(request("a"), request("b", arrival=1.0))
    restart(ledger)
    assert [each.id for each in restart(ledger)[1]] == ["b"]
    assert ledger.abort(["b"]) == ["b"]
    assert ledger.due() == []
    ledger.read(TokenEvent(id="b", finish="abort"))
    assert [each.id for each in ledger.due()] == ["a"]


def test_a_request_that_gets_far_is_no_suspect() -> None:
    long = request("a", max_tokens=1000)
    ledger = ready(long)
    for _ in range(4):
        blamed, due = restart(ledger)
        assert (blamed, len(due)) == ([], 1)
        say(ledger, "a", *range(FAR))


def test_a_lone_request_needs_no_trial() -> None:
    ledger = ready(request("a"))
    assert restart(ledger)[0] == []
    assert restart(ledger) == (["a"], [])
    assert len(ledger) == 0


def test_prompt_logprobs_are_not_repeated() -> None:
    asked = request("a", (1, 2, 3, 4))
    asked = replace(asked, sampling=replace(asked.sampling, prompt_logprobs=0))
    ledger = ready(asked)
    news = [TokenLogprobs(token=token, logprob=-1.0, rank=1) for token in (2, 3, 4)]
    ledger.read(TokenEvent(id="a", prompt_logprobs=(news[0],)))
    assert restart(ledger)[1][0].sampling.prompt_logprobs == 0
    told = TokenEvent(id="a", tokens=(5,) * FAR, prompt_logprobs=tuple(news), scheduled_at=2.0)
    heard = ledger.read(told)
    assert heard is not None
    assert heard.prompt_logprobs == tuple(news[1:])
    assert heard.scheduled_at is None
    assert restart(ledger)[1][0].sampling.prompt_logprobs is None


@settings(max_examples=80, deadline=None)
@given(
    deadly=st.sets(st.integers(0, 7), max_size=3),
    fuse=st.integers(0, 9),
    stops=st.lists(st.integers(1, 40), max_size=2),
)
def test_exactly_those_that_kill_are_blamed(deadly: set[int], fuse: int, stops: list[int]) -> None:
    """A model of the engine: deadly requests kill it at their `fuse`-th token since they got in.

    `stops` are steps after which somebody kills it from outside, while nobody is on trial.
    """
    length = 70
    ledger = RequestJournal()
    for number in range(8):
        ledger.add(request(f"r{number}", max_tokens=length, arrival=number))
    heard = {f"r{number}": 0 for number in range(8)}
    culprits = {f"r{number}" for number in deadly}
    blamed: set[str] = set()
    steps = 0
    while len(ledger):
        ledger.engine_ready()
        inside = {each.id: (each, 0) for each in ledger.due()}
        while inside:
            steps += 1
            assert steps < 5_000
            killed = any(name in culprits and got >= fuse for name, (_, got) in inside.items())
            if killed or (steps in stops and len(inside) > 1):
                blamed.update(ledger.engine_died())
                break
            for name, (each, got) in list(inside.items()):
                heard[name] += 1
                end = len(each.generated) + got + 1 == each.sampling.max_tokens
                inside[name] = (each, got + 1)
                if end:
                    del inside[name]
                say(ledger, name, 5, end=end)
            inside.update({each.id: (each, 0) for each in ledger.due()})
    assert blamed <= culprits
    assert all(count == length for name, count in heard.items() if name not in blamed)
