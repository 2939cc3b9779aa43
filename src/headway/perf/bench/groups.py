"""One memory budget for all systems, and what each of them makes of it.

A budget is tokens of KV cache. Without paging it holds whole sequences, prompt and all that the
caller allows, so it bounds the seats; with paging it holds whatever is there.

From a scenario's workloads to groups: requests that several systems get alike.

A workload with several rates is several groups of the same jobs, which arrive at other times.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from headway.config import EngineConfig
from headway.errors import InvalidRequest
from headway.llm import AsyncLLM
from headway.perf.bench.scenario import AUTO, Scenario, ScenarioLoad, System
from headway.perf.workload.arrivals import at_once, gamma
from headway.perf.workload.lengths import parse_lengths
from headway.perf.workload.synthetic import coefficient_of_variation, rearrive, synthesize
from headway.perf.workload.traces import read_trace
from headway.perf.workload.workload import Workload
from headway.types.objectives import Objective, parse_objectives


def seats_of(system: System, group: RunGroup, kv_tokens: int | None) -> int | None:
    """Seats of a system for a group; None where nothing but memory bounds them.

    Raises `InvalidRequest` where the budget does not hold a single sequence.
    """
    if system.seats != AUTO:
        return system.seats
    if group.seats is not None:
        return group.seats
    assert kv_tokens is not None, "the scenario saw to it"
    seats = kv_tokens // group.longest
    if not seats:
        raise InvalidRequest(
            f"kv_tokens: {kv_tokens} hold no sequence of {group.longest} tokens, as workload "
            f"{group.name!r} allows",
            field="kv_tokens",
        )
    return seats


def kv_blocks(system: System, group: RunGroup, kv_tokens: int, block_size: int) -> int:
    """Blocks that hold the budget.

    Seats that were worked out stand for rows in one piece, which need no whole blocks: so that
    rounding to blocks takes no seat away, such a system gets whole blocks for each of them.
    """
    row = -(-group.longest // block_size)
    blocks = kv_tokens // block_size
    seats = seats_of(system, group, kv_tokens)
    if system.seats == AUTO and seats is not None:
        return seats * row if group.seats is not None else max(blocks, seats * row)
    if blocks < row:
        raise InvalidRequest(
            f"kv_tokens: {kv_tokens} hold no sequence of {group.longest} tokens, as workload "
            f"{group.name!r} allows",
            field="kv_tokens",
        )
    return blocks


def config_for(
    scenario: Scenario,
    system: System,
    group: RunGroup,
    *,
    block_bytes: int | None,
    record: str | None,
) -> EngineConfig:
    """Settings of the engine for a system and a group.

    `block_bytes` is what a block takes, as `measure_block` finds it; None without a budget.
    """
    assert system.policy is not None, "what is outside has no settings here"
    memory = None
    if scenario.kv_tokens is not None and block_bytes is not None:
        size = scenario.engine.block_size
        memory = kv_blocks(system, group, scenario.kv_tokens, size) * block_bytes
    wait = scenario.engine.dynamic_wait if system.dynamic_wait is None else system.dynamic_wait
    return replace(
        scenario.engine,
        model=scenario.model,
        policy=system.policy,
        dynamic_wait=wait,
        max_num_seqs=seats_of(system, group, scenario.kv_tokens),
        max_model_len=group.longest,
        kv_cache_memory=memory,
        kv_reservation=system.kv_reservation,
        # Prompts differ; what a cache would find are those of the run before.
        enable_prefix_caching=False,
        record=record,
    )


async def measure_block(config: EngineConfig) -> int:
    """Bytes of one block of the KV cache under these settings; starts an engine to ask it."""
    small = replace(
        config, max_model_len=config.block_size, max_num_seqs=1, kv_cache_memory=None, record=None
    )
    async with await AsyncLLM.start(small) as llm:
        info = llm.client.info
        return info.kv_bytes // info.num_blocks


@dataclass(frozen=True, slots=True, kw_only=True)
class RunGroup:
    """One workload at one rate."""

    name: str
    workload: Workload
    rate: float | None
    """Requests a second; None: all at once, or as a trace has it."""
    coefficient_of_variation: float
    """Standard deviation of the output lengths over their mean."""
    objectives: tuple[Objective, ...] = ()
    seats: int | None = None
    """What "auto" seats are here; None: worked out from the budget."""

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence that its callers allow."""
        return max(job.prompt_tokens + job.cap for job in self.workload.jobs)


def make_groups(load: ScenarioLoad, *, seed: int, reached: Mapping[str, float]) -> list[RunGroup]:
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
        prompt=parse_lengths(str(load.prompt), field="prompt"),
        output=parse_lengths(str(load.output), field="output"),
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


def _group(load: ScenarioLoad, name: str, workload: Workload, rate: float | None) -> RunGroup:
    return RunGroup(
        name=name,
        workload=workload,
        rate=rate,
        coefficient_of_variation=coefficient_of_variation(workload),
        objectives=parse_objectives(load.slo, field="slo") if load.slo else (),
        seats=load.seats,
    )
