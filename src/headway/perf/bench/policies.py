"""All systems of a scenario on all its workloads, one run at a time, made into a report.

Repeats are interleaved and every round starts with another system, so that a machine whose speed
drifts favours none; of the repeats the median run is shown. A system that cannot run is left out,
with the reason among the report's notes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from headway.errors import HeadwayError, InvalidRequest
from headway.perf.bench.groups import RunGroup, make_groups, measure_block
from headway.perf.bench.padded import TransformersProcess, load_message, transformers_version
from headway.perf.bench.scenario import Scenario, ScenarioLoad, System
from headway.perf.bench.systems import (
    SystemResult,
    measure_engine,
    measure_transformers,
    measure_url,
)
from headway.perf.report.overload import overload_warning
from headway.perf.report.run import Report, Run, about_this_machine, build_report, median_run
from headway.steptime.model import StepTimeModel
from headway.steptime.passes import PassCurve, pass_curve
from headway.wire import EngineInfo, LearnedModel

Log = Callable[[str], None]
OnReport = Callable[[Report], None]

FIGURE = "total_token_throughput"
"""By which the median run is chosen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyComparison:
    """The result of a scenario."""

    report: Report
    failures: tuple[str, ...]
    """Systems that should have run and did not, or answered with errors."""


async def compare(
    scenario: Scenario,
    *,
    log: Log,
    on_report: OnReport | None = None,
    about: Mapping[str, str] | None = None,
) -> PolicyComparison:
    """Run a scenario. `log` is called with a line for every run, `on_report` with the report so far
    after every group.

    `about` is added to what the report says of machine and settings. Raises `HeadwayError` where
    not a single run succeeded.
    """
    bench = _Bench(scenario, log)
    try:
        for load in scenario.workloads:
            reached = {name: bench.reached(name) for name in (load.of,) if name is not None}
            for group in make_groups(load, seed=scenario.seed, reached=reached):
                await bench.run_group(load, group)
                if on_report is not None:
                    on_report(bench.report(about or {}))
    finally:
        await bench.close()
    if not bench.runs:
        raise HeadwayError("no system could run: " + "; ".join(bench.failures or bench.notes))
    return PolicyComparison(report=bench.report(about or {}), failures=tuple(bench.failures))


@dataclass(slots=True)
class _Bench:
    """A scenario while it runs."""

    scenario: Scenario
    log: Log
    runs: list[Run] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    info: EngineInfo | None = None
    _finished_runs: int = 0
    _block_bytes: int | None = None
    _fastest: dict[str, float] = field(default_factory=dict)
    _processes: dict[str | None, TransformersProcess] = field(default_factory=dict)
    _models: dict[int, tuple[EngineInfo, LearnedModel]] = field(default_factory=dict)
    """By an engine's threads, what the one that learned from most steps told."""

    async def run_group(self, load: ScenarioLoad, group: RunGroup) -> None:
        """All repeats of all systems on a group of the workload."""
        found: dict[str, list[Run]] = {}
        available = [
            system for system in self.scenario.taking_part(load) if self._is_available(system)
        ]
        times = {
            system.name: system.repeats or load.repeats or self.scenario.repeats
            for system in available
        }
        for number in range(max(times.values(), default=0)):
            turn = number % len(available)
            for system in available[turn:] + available[:turn]:
                # One that failed once is not tried again.
                if number < times[system.name] and len(found.get(system.name, ())) == number:
                    which = f"run {number + 1} of {times[system.name]}"
                    run = await self._run_once(system, group, which)
                    if run is not None:
                        found.setdefault(system.name, []).append(run)
        for system in available:
            if system.name in found:
                run = median_run(found[system.name], FIGURE)
                run = replace(run, settings=dict(run.settings) | {"runs": len(found[system.name])})
                self.runs.append(run)
                if run.kind == "engine":
                    rate = run.summary.get("request_throughput", 0.0)
                    self._fastest[load.name] = max(rate, self._fastest.get(load.name, 0.0))

    def reached(self, load: str) -> float:
        """The most requests a second at which this engine answered a workload that is done."""
        if not self._fastest.get(load):
            raise InvalidRequest(
                f"nothing of this engine ran on workload {load!r}, of which loads are shares",
                field="of",
            )
        return self._fastest[load]

    def report(self, about: Mapping[str, str]) -> Report:
        """The report of the runs so far."""
        passes = self._passes()
        report = build_report(
            title=self.scenario.title,
            runs=self.runs,
            about=about_this_machine() | self._about() | dict(about),
            price=self.scenario.price,
            notes=[
                *([self.scenario.about] if self.scenario.about else []),
                *self.notes,
                *(curve.text for curve in passes),
            ],
        )
        return replace(report, passes=tuple(passes))

    def _passes(self) -> list[PassCurve]:
        """How far it pays to compute prompts together, by what engines learned of their steps."""
        curves = []
        for threads, (info, learned) in sorted(self._models.items()):
            if info.sizes is not None and info.machine is not None:
                model = StepTimeModel(info.sizes, info.machine, learned.coefficients)
                name = f"{self.scenario.model} on {info.hardware.device}"
                curves.append(pass_curve(f"{name}, {_threads(threads)}", model))
        return curves

    async def close(self) -> None:
        for process in self._processes.values():
            await process.close()

    def _is_available(self, system: System) -> bool:
        if system.external == "transformers" and transformers_version() is None:
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
        self._learn(measured)
        for warning in (measured.warning, overload_warning(run.records)):
            if warning is not None:
                self._note(f"{group.name}, {system.name}: {warning}")
        if summary.get("failed"):
            errors = sorted({record.error for record in run.records if record.outcome != "ok"})
            self._fail(
                f"{group.name}, {system.name}: {summary['failed']:.0f} requests failed: {errors[0]}"
            )
        self._finished_runs += 1
        self.log(
            f"[{self._finished_runs}] {group.name} | {system.name} | {which}: "
            f"{summary.get('output_throughput', 0.0):,.0f} output tokens/s, "
            f"latency p50 {summary.get('p50_e2el_ms', 0.0) / 1e3:.2f} s, "
            f"{summary['duration']:.1f} s"
        )
        return run

    def _learn(self, measured: SystemResult) -> None:
        info, model = measured.info, measured.model
        if info is None or model is None:
            return
        threads = info.hardware.threads
        if threads not in self._models or model.steps > self._models[threads][1].steps:
            self._models[threads] = (info, model)

    async def _measure(self, system: System, group: RunGroup) -> SystemResult:
        scenario = self.scenario
        if system.external == "url":
            return await measure_url(scenario, system, group)
        if system.external == "transformers":
            process = self._processes.get(system.dtype)
            if process is None:
                message = load_message(
                    scenario.model, dtype=system.dtype, device=scenario.engine.device
                )
                process = self._processes[system.dtype] = await TransformersProcess.start(message)
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
            found = info.hardware
            rows["Engine"] = (
                f"{found.backend}, weights {found.dtype}, KV cache {found.kv_cache_dtype}, "
                f"{found.device}"
            )
            if not any(system.fleet.replicas > 1 for system in scenario.systems):
                rows["Engine"] += f", {_threads(found.threads)}"
        if self._processes:
            rows["transformers"] = f"{transformers_version()}, " + ", ".join(
                process.dtype for process in self._processes.values()
            )
        return rows

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)
            self.log(text)

    def _fail(self, text: str) -> None:
        self.failures.append(text)
        self._note(text)


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"
