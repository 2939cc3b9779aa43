"""From a scenario's workloads to groups: requests that several systems get alike.

A workload with several rates is several groups of the same jobs, which arrive at other times.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from headway.bench.scenario import Load
from headway.types.objectives import Objective, parse_objectives
from headway.workload.arrivals import at_once, gamma
from headway.workload.job import Workload
from headway.workload.laws import parse_law
from headway.workload.synthetic import rearrive, spread, synthesize
from headway.workload.traces import read_trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One workload at one rate."""

    name: str
    workload: Workload
    rate: float | None
    """Requests a second; None: all at once, or as a trace has it."""
    spread: float
    """Standard deviation of the output lengths over their mean."""
    objectives: tuple[Objective, ...] = ()
    seats: int | None = None
    """What "auto" seats are here; None: worked out from the budget."""

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence that its callers allow."""
        return max(job.prompt_tokens + job.cap for job in self.workload.jobs)


def make_groups(load: Load, *, seed: int, reached: Mapping[str, float]) -> list[Group]:
    """The groups of a workload; `reached` is requests a second by name of a workload before it.

    Raises `InvalidRequest` that names what of the workload is wrong.
    """
    if load.trace is not None:
        workload = read_trace(
            Path(load.trace),
            requests=load.requests,
            length_scale=load.length_scale,
            rate_scale=load.rate_scale,
        )
        return [_group(load, load.name, workload, None)]
    workload = synthesize(
        requests=load.requests,
        prompt=parse_law(str(load.prompt), field="prompt"),
        output=parse_law(str(load.output), field="output"),
        arrivals=at_once,
        prefix_tokens=load.prefix_tokens,
        prefixes=load.prefixes,
        cap=load.cap,
        seed=seed,
    )
    named = [(f"{rate:g} requests/s", rate) for rate in load.rates]
    if load.of is not None:
        base = reached[load.of]
        named = [(f"{share:.0%} of {base:.3g} requests/s", share * base) for share in load.loads]
    if not named:
        return [_group(load, load.name, workload, None)]
    return [
        _group(
            load,
            f"{load.name}, {label}",
            rearrive(workload, gamma(rate, load.burstiness), seed=seed),
            rate,
        )
        for label, rate in named
    ]


def _group(load: Load, name: str, workload: Workload, rate: float | None) -> Group:
    return Group(
        name=name,
        workload=workload,
        rate=rate,
        spread=spread(workload),
        objectives=parse_objectives(load.slo, field="slo") if load.slo else (),
        seats=load.seats,
    )
