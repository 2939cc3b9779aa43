"""Run groups: the requests that several systems of a scenario get alike, under one memory budget.

A workload with several rates is several groups of the same requests, which arrive at other times.
The budget is tokens of KV cache. Without paging it holds whole sequences, prompt and all that the
caller allows, so it bounds the slots; with paging it holds the tokens that there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from headway.config import EngineConfig
from headway.errors import InvalidRequest
from headway.llm import AsyncLLM
from headway.perf.bench.scenario import AUTO, Scenario, ScenarioLoad, System
from headway.perf.workload.lengths import parse_lengths
from headway.perf.workload.synthetic import at_once, gamma, length_cv, rearrive, synthesize
from headway.perf.workload.traces import read_trace
from headway.perf.workload.workload import Workload
from headway.types.objectives import Objective, parse_objectives


def slots_of(system: System, group: RunGroup, kv_tokens: int | None) -> int | None:
    """Slots of a system for a group; None where nothing but memory bounds them.

    Raises `InvalidRequest` where the budget does not hold a single sequence.
    """
    if system.slots != AUTO:
        return system.slots
    if group.slots is not None:
        return group.slots
    assert kv_tokens is not None, "the scenario saw to it"
    slots = kv_tokens // group.longest
    if not slots:
        raise _too_small(group, kv_tokens)
    return slots


def kv_blocks(system: System, group: RunGroup, kv_tokens: int, block_size: int) -> int:
    """Blocks that hold the budget.

    Slots that were derived from the budget stand for contiguous rows, which need no whole blocks:
    so that rounding to blocks takes no slot away, such a system gets whole blocks for each of them.
    """
    row = -(-group.longest // block_size)
    blocks = kv_tokens // block_size
    slots = slots_of(system, group, kv_tokens)
    if system.slots == AUTO and slots is not None:
        return slots * row if group.slots is not None else max(blocks, slots * row)
    if blocks < row:
        raise _too_small(group, kv_tokens)
    return blocks


def _too_small(group: RunGroup, kv_tokens: int) -> InvalidRequest:
    return InvalidRequest(
        f"kv_tokens: {kv_tokens} hold no sequence of {group.longest} tokens, as workload "
        f"{group.name!r} allows",
        field="kv_tokens",
    )


def config_for(
    scenario: Scenario,
    system: System,
    group: RunGroup,
    *,
    block_bytes: int | None,
    record: str | None,
) -> EngineConfig:
    """Settings of the engine, or of each engine, for a system and a group.

    `block_bytes` is what a block takes, as `measure_block` finds it; None without a budget.
    """
    assert system.policy is not None, "external systems have no settings here"
    memory = None
    tokens = scenario.kv_tokens_of(system)
    if tokens is not None and block_bytes is not None:
        memory = kv_blocks(system, group, tokens, scenario.engine.block_size) * block_bytes
    return replace(
        scenario.engine,
        model=scenario.model,
        policy=system.policy,
        policy_options={**scenario.engine.policy_options, **system.policy_options},
        max_num_seqs=slots_of(system, group, tokens),
        max_model_len=group.longest,
        kv_cache_memory=memory,
        kv_reservation=system.kv_reservation,
        # Prompts differ: a cache would find only those of the run before.
        enable_prefix_caching=scenario.hands_over,
        record=record,
        slo=",".join(map(str, group.objectives)) or None,
    )


async def measure_block(config: EngineConfig) -> int:
    """Bytes of one block of the KV cache under these settings; starts an engine to ask it."""
    small = replace(
        config, max_model_len=config.block_size, max_num_seqs=1, kv_cache_memory=None, record=None
    )
    async with await AsyncLLM.start(small) as llm:
        info = llm.client.info
        return info.kv_bytes // info.scheduler.num_blocks


@dataclass(frozen=True, slots=True, kw_only=True)
class RunGroup:
    """One workload at one rate."""

    name: str
    workload: Workload
    rate: float | None
    """Requests a second; None: all at once, or as a trace has it."""
    length_cv: float | None
    """Coefficient of variation of the output lengths."""
    objectives: tuple[Objective, ...] = ()
    slots: int | None = None
    """What "auto" slots are here; None: derived from the budget."""

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence that its callers allow."""
        return max(request.prompt_tokens + request.cap for request in self.workload.requests)


def make_groups(load: ScenarioLoad, *, seed: int, reached: Mapping[str, float]) -> list[RunGroup]:
    """The groups of a workload; `reached` is requests a second by name of a workload before it.

    Raises `InvalidRequest` that names what of the workload is wrong.
    """
    if load.trace is not None:
        workload = read_trace(
            Path(load.trace),
            num_requests=load.requests,
            length_scale=load.length_scale,
            rate_scale=load.rate_scale,
        )
        return [_group(load, load.name, workload, None)]
    workload = synthesize(
        num_requests=load.requests,
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
        length_cv=length_cv(workload),
        objectives=parse_objectives(load.slo, field="slo") if load.slo else (),
        slots=load.slots,
    )
