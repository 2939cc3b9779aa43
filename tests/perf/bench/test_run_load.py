"""The drive: jobs at their times, places, records, cancelling."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.perf.bench.run_load import STOP_TOKEN, ClientResponse, Ending, record_of, run_load
from headway.perf.workload.workload import WorkloadRequest
from tests.client.support import until
from tests.perf.bench.fakes import GatedTarget, job, workload


def test_everything_at_once_is_sent_before_anything_is_answered() -> None:
    async def main() -> None:
        target = GatedTarget()
        driving = asyncio.create_task(run_load(target, workload(*[job()] * 20)))
        await until(lambda: len(target.under_way) == 20)
        target.gate.set()
        driven = await driving
        assert [record.id for record in driven.records] == [f"job-{n}" for n in range(1, 21)]
        assert all(
            record.outcome == "ok" and record.output_tokens == 3 for record in driven.records
        )
        assert all(0 <= record.due <= record.sent <= driven.duration for record in driven.records)

    asyncio.run(main())


def test_an_open_loop_waits_for_times_and_not_for_answers() -> None:
    async def main() -> None:
        target = GatedTarget()
        jobs = [job(at=0.0), job(at=0.03), job(at=0.06)]
        driving = asyncio.create_task(run_load(target, workload(*jobs), label="x"))
        await until(lambda: len(target.under_way) == 3)
        target.gate.set()
        driven = await driving
        assert [record.due for record in driven.records] == [0.0, 0.03, 0.06]
        assert all(record.sent >= record.due - 0.005 for record in driven.records)
        assert target.order == ["x-1", "x-2", "x-3"]

    asyncio.run(main())


def test_a_closed_loop_never_has_more_than_its_places() -> None:
    async def main() -> None:
        target = GatedTarget()
        target.gate.set()
        driven = await run_load(target, workload(*[job()] * 12), max_concurrency=3)
        assert target.most == 3
        dues = [record.due for record in driven.records]
        assert dues[:3] == [0.0] * 3
        # Whoever waited for a place was due when there was one, and that is no lag of ours.
        assert all(due > 0 for due in dues[3:])
        assert all(record.sent >= record.due for record in driven.records)
        assert driven.lag.late_max < driven.duration

    asyncio.run(main())


def test_prompts_are_made_once_for_each_job_and_before_anything_is_sent() -> None:
    async def main() -> None:
        target = GatedTarget()
        target.gate.set()
        made: list[int] = []

        def tokens(each: WorkloadRequest) -> Sequence[int]:
            assert not target.order
            made.append(each.prompt_tokens)
            return [7] * each.prompt_tokens

        await run_load(target, workload(job(2), job(5)), tokens=tokens)
        assert made == [2, 5]
        assert target.prompts == {"job-1": [7] * 2, "job-2": [7] * 5}

    asyncio.run(main())


def test_the_default_prompt_is_as_long_as_its_job_says() -> None:
    async def main() -> None:
        target = GatedTarget()
        target.gate.set()
        await run_load(target, workload(job(9), job(9), job(3)))
        assert [len(target.prompts[f"job-{n}"]) for n in (1, 2, 3)] == [9, 9, 3]
        assert target.prompts["job-1"] == target.prompts["job-2"]

    asyncio.run(main())


def test_a_watch_hears_of_every_job() -> None:
    class Counts:
        begun = done = tokens = 0

        def sent(self) -> None:
            self.begun += 1

        def ended(self, answer: ClientResponse) -> None:
            self.done += 1
            self.tokens += sum(answer.counts)

    async def main() -> None:
        target, counts = GatedTarget(), Counts()
        target.gate.set()
        await run_load(target, workload(*[job(output=4)] * 5), watch=counts)
        assert (counts.begun, counts.done, counts.tokens) == (5, 5, 20)

    asyncio.run(main())


def test_cancelling_a_drive_cancels_what_is_under_way() -> None:
    async def main() -> None:
        target = GatedTarget()
        driving = asyncio.create_task(run_load(target, workload(job(), job(), job(at=1000.0))))
        await until(lambda: len(target.under_way) == 2)
        driving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await driving
        assert not target.under_way

    asyncio.run(main())


def test_a_bug_in_a_target_is_not_hidden() -> None:
    class Broken:
        async def ask(
            self,
            job: WorkloadRequest,
            tokens: Sequence[int],
            *,
            id: str,  # noqa: A002
        ) -> ClientResponse:
            raise ZeroDivisionError

    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(run_load(Broken(), workload(job())))
    assert caught.group_contains(ZeroDivisionError)


def test_no_jobs_no_records() -> None:
    driven = asyncio.run(run_load(GatedTarget(), workload()))
    assert driven.records == ()


@given(
    gaps=st.lists(st.floats(0.0, 10.0), max_size=20),
    first=st.floats(0.001, 5.0),
    sent=st.floats(0.0, 5.0),
)
def test_a_record_says_when_pieces_came(gaps: list[float], first: float, sent: float) -> None:
    times = [100.0 + first]
    for gap in gaps:
        times.append(times[-1] + gap)
    answer = ClientResponse(times=times, counts=[2] * len(times))
    record = record_of(answer, job(), name="a", due=0.0, sent=sent, clock=100.0)
    assert record.ttft == pytest.approx(first)
    assert record.latency == pytest.approx(first + sum(gaps), abs=1e-9)
    assert record.itls == pytest.approx(gaps, abs=1e-9)
    assert record.largest_gap == pytest.approx(max(gaps, default=0.0), abs=1e-9)
    assert record.output_tokens == 2 * len(times)
    assert record.tpot == pytest.approx(sum(gaps) / (2 * len(times) - 1), abs=1e-9)


def test_what_the_target_counted_stands_over_what_was_guessed() -> None:
    answer = ClientResponse(
        times=[1.0, 2.0], counts=[1, 1], output_tokens=5, prompt_tokens=70, cached_tokens=64
    )
    record = record_of(answer, job(4, 5), name="a", due=0.0, sent=0.5, clock=0.5)
    assert (record.output_tokens, record.prompt_tokens, record.cached_tokens) == (5, 70, 64)
    assert record.tpot == 0.25


def test_a_refusal_has_no_times() -> None:
    answer = ClientResponse(outcome="refused", error="429 the queue is full")
    record = record_of(answer, job(), name="a", due=0.0, sent=0.5, clock=0.5)
    assert (record.ttft, record.latency, record.tpot, record.output_tokens) == (None, None, None, 0)
    assert (record.outcome, record.error) == ("refused", "429 the queue is full")


def test_the_ending_hides_the_length_only_where_it_may_be_hidden() -> None:
    known = Ending.of(job(output=7))
    assert (known.max_tokens, known.min_tokens, known.stop) == (7, 0, None)
    hidden = Ending.of(job(output=7, cap=30))
    assert (hidden.max_tokens, hidden.min_tokens, hidden.stop) == (30, 6, STOP_TOKEN)
