"""Prefill and decode apart, and not, on the real engines of this machine under several objectives.

Three fleets of two engines, each engine with half of the cores: `aggregated` (both do everything),
`fixed` (one computes all prompts, the other generates all answers) and `elastic` (the same roles as
a bias). They answer the same arrivals in turns, at a share of the requests a second that the first
one serves where all come at once, once for each pair of objectives (TTFT and TPOT). Half of the
requests are greedy, half are sampled at temperature 0.9 with seeds of their own. Every answer is
compared with that of the aggregated fleet, token by token. The cores that other processes had
meanwhile are told: where they had much, attainment says nothing of the fleets.

    python benchmarks/disaggregation_real.py --rounds 3 --seconds 400 --out results.json
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from fleet_cost import OTHERS, used, used_by_all
from headway.config import DEFAULT_MODEL, EngineConfig
from headway.errors import HeadwayError, Overloaded
from headway.llm import AsyncLLM
from headway.perf.bench.run_load import ClientResponse, LoadResult, run_load
from headway.perf.records.record import Outcome
from headway.perf.records.summary import summarize
from headway.perf.workload.lengths import parse_lengths
from headway.perf.workload.service import with_objectives
from headway.perf.workload.synthetic import (
    at_once,
    gamma,
    rearrive,
    synthesize,
    with_other_prompts,
)
from headway.perf.workload.workload import Workload, WorkloadRequest
from headway.types import SERVICE_CLASSES, Request, ResolvedSampling
from headway.types.fleet import FleetConfig
from headway.types.objectives import parse_objectives
from rounds import in_turns, table
from served import about_this_machine

AGGREGATED, FIXED, ELASTIC = SYSTEMS = ("aggregated", "fixed", "elastic")
ROLES = "prefill,decode"
FLEETS = {
    AGGREGATED: FleetConfig(replicas=2),
    FIXED: FleetConfig(roles=ROLES, fixed_roles=True),
    ELASTIC: FleetConfig(roles=ROLES),
}
PAIRS = (
    "ttft_p99=500ms,tpot_p99=25ms",
    "ttft_p99=500ms,tpot_p99=60ms",
    "ttft_p99=2s,tpot_p99=25ms",
    "ttft_p99=2s,tpot_p99=60ms",
)
SHOWN = (
    "attainment",
    "request_goodput",
    "p50_ttft_ms",
    "p99_ttft_ms",
    "p50_tpot_ms",
    "p99_tpot_ms",
)
HANDED_OVER = "handed over"
CLOSE = 0.02
"""By so much attainment may be below the best other's."""

Answers = dict[str, tuple[int, ...]]
Figures = dict[str, float]


class TokenClient:
    """A `LoadClient` that keeps the tokens of every answer."""

    def __init__(self, llm: AsyncLLM) -> None:
        self.answers: Answers = {}
        self._engine = llm.client

    async def send(
        self, request: WorkloadRequest, tokens: Sequence[int], *, request_id: str
    ) -> ClientResponse:
        """See `LoadClient`. Every other request is sampled, by the number that its id ends with."""
        number = int(request_id.rpartition("-")[2])
        asked = Request(
            id=request_id,
            prompt=tuple(tokens),
            sampling=ResolvedSampling(
                max_tokens=request.output,
                seed=number,
                temperature=0.9 if number % 2 else 0.0,
                top_p=0.95,
            ),
            arrival=time.monotonic(),
            objectives=request.objectives,
        )
        times: list[float] = []
        counts: list[int] = []
        answer: list[int] = []
        error = "no end was told"
        try:
            async for event in self._engine.submit(asked):
                if event.tokens:
                    times.append(time.perf_counter())
                    counts.append(len(event.tokens))
                    answer += event.tokens
                if event.finish is not None:
                    error = "" if event.finish == "length" else event.error or event.finish
        except HeadwayError as failure:
            refused = isinstance(failure, Overloaded)
            return ClientResponse(outcome="refused" if refused else "error", error=failure.message)
        self.answers[request_id] = tuple(answer)
        outcome: Outcome = "error" if error else "ok"
        return ClientResponse(times=times, counts=counts, outcome=outcome, error=error)


def mixture(count: int, seed: int) -> Workload:
    """Mostly short prompts, and some that are long."""
    return synthesize(
        num_requests=count,
        prompt=parse_lengths("lognormal:64:1.3:1024"),
        output=parse_lengths("exponential:32:128"),
        arrivals=at_once,
        seed=seed,
    )


def load_of(workload: Workload, pair: str, rate: float, number: int) -> Workload:
    """The requests of a round: at this rate, with objectives, and with prompts of their own."""
    arriving = rearrive(with_other_prompts(workload, number), gamma(rate), seed=number)
    return with_objectives(arriving, dict.fromkeys(SERVICE_CLASSES, parse_objectives(pair)))


def handed_over(llm: AsyncLLM) -> int:
    return sum(each.handed_over for each in llm.client.replicas)


async def turn(llm: AsyncLLM, workload: Workload, label: str) -> tuple[Figures, Answers]:
    """One fleet on the requests of a round."""
    client, before = TokenClient(llm), handed_over(llm)
    others = used_by_all() - used(llm.client)
    result = await run_load(client, workload, label=label)
    others = used_by_all() - used(llm.client) - others
    summary = summarize(result.records, duration=result.duration)
    figures = {name: summary[name] for name in SHOWN if name in summary}
    figures |= {
        HANDED_OVER: handed_over(llm) - before,
        "failed": sum(record.outcome != "ok" for record in result.records),
        "client late p99 ms": 1e3 * result.client_delay.late_p99,
        OTHERS: max(0.0, others / result.duration),
    }
    return figures, client.answers


def changed(answers: Mapping[str, Answers]) -> list[str]:
    """Requests whose tokens in some system are not those of the aggregated fleet."""
    expected = answers[AGGREGATED]
    return [
        f"{system} {name}"
        for system, found in answers.items()
        for name in expected.keys() | found.keys()
        if found.get(name) != expected.get(name)
    ]


def below_the_best(rows: Mapping[str, Sequence[Figures]]) -> float:
    """How far the elastic fleet's median attainment is below that of the best other; at most 0
    where it is the best."""
    medians = {
        name: statistics.median(each["attainment"] for each in turns)
        for name, turns in rows.items()
    }
    return max(medians[AGGREGATED], medians[FIXED]) - medians[ELASTIC]


async def start(stack: AsyncExitStack, model: str, memory: int) -> dict[str, AsyncLLM]:
    """All fleets; the stack closes them. Those that have no turn do nothing."""
    config = EngineConfig(model=model, max_model_len=2048, kv_cache_memory=memory)
    started = {}
    for name, fleet in FLEETS.items():
        started[name] = await stack.enter_async_context(
            await AsyncLLM.start(config, progress=False, fleet=fleet)
        )
    return started


async def capacity(llm: AsyncLLM, workload: Workload) -> float:
    """Requests a second where all come at once."""
    result: LoadResult = await run_load(TokenClient(llm), workload, label="capacity")
    return len(result.records) / result.duration


async def measure(args: argparse.Namespace) -> dict[str, object]:
    """Everything, for each pair of objectives."""
    workload = mixture(args.requests, args.seed)
    rows: dict[str, dict[str, list[Figures]]] = {
        pair: {name: [] for name in SYSTEMS} for pair in args.pairs
    }
    answers: dict[tuple[str, int], dict[str, Answers]] = {}
    async with AsyncExitStack() as stack:
        fleets = await start(stack, args.model, args.kv_cache_memory)
        for llm in fleets.values():  # what is slow once only, and what a step takes
            await run_load(TokenClient(llm), with_other_prompts(workload, 10**6), label="warm-up")
        rate = args.rate
        if rate is None:
            most = await capacity(fleets[AGGREGATED], with_other_prompts(workload, 10**6 + 1))
            rate = args.share * most
        print(f"{rate:.2f} requests/s", flush=True)
        turns = [(pair, name) for pair in args.pairs for name in SYSTEMS]
        for number, (pair, name) in in_turns(turns, args.rounds, seconds=args.seconds):
            at = 1 + number * len(args.pairs) + list(args.pairs).index(pair)
            asked = load_of(workload, pair, rate, at)
            figures, found = await turn(fleets[name], asked, f"{at}")
            rows[pair][name].append(figures)
            answers.setdefault((pair, number), {})[name] = found
            print(f"{pair} {name}: {100 * figures['attainment']:.1f} %", flush=True)
    wrong = [each for found in answers.values() for each in changed(found)]
    for pair, of_pair in rows.items():
        print(f"\n{pair}\n\n{table(of_pair)}")
        print(f"\nelastic below the best: {100 * below_the_best(of_pair):.1f} points")
    count = sum(len(each) for found in answers.values() for each in found.values())
    print(f"\nanswers: {count}, with other tokens: {len(wrong)}")
    return {
        "requests per second": rate,
        "answers": count,
        "changed": wrong,
        "elastic below the best": {pair: below_the_best(each) for pair, each in rows.items()},
        "pairs": rows,
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--pairs", nargs="+", default=PAIRS, metavar="OBJECTIVES")
    parser.add_argument("--requests", type=int, default=80, help="of a turn (default: 80)")
    parser.add_argument("--share", type=float, default=0.7, help="of capacity (default: 0.7)")
    parser.add_argument("--rate", type=float, help="requests a second, instead of a share")
    parser.add_argument("--rounds", type=int, default=3, help="at most (default: 3)")
    parser.add_argument("--seconds", type=float, default=400, help="for all rounds (default: 400)")
    parser.add_argument("--kv-cache-memory", type=int, default=256 * 2**20, help="bytes for each")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="write the record there, as JSON")
    args = parser.parse_args()
    told = asyncio.run(measure(args))
    if args.out is not None:
        record = {**about_this_machine(), **vars(args), "out": None, **told}
        args.out.write_text(json.dumps(record, indent=1) + "\n")
    return 1 if told["changed"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
