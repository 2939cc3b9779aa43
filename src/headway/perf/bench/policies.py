"""All systems of a scenario on all its workloads, one run at a time, made into a report.

Repeats are interleaved and every round starts with another system, so that a machine whose speed
drifts is unjust to nobody; of the repeats the median run is shown. A system that cannot run is left
out, with the reason among the report's notes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from headway.errors import HeadwayError, InvalidRequest
from headway.perf.bench.external import TransformersProcess, order_for, transformers_version
from headway.perf.bench.groups import RunGroup, make_groups, measure_block
from headway.perf.bench.scenario import Scenario, ScenarioLoad, System
from headway.perf.bench.systems import (
    SystemResult,
    measure_engine,
    measure_transformers,
    measure_url,
)
from headway.perf.report.run import Report, Run, about_this_machine, build_report, median_run
from headway.wire import EngineInfo

Tell = Callable[[str], None]
Keep = Callable[[Report], None]

FIGURE = "total_token_throughput"
"""By which the median run is chosen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyComparison:
    """What came of a scenario."""

    report: Report
    failures: tuple[str, ...]
    """Systems that should have run and did not, or answered with errors."""


async def compare(
    scenario: Scenario,
    *,
    tell: Tell,
    keep: Keep | None = None,
    about: Mapping[str, str] | None = None,
) -> PolicyComparison:
    """Run a scenario. `tell` hears a line for every run, `keep` the report after every group.

    `about` is added to what the report says of machine and settings. Raises `HeadwayError` where
    not a single run succeeded.
    """
    bench = _Bench(scenario, tell)
    try:
        for load in scenario.workloads:
            reached = {name: bench.reached(name) for name in (load.of,) if name is not None}
            for group in make_groups(load, seed=scenario.seed, reached=reached):
                await bench.run_group(load, group)
                if keep is not None:
                    keep(bench.report(about or {}))
    finally:
        await bench.close()
    if not bench.runs:
        raise HeadwayError("no system could run: " + "; ".join(bench.failures or bench.notes))
    return PolicyComparison(report=bench.report(about or {}), failures=tuple(bench.failures))


@dataclass(slots=True)
class _Bench:
    """A scenario under way."""

    scenario: Scenario
    tell: Tell
    runs: list[Run] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    info: EngineInfo | None = None
    _done: int = 0
    _block_bytes: int | None = None
    _fastest: dict[str, float] = field(default_factory=dict)
    _loaded: dict[str | None, TransformersProcess] = field(default_factory=dict)

    async def run_group(self, load: ScenarioLoad, group: RunGroup) -> None:
        """All repeats of all systems on a group of the workload."""
        found: dict[str, list[Run]] = {}
        able = [system for system in self.scenario.taking_part(load) if self._able(system)]
        times = {
            system.name: system.repeats or load.repeats or self.scenario.repeats for system in able
        }
        for number in range(max(times.values(), default=0)):
            turn = number % len(able)
            for system in able[turn:] + able[:turn]:
                # One that failed once is not tried again.
                if number < times[system.name] and len(found.get(system.name, ())) == number:
                    which = f"run {number + 1} of {times[system.name]}"
                    run = await self._run_once(system, group, which)
                    if run is not None:
                        found.setdefault(system.name, []).append(run)
        for system in able:
            if system.name in found:
                run = median_run(found[system.name], FIGURE)
                run = replace(run, settings=dict(run.settings) | {"runs": len(found[system.name])})
                self.runs.append(run)
                if run.kind == "engine":
                    rate = run.summary.get("request_throughput", 0.0)
                    self._fastest[load.name] = max(rate, self._fastest.get(load.name, 0.0))

    def reached(self, load: str) -> float:
        """The most requests a second that this engine answered of a workload that is done."""
        if not self._fastest.get(load):
            raise InvalidRequest(
                f"nothing of this engine ran on workload {load!r}, of which loads are shares",
                field="of",
            )
        return self._fastest[load]

    def report(self, about: Mapping[str, str]) -> Report:
        """What there is so far."""
        return build_report(
            title=self.scenario.title,
            runs=self.runs,
            about=about_this_machine() | self._about() | dict(about),
            price_per_hour=self.scenario.price_per_hour,
            notes=([self.scenario.about] if self.scenario.about else []) + self.notes,
        )

    async def close(self) -> None:
        for process in self._loaded.values():
            await process.close()

    def _able(self, system: System) -> bool:
        if system.outside == "transformers" and transformers_version() is None:
            self._note(
                f"{system.name} was left out: transformers is not installed "
                "(pip install 'headway[bench]')"
            )
            return False
        return True

    async def _run_once(self, system: System, group: RunGroup, which: str) -> Run | None:
        try:
            measured = await self._measure(system, group)
        except HeadwayError as error:
            self._fail(f"{group.name}, {system.name}: {error.message}")
            return None
        run, summary = measured.run, measured.run.summary
        self.info = measured.info or self.info
        if measured.warning is not None:
            self._note(f"{group.name}, {system.name}: {measured.warning}")
        if summary.get("failed"):
            errors = sorted({record.error for record in run.records if record.outcome != "ok"})
            self._fail(
                f"{group.name}, {system.name}: {summary['failed']:.0f} requests failed: {errors[0]}"
            )
        self._done += 1
        self.tell(
            f"[{self._done}] {group.name} | {system.name} | {which}: "
            f"{summary.get('output_throughput', 0.0):,.0f} output tokens/s, "
            f"latency p50 {summary.get('p50_e2el_ms', 0.0) / 1e3:.2f} s, "
            f"{summary['duration']:.1f} s"
        )
        return run

    async def _measure(self, system: System, group: RunGroup) -> SystemResult:
        scenario = self.scenario
        if system.outside == "url":
            return await measure_url(scenario, system, group)
        if system.outside == "transformers":
            process = self._loaded.get(system.dtype)
            if process is None:
                order = order_for(scenario.model, dtype=system.dtype, device=scenario.engine.device)
                process = self._loaded[system.dtype] = await TransformersProcess.start(order)
            return await measure_transformers(scenario, system, group, process)
        if scenario.kv_tokens is not None and self._block_bytes is None:
            self._block_bytes = await measure_block(replace(scenario.engine, model=scenario.model))
        return await measure_engine(scenario, system, group, block_bytes=self._block_bytes)

    def _about(self) -> dict[str, str]:
        scenario, info = self.scenario, self.info
        rows = {"Model": scenario.model, "Seed": str(scenario.seed)}
        if scenario.kv_tokens is not None:
            rows["KV cache"] = f"{scenario.kv_tokens:,} tokens for every system"
        if info is not None:
            rows["Engine"] = (
                f"{info.backend}, weights {info.dtype}, KV cache {info.kv_cache_dtype}, "
                f"{info.device}, {info.threads} threads"
            )
        if self._loaded:
            rows["transformers"] = f"{transformers_version()}, " + ", ".join(
                process.dtype for process in self._loaded.values()
            )
        return rows

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)
            self.tell(text)

    def _fail(self, text: str) -> None:
        self.failures.append(text)
        self._note(text)
