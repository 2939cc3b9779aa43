"""Running a workload: every request at its time, a bound on concurrency, the progress line."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.perf.bench.run_load import (
    STOP_TOKEN,
    ClientResponse,
    OutputLength,
    Progress,
    record_of,
    run_load,
)
from headway.perf.workload.workload import WorkloadRequest
from tests.client.support import until
from tests.perf.bench.fakes import GatedClient, request, workload


def test_everything_at_once_is_sent_before_anything_is_answered() -> None:
    async def main() -> None:
        client = GatedClient()
        running = asyncio.create_task(run_load(client, workload(*[request()] * 20)))
        await until(lambda: len(client.in_flight) == 20)
        client.gate.set()
        load_result = await running
        assert [record.id for record in load_result.records] == [
            f"request-{n}" for n in range(1, 21)
        ]
        assert all(
            record.outcome == "ok" and record.output_tokens == 3 for record in load_result.records
        )
        assert all(
            0 <= record.due <= record.sent <= load_result.duration for record in load_result.records
        )

    asyncio.run(main())


def test_an_open_loop_waits_for_times_and_not_for_answers() -> None:
    async def main() -> None:
        client = GatedClient()
        requests = [request(at=0.0), request(at=0.03), request(at=0.06)]
        running = asyncio.create_task(run_load(client, workload(*requests), label="x"))
        await until(lambda: len(client.in_flight) == 3)
        client.gate.set()
        load_result = await running
        assert [record.due for record in load_result.records] == [0.0, 0.03, 0.06]
        assert all(record.sent >= record.due - 0.005 for record in load_result.records)
        assert client.order == ["x-1", "x-2", "x-3"]

    asyncio.run(main())


def test_a_closed_loop_never_has_more_than_its_places() -> None:
    async def main() -> None:
        client = GatedClient()
        client.gate.set()
        load_result = await run_load(client, workload(*[request()] * 12), max_concurrency=3)
        assert client.most == 3
        dues = [record.due for record in load_result.records]
        assert dues[:3] == [0.0] * 3
        # A request that waited for another to end was due then: that is no delay of the client.
        assert all(due > 0 for due in dues[3:])
        assert all(record.sent >= record.due for record in load_result.records)
        assert load_result.client_delay.late_max < load_result.duration

    asyncio.run(main())


def test_prompts_are_made_once_for_each_request_and_before_anything_is_sent() -> None:
    async def main() -> None:
        client = GatedClient()
        client.gate.set()
        made: list[int] = []

        def tokens(each: WorkloadRequest) -> Sequence[int]:
            assert not client.order
            made.append(each.prompt_tokens)
            return [7] * each.prompt_tokens

        await run_load(client, workload(request(2), request(5)), tokens=tokens)
        assert made == [2, 5]
        assert client.prompts == {"request-1": [7] * 2, "request-2": [7] * 5}

    asyncio.run(main())


def test_the_default_prompt_is_as_long_as_its_request_says() -> None:
    async def main() -> None:
        client = GatedClient()
        client.gate.set()
        await run_load(client, workload(request(9), request(9), request(3)))
        assert [len(client.prompts[f"request-{n}"]) for n in (1, 2, 3)] == [9, 9, 3]
        assert client.prompts["request-1"] == client.prompts["request-2"]

    asyncio.run(main())


def test_an_observer_hears_of_every_request() -> None:
    class Counts:
        begun = done = tokens = 0

        def sent(self) -> None:
            self.begun += 1

        def ended(self, response: ClientResponse) -> None:
            self.done += 1
            self.tokens += sum(response.counts)

    async def main() -> None:
        client, counts = GatedClient(), Counts()
        client.gate.set()
        await run_load(client, workload(*[request(output=4)] * 5), observer=counts)
        assert (counts.begun, counts.done, counts.tokens) == (5, 5, 20)

    asyncio.run(main())


def test_cancelling_a_load_cancels_what_is_in_flight() -> None:
    async def main() -> None:
        client = GatedClient()
        running = asyncio.create_task(
            run_load(client, workload(request(), request(), request(at=1000.0)))
        )
        await until(lambda: len(client.in_flight) == 2)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert not client.in_flight

    asyncio.run(main())


def test_a_bug_in_a_client_is_not_hidden() -> None:
    class Broken:
        async def send(
            self, request: WorkloadRequest, tokens: Sequence[int], *, request_id: str
        ) -> ClientResponse:
            raise ZeroDivisionError

    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(run_load(Broken(), workload(request())))
    assert caught.group_contains(ZeroDivisionError)


def test_no_requests_no_records() -> None:
    load_result = asyncio.run(run_load(GatedClient(), workload()))
    assert load_result.records == ()


@given(
    gaps=st.lists(st.floats(0.0, 10.0), max_size=20),
    first=st.floats(0.001, 5.0),
    sent=st.floats(0.0, 5.0),
)
def test_a_record_says_when_pieces_came(gaps: list[float], first: float, sent: float) -> None:
    times = [100.0 + first]
    for gap in gaps:
        times.append(times[-1] + gap)
    response = ClientResponse(times=times, counts=[2] * len(times))
    record = record_of(response, request(), name="a", due=0.0, sent=sent, clock=100.0)
    assert record.ttft == pytest.approx(first)
    assert record.latency == pytest.approx(first + sum(gaps), abs=1e-9)
    assert record.itls == pytest.approx(gaps, abs=1e-9)
    assert record.largest_gap == pytest.approx(max(gaps, default=0.0), abs=1e-9)
    assert record.output_tokens == 2 * len(times)
    assert record.tpot == pytest.approx(sum(gaps) / (2 * len(times) - 1), abs=1e-9)


def test_what_the_server_counted_stands_over_what_was_guessed() -> None:
    response = ClientResponse(
        times=[1.0, 2.0],
        counts=[1, 1],
        output_tokens=5,
        prompt_tokens=70,
        cached_tokens=64,
        draft_tokens=6,
        accepted_tokens=3,
    )
    record = record_of(response, request(4, 5), name="a", due=0.0, sent=0.5, clock=0.5)
    assert (record.output_tokens, record.prompt_tokens, record.cached_tokens) == (5, 70, 64)
    assert (record.draft_tokens, record.accepted_tokens) == (6, 3)
    assert record.tpot == 0.25


def test_a_refusal_has_no_times() -> None:
    response = ClientResponse(outcome="refused", error="429 the queue is full")
    record = record_of(response, request(), name="a", due=0.0, sent=0.5, clock=0.5)
    assert (record.ttft, record.latency, record.tpot, record.output_tokens) == (None, None, None, 0)
    assert (record.outcome, record.error) == ("refused", "429 the queue is full")


def test_the_ending_hides_the_length_only_where_it_may_be_hidden() -> None:
    known = OutputLength.of(request(output=7))
    assert (known.max_tokens, known.min_tokens, known.stop) == (7, 0, None)
    hidden = OutputLength.of(request(output=7, cap=30))
    assert (hidden.max_tokens, hidden.min_tokens, hidden.stop) == (30, 6, STOP_TOKEN)


def test_it_says_who_runs_who_failed_and_how_fast() -> None:
    tokens_received = [0]
    progress = Progress(10, tokens=lambda: tokens_received[0], show=False)
    for _ in range(5):
        progress.sent()
    progress.ended(ClientResponse())
    assert progress.text() == "4 running, 0 tok/s"
    progress.ended(ClientResponse(outcome="refused", error="429"))
    tokens_received[0] = 1_000_000
    said = progress.text()
    assert said.startswith("3 running, 1 failed, ")
    assert not said.endswith(" 0 tok/s")
    assert progress.text() == "3 running, 1 failed, 0 tok/s", "nothing came since"


def test_it_is_drawn_on_a_terminal_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def main() -> None:
        with Progress(3, tokens=lambda: 0) as progress:
            progress.sent()
            progress.ended(ClientResponse())

    asyncio.run(main())
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    asyncio.run(main())
    assert "running" in capsys.readouterr().err


def test_leaving_it_stops_its_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setattr("headway.perf.bench.run_load.INTERVAL", 0.001)
    asked: list[int] = []

    async def main() -> None:
        with Progress(3, tokens=lambda: len(asked)) as progress:
            progress.sent()
            while len(asked) < 3:
                asked.append(1)
                await asyncio.sleep(0.002)
        progress.sent()
        assert progress._timer is not None
        assert progress._timer.cancelled()

    asyncio.run(main())
