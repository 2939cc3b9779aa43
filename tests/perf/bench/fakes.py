"""Targets whose answers are known by hand, and workloads for them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from headway.perf.bench.run_load import ClientResponse
from headway.perf.workload.workload import Segment, Workload, WorkloadRequest


def job(
    prompt: int = 4, output: int = 3, *, cap: int | None = None, at: float = 0.0
) -> WorkloadRequest:
    return WorkloadRequest(
        segments=(Segment(prompt * 1000 + output, prompt),),
        output=output,
        cap=output if cap is None else cap,
        at=at,
    )


def workload(*jobs: WorkloadRequest) -> Workload:
    return Workload(name="test", jobs=jobs)


@dataclass
class GatedTarget:
    """Answers one token a piece once `gate` is open; notes who is under way."""

    gate: asyncio.Event = field(default_factory=asyncio.Event)
    under_way: set[str] = field(default_factory=set)
    most: int = 0
    order: list[str] = field(default_factory=list)
    prompts: dict[str, Sequence[int]] = field(default_factory=dict)

    async def ask(self, job: WorkloadRequest, tokens: Sequence[int], *, id: str) -> ClientResponse:  # noqa: A002
        self.order.append(id)
        self.prompts[id] = tokens
        self.under_way.add(id)
        self.most = max(self.most, len(self.under_way))
        try:
            await self.gate.wait()
            await asyncio.sleep(0.001)
        finally:
            self.under_way.discard(id)
        now = time.perf_counter()
        return ClientResponse(times=[now] * job.output, counts=[1] * job.output)
