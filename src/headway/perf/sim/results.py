"""One request in a simulation: how long its answer will be, and when each part of it came."""

from __future__ import annotations

from dataclasses import dataclass

from headway.perf.records.record import RequestRecord
from headway.perf.workload.tokens import distinct_tokens
from headway.perf.workload.workload import WorkloadRequest
from headway.types import Request, ResolvedSampling

STOP = -1
"""The token that ends an answer before its cap."""


@dataclass(slots=True, kw_only=True, eq=False)
class SimulatedAnswer:
    """Only the simulated runner writes it. Times are the virtual clock's."""

    index: int
    job: WorkloadRequest
    arrival: float
    prompt_tokens: int
    generated: int = 0
    first: float | None = None
    last: float = 0.0
    largest_gap: float = 0.0
    cached_tokens: int = 0
    entered: bool = False
    """Some replica has computed part of it."""
    slot: int = -1
    """Its place in the batch; none while it waits."""
    boarded: float = 0.0
    """When it took its slot."""
    shown: float | None = None
    """When its first token in this slot came."""
    error: str = ""
    """Why it was refused."""

    @property
    def known(self) -> int:
        """Tokens, prompt and generated."""
        return self.prompt_tokens + self.generated

    @property
    def left(self) -> int:
        """Tokens still to come."""
        return self.job.output - self.generated

    @property
    def token(self) -> int:
        """What it generates: no other request does, so that no two answers look alike."""
        return -2 - self.index


def request_of(answer: SimulatedAnswer) -> Request:
    """What the engine is asked. It learns an answer's length no sooner than a real one would."""
    job = answer.job
    return Request(
        id=str(answer.index),
        prompt=distinct_tokens(job),
        sampling=ResolvedSampling(
            max_tokens=job.cap,
            seed=answer.index,
            stop_token_ids=(STOP,) if job.cap > job.output else (),
        ),
        arrival=answer.arrival,
    )


def record_of(answer: SimulatedAnswer) -> RequestRecord:
    """What became of it, as a client without delays of its own would have seen it."""
    refused = bool(answer.error)
    return RequestRecord(
        id=str(answer.index),
        due=answer.arrival,
        sent=answer.arrival,
        prompt_tokens=answer.prompt_tokens,
        output_tokens=answer.generated,
        ttft=None if answer.first is None else answer.first - answer.arrival,
        latency=None if answer.first is None else answer.last - answer.arrival,
        largest_gap=answer.largest_gap,
        cached_tokens=answer.cached_tokens,
        outcome="refused" if refused else "ok",
        error=answer.error,
    )
