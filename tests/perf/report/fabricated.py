"""A report to draw: a toy machine and toy policies, with figures as a real run would have them.

Nothing here is measured. A step costs 20 ms and 1 ms for every sequence in it, a prompt 30 ms.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from headway.perf.records.record import RequestRecord
from headway.perf.report.price import HourlyPrice
from headway.perf.report.run import Bar, Report, Run, build_report
from headway.perf.report.slots import idle_share

STEP, SEQUENCE, PROMPT = 0.020, 0.001, 0.030


def report(*, requests: int = 96, seed: int = 7) -> Report:
    """Three variations of lengths, all at once, and three rates."""
    runs: list[Run] = []
    for cap, length_cv in ((8, 0.31), (128, 0.93), (384, 0.99)):
        lengths = drawn(requests, cap, Random(seed))
        for system, kind, slots in SYSTEMS:
            runs.append(
                run_of(
                    system, kind, slots, lengths, [0.0] * requests, f"cap {cap}", length_cv, None
                )
            )
    for rate in (1.0, 2.0, 4.0):
        random = Random(seed + 1)
        lengths = drawn(requests, 128, random)
        arrivals, now = [], 0.0
        for _ in range(requests):
            now += random.expovariate(rate)
            arrivals.append(now)
        for system, kind, slots in SYSTEMS[1:]:
            runs.append(
                run_of(system, kind, slots, lengths, arrivals, f"{rate:g} requests/s", 0.93, rate)
            )
    return build_report(
        title="Ways to form batches, side by side",
        runs=runs,
        about={
            "Model": "smollm2-135m-instruct, int8",
            "Processor": "AMD EPYC 9B14 96-Core Processor (avx512_vnni, avx512_bf16)",
            "Cores": "2",
            "Memory": "16 GiB",
            "Headway": "0.1.0, commit 0c1fc7e",
            "Scenario": "benchmarks/scenarios/policies.yaml, seed 7, median of 3",
        },
        price=HourlyPrice(0.09),
        notes=("These figures come from a toy machine.", "Prompts <all> differ & share nothing."),
    )


SYSTEMS: tuple[tuple[str, str, int], ...] = (
    ("transformers, padded", "padded", 12),
    ("sequential", "sequential", 1),
    ("static, padded", "padded", 12),
    ("static", "static", 12),
    ("dynamic", "static", 12),
    ("continuous, whole length reserved", "continuous", 12),
    ("continuous, paged on demand", "continuous", 24),
)


def drawn(count: int, cap: int, random: Random) -> list[int]:
    lengths: list[int] = []
    while len(lengths) < count:
        length = 1 + int(random.expovariate(1 / 32))
        if length <= cap:
            lengths.append(length)
    return lengths


def run_of(
    system: str,
    kind: str,
    slots: int,
    lengths: Sequence[int],
    arrivals: Sequence[float],
    group: str,
    length_cv: float | None,
    rate: float | None,
) -> Run:
    slow = 4.0 if "transformers" in system else 1.0
    bars, ends = played(kind, slots, lengths, arrivals, slow)
    ordered = sorted(bars, key=lambda bar: int(bar.request))
    records = tuple(
        RequestRecord(
            id=bar.request,
            due=arrivals[index],
            sent=arrivals[index],
            prompt_tokens=64,
            output_tokens=lengths[index],
            ttft=(ends[index] if kind == "padded" else bar.first) - arrivals[index],
            latency=ends[index] - arrivals[index],
        )
        for index, bar in enumerate(ordered)
    )
    duration = max(bar.end for bar in bars)
    return Run(
        system=system,
        group=group,
        kind="external" if slow > 1 else "engine",
        settings={"policy": kind, "max_num_seqs": slots, "kv_reservation": "on-demand"},
        length_cv=length_cv,
        rate=rate,
        summary=summary(records, duration),
        records=records,
        slots=slots,
        bars=bars,
        idle_share=idle_share(bars, slots),
        percent_of_limit=None if slow > 1 else 9.0 + 2.0 * slots,
    )


def played(
    kind: str, slots: int, lengths: Sequence[int], arrivals: Sequence[float], slow: float
) -> tuple[tuple[Bar, ...], dict[int, float]]:
    """Bars, and when each answer was whole for its caller: where padded, with the group's last."""
    waiting = sorted(range(len(lengths)), key=lambda index: arrivals[index])
    free = list(range(slots))
    aboard: dict[int, list[float]] = {}  # request -> slot, begin, first, left
    group: list[int] = []
    bars: list[Bar] = []
    ends: dict[int, float] = {}
    now = 0.0
    while waiting or aboard:
        if not aboard and arrivals[waiting[0]] > now:
            now = arrivals[waiting[0]]
        began = now
        admitted = 0
        if kind == "continuous" or not aboard:
            group = group if aboard else []
            most = 2 if aboard else slots
            while waiting and free and arrivals[waiting[0]] <= began and admitted < most:
                index = waiting.pop(0)
                aboard[index] = [free.pop(0), began, -1.0, lengths[index]]
                group.append(index)
                admitted += 1
        rows = len(group) if kind == "padded" else len(aboard)
        now += slow * (STEP + SEQUENCE * rows + PROMPT * admitted)
        for index, state in list(aboard.items()):
            if state[2] < 0:
                state[2] = now
            state[3] -= 1
            if state[3] <= 0:
                bars.append(Bar(int(state[0]), state[1], state[2], now, str(index)))
                ends[index] = now
                del aboard[index]
                free.append(int(state[0]))
        if kind == "padded" and not aboard:
            ends |= dict.fromkeys(group, now)
        free.sort()
    return tuple(sorted(bars, key=lambda bar: bar.begin)), ends


def summary(records: Sequence[RequestRecord], duration: float) -> dict[str, float]:
    output = sum(record.output_tokens for record in records)
    prompt = sum(record.prompt_tokens for record in records)
    figures = {
        "completed": float(len(records)),
        "failed": 0.0,
        "duration": duration,
        "request_throughput": len(records) / duration,
        "output_throughput": output / duration,
        "total_token_throughput": (output + prompt) / duration,
        "largest_gap_ms": 60.0,
    }
    values = {
        "ttft": sorted(record.ttft or 0.0 for record in records),
        "e2el": sorted(record.latency or 0.0 for record in records),
        "tpot": sorted(record.tpot or 0.0 for record in records),
        "itl": sorted(record.tpot or 0.0 for record in records),
    }
    for name, column in values.items():
        for percent in (50, 90, 99):
            figures[f"p{percent}_{name}_ms"] = 1e3 * column[(len(column) - 1) * percent // 100]
        figures[f"median_{name}_ms"] = figures[f"p50_{name}_ms"]
    return figures
