"""Load clients whose answers are known by hand, and workloads for them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from headway.perf.bench.run_load import ClientResponse
from headway.perf.workload.workload import Segment, Workload, WorkloadRequest


def request(
    prompt: int = 4, output: int = 3, *, cap: int | None = None, at: float = 0.0
) -> WorkloadRequest:
    return WorkloadRequest(
        segments=(Segment(prompt * 1000 + output, prompt),),
        output=output,
        cap=output if cap is None else cap,
        at=at,
    )


def workload(*requests: WorkloadRequest) -> Workload:
    return Workload(name="test", requests=requests)


@dataclass
class GatedClient:
    """Answers one token a piece once `gate` is open; notes what is in flight."""

    gate: asyncio.Event = field(default_factory=asyncio.Event)
    in_flight: set[str] = field(default_factory=set)
    most: int = 0
    order: list[str] = field(default_factory=list)
    prompts: dict[str, Sequence[int]] = field(default_factory=dict)

    async def send(
        self, request: WorkloadRequest, tokens: Sequence[int], *, request_id: str
    ) -> ClientResponse:
        self.order.append(request_id)
        self.prompts[request_id] = tokens
        self.in_flight.add(request_id)
        self.most = max(self.most, len(self.in_flight))
        try:
            await self.gate.wait()
            await asyncio.sleep(0.001)
        finally:
            self.in_flight.discard(request_id)
        now = time.perf_counter()
        return ClientResponse(times=[now] * request.output, counts=[1] * request.output)
