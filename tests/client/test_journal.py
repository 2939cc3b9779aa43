"""The journal by itself: what is submitted when, and which requests are found to be poison."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.client.journal import PROGRESS_TOKENS, JournalEntry, RequestJournal
from headway.errors import InvalidRequest
from headway.types import Request, TokenEvent, TokenLogprobs
from tests.client.support import request


def ready(*requests: Request) -> RequestJournal:
    """A journal whose requests run in a first engine."""
    journal = RequestJournal()
    for each in requests:
        journal.add(each)
    journal.engine_ready()
    assert [each.id for each in journal.take_queued()] == [each.id for each in requests]
    return journal


def restart(journal: RequestJournal) -> tuple[list[str], list[Request]]:
    """Which requests are poison after a death, and what the next engine gets first."""
    poison = journal.engine_died()
    assert journal.take_queued() == []
    journal.engine_ready()
    return poison, journal.take_queued()


def report(
    journal: RequestJournal, name: str, *tokens: int, end: bool = False
) -> TokenEvent | None:
    return journal.record(TokenEvent(id=name, tokens=tokens, finish="length" if end else None))


def test_requests_wait_for_the_engine() -> None:
    journal = RequestJournal()
    journal.add(request("a"))
    assert journal.take_queued() == []
    journal.engine_ready()
    assert journal.take_queued() == [request("a")]
    assert journal.take_queued() == []


def test_where_the_cache_is_is_said_to_the_next_engine_only() -> None:
    journal = RequestJournal()
    journal.engine_ready()
    journal.receive(JournalEntry(request=request("a"), tokens=[7], kv_source="there"))
    (submitted,) = journal.take_queued()
    assert (submitted.kv_source, submitted.generated) == ("there", (7,))
    journal.engine_died(replaced=True)
    journal.engine_ready()
    (submitted,) = journal.take_queued()
    assert (submitted.kv_source, submitted.generated) == ("", (7,))


def test_a_request_goes_on_once_its_present_engine_has_told_a_token() -> None:
    journal = RequestJournal()
    journal.receive(JournalEntry(request=request("a"), tokens=[7]))
    assert not journal.goes_on("a")
    journal.engine_ready()
    journal.take_queued()
    assert not journal.goes_on("a")
    report(journal, "a", 8)
    assert journal.goes_on("a")
    journal.abort(["a"])
    assert journal.goes_on("a")


def test_one_death_resumes_everything_with_its_tokens() -> None:
    journal = ready(request("a"), request("b"))
    report(journal, "a", 1, 2)
    poison, submitted = restart(journal)
    assert poison == []
    assert submitted == [replace(request("a"), generated=(1, 2)), request("b")]


def test_what_has_ended_or_was_aborted_is_not_resumed() -> None:
    journal = ready(request("a"), request("b"), request("c"))
    report(journal, "a", 1, end=True)
    assert journal.abort(["b", "unknown"]) == ["b"]
    assert [each.id for each in restart(journal)[1]] == ["c"]


def test_an_id_stays_taken_until_the_engine_acknowledges_its_abort() -> None:
    journal = ready(request("a"))
    journal.abort(["a"])
    with pytest.raises(InvalidRequest):
        journal.add(request("a"))
    assert report(journal, "a", 5) is None
    assert journal.record(TokenEvent(id="a", finish="abort")) is None
    journal.add(request("a"))
    assert journal.take_queued() == [request("a")]


def test_quarantined_requests_run_alone_the_latest_first_until_the_poison_is_found() -> None:
    journal = ready(*(request(name, arrival=at) for at, name in enumerate("abc")))
    restart(journal)
    poison, submitted = restart(journal)
    assert (poison, [each.id for each in submitted]) == ([], ["c"])
    assert submitted[0].sampling.max_tokens == 1
    journal.add(request("new"))
    assert journal.take_queued() == []
    # Its isolated run ends after one token; the caller gets the token and no end.
    event = report(journal, "c", 7, end=True)
    assert event is not None
    assert event.finish is None
    assert [each.id for each in journal.take_queued()] == ["b"]
    poison, submitted = restart(journal)
    assert poison == ["b"]
    assert {each.id for each in submitted} == {"a", "c", "new"}
    assert next(each for each in submitted if each.id == "c").generated == (7,)
    assert {each.sampling.max_tokens for each in submitted} == {12}


def test_aborting_an_isolated_request_makes_way_once_the_engine_is_empty() -> None:
    journal = ready(request("a"), request("b", arrival=1.0))
    restart(journal)
    assert [each.id for each in restart(journal)[1]] == ["b"]
    assert journal.abort(["b"]) == ["b"]
    assert journal.take_queued() == []
    journal.record(TokenEvent(id="b", finish="abort"))
    assert [each.id for each in journal.take_queued()] == ["a"]


def test_a_request_that_makes_ever_more_progress_is_not_quarantined() -> None:
    long = request("a", max_tokens=10_000)
    journal = ready(long)
    for deaths in range(6):
        report(journal, "a", *range(PROGRESS_TOKENS << deaths))
        assert restart(journal) == ([], [journal.remaining("a")])
        entry = journal.entry("a")
        assert entry is not None
        assert (entry.deaths, entry.suspect) == (1, False)


def test_one_that_kills_late_again_and_again_is_found() -> None:
    """Whatever it gets each time: it would have to be ever more."""
    for fuse in (PROGRESS_TOKENS, 10 * PROGRESS_TOKENS, 100 * PROGRESS_TOKENS):
        journal = ready(request("a", max_tokens=10**6), request("b", max_tokens=10**6))
        deaths, poison = 0, [""]
        while not poison[0]:
            report(journal, "a", *range(fuse))
            report(journal, "b", *range(fuse))
            poison = journal.engine_died() or [""]
            journal.engine_ready()
            while (got := journal.take_queued()) and len(got) == 1 and journal.isolating:
                most = got[0].sampling.max_tokens - len(got[0].generated)
                if got[0].id == "a" and most > fuse:
                    break
                report(journal, got[0].id, *range(most), end=True)
            deaths += 1
            assert deaths < 20
        assert poison == ["a"]


def test_a_request_that_runs_alone_is_found_in_three_deaths_in_a_row() -> None:
    journal = ready(request("a"))
    assert restart(journal)[0] == []
    poison, (isolated,) = restart(journal)
    assert (poison, isolated.sampling.max_tokens) == ([], 1)
    report(journal, "a", 5, end=True)
    assert journal.take_queued() == [replace(request("a"), generated=(5,))]
    assert restart(journal) == (["a"], [])
    assert len(journal) == 0


def test_what_an_engine_had_just_got_is_on_probation_once_that_dies() -> None:
    journal = ready(
        *(request(name) for name in ("new", "quiet")),
        *(request(name, max_tokens=1000) for name in ("long", "done")),
    )
    report(journal, "new", *range(PROGRESS_TOKENS - 1))
    report(journal, "long", *range(PROGRESS_TOKENS))
    report(journal, "done", 1, end=True)
    journal.add(request("queued"))
    assert not journal.proving
    journal.engine_died()
    assert (journal.unsuspected, journal.proving) == (["long", "queued"], True)
    assert journal.unheard == ["queued"]
    journal.abort(["quiet"])
    journal.engine_ready()
    journal.take_queued()
    report(journal, "new", *range(PROGRESS_TOKENS - 1))
    assert (journal.unsuspected, journal.proving) == (["long", "queued"], True)
    report(journal, "new", 7)
    assert (journal.unsuspected, journal.proving) == (["new", "long", "queued"], False)
    # It is the second death that it sees, the third that it would explain.
    report(journal, "long", *range(10 * PROGRESS_TOKENS))
    journal.engine_died()
    assert journal.unsuspected == []


@pytest.mark.parametrize("how", ["end", "abort", "clear", "give"])
def test_probation_ends_with_the_request_here(how: str) -> None:
    journal, other = ready(request("a"), request("b")), ready()
    report(journal, "b", *range(PROGRESS_TOKENS))
    restart(journal)
    assert (journal.proving, journal.isolating) == (True, False)
    if how == "end":
        report(journal, "a", 1, end=True)
    elif how == "abort":
        journal.abort(["a"])
    elif how == "clear":
        journal.clear()
    else:
        give("a", journal, other)
    assert not journal.proving
    assert other.proving == (how == "give")
    assert other.goes_on("a")


def test_once_the_poison_is_found_the_others_have_still_to_show_that_they_are_none() -> None:
    journal = ready(request("a"), request("b", arrival=1.0))
    restart(journal)
    restart(journal)
    assert restart(journal)[0] == ["b"]
    assert (journal.isolating, journal.proving) == (False, True)
    report(journal, "a", *range(PROGRESS_TOKENS))
    assert not journal.proving
    # What it has seen is explained, so a death is the first one again.
    journal.engine_died()
    assert journal.unsuspected == ["a"]


def test_an_engine_that_is_replaced_puts_nobody_on_probation() -> None:
    journal = ready(request("a"))
    journal.engine_died(replaced=True)
    assert not journal.proving


def test_what_remains_of_a_request_is_what_another_engine_needs() -> None:
    asked = request("a", (1, 2), max_tokens=9)
    asked = replace(asked, sampling=replace(asked.sampling, prompt_logprobs=0), generated=(4,))
    journal = ready(asked)
    assert journal.remaining("a") is asked
    news = (TokenLogprobs(token=2, logprob=-1.0, rank=1),)
    journal.record(TokenEvent(id="a", tokens=(5, 6), prompt_logprobs=news))
    remaining = journal.remaining("a")
    assert remaining is not None
    assert remaining.generated == (4, 5, 6)
    assert (remaining.sampling.max_tokens, remaining.sampling.prompt_logprobs) == (9, None)
    assert journal.remaining("b") is None


def test_an_isolated_run_does_not_shorten_what_remains() -> None:
    journal = ready(request("a"), request("b", arrival=1.0))
    restart(journal)
    (isolated,) = restart(journal)[1]
    assert (isolated.id, isolated.sampling.max_tokens) == ("b", 1)
    assert journal.remaining("b") == request("b", arrival=1.0)


def test_prompt_logprobs_are_not_repeated() -> None:
    asked = request("a", (1, 2, 3, 4))
    asked = replace(asked, sampling=replace(asked.sampling, prompt_logprobs=0))
    journal = ready(asked)
    news = [TokenLogprobs(token=token, logprob=-1.0, rank=1) for token in (2, 3, 4)]
    journal.record(TokenEvent(id="a", prompt_logprobs=(news[0],)))
    assert restart(journal)[1][0].sampling.prompt_logprobs == 0
    repeated = TokenEvent(
        id="a", tokens=(5,) * PROGRESS_TOKENS, prompt_logprobs=tuple(news), scheduled_at=2.0
    )
    event = journal.record(repeated)
    assert event is not None
    assert event.prompt_logprobs == tuple(news[1:])
    assert event.scheduled_at is None
    assert restart(journal)[1][0].sampling.prompt_logprobs is None


def give(name: str, source: RequestJournal, target: RequestJournal) -> None:
    entry = source.entry(name)
    assert entry is not None
    source.abort([name])
    target.receive(entry)


def test_a_request_goes_on_in_another_journal_and_is_told_nothing_twice() -> None:
    first, second = ready(request("a"), request("b")), ready(request("c"))
    first.record(TokenEvent(id="a", tokens=(1, 2), scheduled_at=3.0, cached_tokens=4))
    give("a", first, second)
    assert (first.ids, second.ids) == (["b"], ["c", "a"])
    assert second.take_queued() == [replace(request("a"), generated=(1, 2))]
    event = second.record(TokenEvent(id="a", tokens=(5,), scheduled_at=6.0, cached_tokens=7))
    assert event == TokenEvent(id="a", tokens=(5,))
    # What the first engine had computed by then is not heard of any more.
    assert report(first, "a", 5, 6) is None
    assert report(first, "a", 7, end=True) is None
    assert first.engine_busy
    assert report(first, "b", 1, end=True) is not None
    assert not first.engine_busy


def test_a_request_that_comes_back_waits_until_the_engine_has_let_go_of_it() -> None:
    first, second = ready(request("a"), request("b")), ready()
    give("a", first, second)
    give("a", second, first)
    first.add(request("c"))
    assert [each.id for each in first.take_queued()] == ["c"]
    assert report(first, "a", 1) is None
    assert first.has_queued
    assert first.record(TokenEvent(id="a", finish="abort")) is None
    assert first.take_queued() == [request("a")]
    assert report(first, "a", 1) is not None


def test_a_suspect_is_one_in_another_journal_too_and_runs_once_that_engine_is_empty() -> None:
    first = ready(request("a"), request("b", arrival=1.0))
    restart(first)
    assert [each.id for each in restart(first)[1]] == ["b"]
    assert (first.unsuspected, first.isolating) == ([], True)
    second = ready(request("c"))
    for name in "ab":
        give(name, first, second)
    assert not first.isolating
    assert second.unsuspected == ["c"]
    assert second.take_queued() == []
    report(second, "c", 1, end=True)
    assert [each.id for each in second.take_queued()] == ["b"]
    assert second.engine_died() == ["b"]
    assert not second.isolating
    assert (second.ids, second.unsuspected) == (["a"], [])


def test_an_engine_that_was_replaced_on_purpose_died_of_nobody() -> None:
    journal = ready(request("a"))
    for _ in range(3):
        assert journal.engine_died(replaced=True) == []
        journal.engine_ready()
        assert journal.take_queued() == [request("a")]
    journal = ready(request("a"), request("b", arrival=1.0))
    restart(journal)
    assert [each.id for each in restart(journal)[1]] == ["b"]
    assert journal.engine_died(replaced=True) == []
    journal.engine_ready()
    (isolated,) = journal.take_queued()
    assert (isolated.id, isolated.sampling.max_tokens) == ("b", 1)


def test_those_that_nothing_was_received_for_are_told_in_their_order() -> None:
    journal = ready(request("a"), request("b"), request("c"))
    report(journal, "b", 1)
    journal.add(request("d"))
    assert journal.unheard == ["a", "c", "d"]


@settings(max_examples=80, deadline=None)
@given(
    deadly=st.sets(st.integers(0, 7), max_size=3),
    fuse=st.integers(0, 9),
    stops=st.lists(st.integers(1, 40), max_size=2),
)
def test_exactly_those_that_kill_are_blamed(deadly: set[int], fuse: int, stops: list[int]) -> None:
    """A model of the engine: deadly requests kill it at their `fuse`-th token since they got in.

    `stops` are steps after which somebody kills it from outside, while no request is isolated.
    """
    length = 70
    journal = RequestJournal()
    for number in range(8):
        journal.add(request(f"r{number}", max_tokens=length, arrival=number))
    received = {f"r{number}": 0 for number in range(8)}
    deadly_ids = {f"r{number}" for number in deadly}
    poison: set[str] = set()
    steps = 0
    while len(journal):
        journal.engine_ready()
        inside = {each.id: (each, 0) for each in journal.take_queued()}
        while inside:
            steps += 1
            assert steps < 5_000
            killed = any(name in deadly_ids and got >= fuse for name, (_, got) in inside.items())
            if killed or (steps in stops and len(inside) > 1):
                poison.update(journal.engine_died())
                break
            for name, (each, got) in list(inside.items()):
                received[name] += 1
                end = len(each.generated) + got + 1 == each.sampling.max_tokens
                inside[name] = (each, got + 1)
                if end:
                    del inside[name]
                report(journal, name, 5, end=end)
            inside.update({each.id: (each, 0) for each in journal.take_queued()})
    assert poison <= deadly_ids
    assert all(count == length for name, count in received.items() if name not in poison)
