"""Padded static batches: who departs with whom, who waits for whom, and what is padding."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.perf.bench.padded import BatchTimes, ClientBatchGenerator, run_padded_load
from headway.perf.bench.run_load import ClientResponse
from headway.perf.workload.workload import WorkloadRequest
from tests.perf.bench.fakes import request, workload


@dataclass
class Generator:
    """Token k of every row is there after k hundredths of a second, or so it says."""

    error: str = ""
    batches: list[tuple[int, int]] = field(default_factory=list)
    """Rows and tokens of each batch."""

    async def run(self, prompts: Sequence[Sequence[int]], tokens: int) -> BatchTimes:
        self.batches.append((len(prompts), tokens))
        await asyncio.sleep(0.02)
        if self.error:
            return BatchTimes(error=self.error)
        times = [number / 100 for number in range(1, tokens + 1)]
        return BatchTimes(rows=(times,) * len(prompts))


def test_a_batch_is_as_long_as_its_longest_and_all_answers_come_with_its_end() -> None:
    generator = Generator()
    work = workload(request(output=2), request(output=9), request(output=4), request(output=1))
    came = asyncio.run(run_padded_load(generator, work, slots=3))
    assert generator.batches == [(3, 9), (1, 1)]
    assert [record.id for record in came.records] == [
        "request-1",
        "request-2",
        "request-3",
        "request-4",
    ]
    # Wanted tokens alone count.
    assert [record.output_tokens for record in came.records] == [2, 9, 4, 1]
    first, second, third, last = (record.latency or 0.0 for record in came.records)
    assert first == second == third < last == came.duration
    assert all(record.ttft == record.latency for record in came.records)
    assert first >= 0.02


def test_a_row_sits_until_its_own_last_token_and_is_padding_from_then_on() -> None:
    came = asyncio.run(
        run_padded_load(
            Generator(), workload(request(output=2), request(output=9), request(output=3)), slots=2
        )
    )
    one, two, three = came.bars
    assert (one.slot, two.slot, three.slot) == (0, 1, 0)
    assert (one.begin, one.first, one.end) == pytest.approx(
        (one.begin, one.begin + 0.01, 0.02), abs=0.01
    )
    assert two.end - two.begin == pytest.approx(0.09)
    assert three.begin >= 0.02
    assert one.request == "request-1"


def test_requests_that_arrive_while_a_batch_runs_go_with_the_next() -> None:
    generator = Generator()
    work = workload(
        request(output=1),
        request(output=2, at=0.001),
        request(output=3, at=0.002),
        request(output=4, at=0.2),
    )
    came = asyncio.run(run_padded_load(generator, work, slots=8))
    assert generator.batches == [(1, 1), (2, 3), (1, 4)]
    assert [record.due for record in came.records] == [0.0, 0.001, 0.002, 0.2]
    # Waiting for the batch before counts: users do not see batches.
    assert (came.records[1].latency or 0.0) >= 0.03
    assert came.duration >= 0.2


def test_a_batch_that_fails_is_an_error_of_each_of_its_requests() -> None:
    came = asyncio.run(
        run_padded_load(Generator(error="out of memory"), workload(request(), request()), slots=2)
    )
    assert [record.outcome for record in came.records] == ["error", "error"]
    assert {record.error for record in came.records} == {"out of memory"}
    assert all(record.latency is None and not record.output_tokens for record in came.records)
    assert came.bars == ()


@settings(max_examples=25, deadline=None)
@given(outputs=st.lists(st.integers(1, 5), min_size=1, max_size=9), slots=st.integers(1, 4))
def test_batches_take_every_request_once_and_in_order(outputs: list[int], slots: int) -> None:
    class Instant(Generator):
        async def run(self, prompts: Sequence[Sequence[int]], tokens: int) -> BatchTimes:
            self.batches.append((len(prompts), tokens))
            return BatchTimes(rows=tuple([0.0] * tokens for _ in prompts))

    generator = Instant()
    work = workload(*(request(prompt=4 + n, output=output) for n, output in enumerate(outputs)))
    came = asyncio.run(run_padded_load(generator, work, slots=slots))
    parts = [outputs[start : start + slots] for start in range(0, len(outputs), slots)]
    assert generator.batches == [(len(part), max(part)) for part in parts]
    assert [record.output_tokens for record in came.records] == outputs
    assert [bar.slot for bar in came.bars] == [n % slots for n in range(len(outputs))]


@dataclass
class Pieces:
    """A client that answers in pieces of two tokens, one of them too few if `short`."""

    short: bool = False
    outcome: str = "ok"
    asked: list[tuple[str, int, int]] = field(default_factory=list)

    async def send(
        self, request: WorkloadRequest, tokens: Sequence[int], *, request_id: str
    ) -> ClientResponse:
        self.asked.append((request_id, len(tokens), request.output))
        counts = [2] * (request.output // 2) + [1] * (request.output % 2)
        if self.short:
            counts.pop()
        times = list(itertools.accumulate(1.0 for _ in counts))
        if self.outcome != "ok":
            return ClientResponse(outcome="error", error="no memory")
        return ClientResponse(times=times, counts=counts)


def test_a_load_client_generates_a_batch_as_requests_of_one_length() -> None:
    client = Pieces()
    generator = ClientBatchGenerator(client)
    times = asyncio.run(generator.run([[1, 2, 3], [4]], 3))
    assert client.asked == [("batch-1-1", 3, 3), ("batch-1-2", 1, 3)]
    # Two tokens came with the first piece, at one time.
    [row, other] = times.rows
    assert len(row) == len(other) == 3
    assert row[0] == row[1] == row[2] - 1.0
    asyncio.run(generator.run([[1]], 1))
    assert client.asked[-1][0] == "batch-2-1"


@pytest.mark.parametrize(
    ("client", "says"), [(Pieces(short=True), "2 tokens"), (Pieces(outcome="error"), "no memory")]
)
def test_a_row_that_fails_or_is_short_fails_its_batch(client: Pieces, says: str) -> None:
    times = asyncio.run(ClientBatchGenerator(client).run([[1, 2]], 3))
    assert says in times.error
    assert times.rows == ()
