"""The comparison around the measuring: order, repeats, medians, loads, and what cannot run."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from msgspec import structs

from headway.errors import EngineError, HeadwayError, InvalidRequest
from headway.perf.bench import policies
from headway.perf.bench.groups import RunGroup
from headway.perf.bench.policies import PolicyComparison, compare
from headway.perf.bench.scenario import Scenario, ScenarioLoad, System
from headway.perf.bench.systems import SystemResult, run_of, without_itls
from headway.perf.records.record import RequestRecord
from headway.perf.records.summary import summarize
from headway.perf.report.run import Report
from headway.steptime.shape import PRIOR
from headway.types.engine import Hardware
from headway.wire import EngineInfo, LearnedModel
from tests.perf.bench.test_recorded_run import ENGINE
from tests.perf.report.recordings import MACHINE, SIZES

INFO = EngineInfo(hardware=ENGINE.hardware, scheduler=ENGINE.scheduler, kv_bytes=1, weight_bytes=1)


@dataclass
class Measuring:
    """Stands in for the engines: run n of a system takes `seconds[system][n]`, or fails."""

    seconds: dict[str, list[float]]
    order: list[str] = field(default_factory=list)
    groups: list[RunGroup] = field(default_factory=list)
    blocks: list[int | None] = field(default_factory=list)
    broken: tuple[str, ...] = ()
    failing: tuple[str, ...] = ()
    warning: str | None = None
    learned: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By system, an engine's threads and from how many steps it learned."""

    async def engine(
        self, scenario: Scenario, system: System, group: RunGroup, *, block_bytes: int | None
    ) -> SystemResult:
        self.blocks.append(block_bytes)
        measured = await self.url(scenario, system, group)
        threads, steps = self.learned.get(system.name, (0, 0))
        if not threads:
            return measured
        found = Hardware(device="cpu", dtype="int8", kv_cache_dtype="int8", threads=threads)
        info = structs.replace(INFO, hardware=found, sizes=SIZES, machine=MACHINE)
        coefficients = replace(PRIOR, compute=float(steps))
        model = LearnedModel(status="learned", coefficients=coefficients, steps=steps)
        return replace(measured, info=info, model=model)

    async def url(self, scenario: Scenario, system: System, group: RunGroup) -> SystemResult:
        number = self.order.count(system.name)
        self.order.append(system.name)
        self.groups.append(group)
        if system.name in self.broken:
            raise EngineError("out of memory")
        duration = self.seconds[system.name][number % len(self.seconds[system.name])]
        failing = system.name in self.failing
        records = tuple(
            RequestRecord(
                id=str(number),
                due=0.0,
                sent=0.0,
                prompt_tokens=each.prompt_tokens,
                output_tokens=each.output,
                ttft=duration / 2,
                latency=duration,
                outcome="error" if failing else "ok",
                error="connection lost" if failing else "",
            )
            for number, each in enumerate(group.workload.requests)
        )
        run = run_of(system, group, records, duration, settings={"number": number})
        return SystemResult(run=run, warning=self.warning)


def scenario(*systems: System, **changes: Any) -> Scenario:
    given: dict[str, Any] = {
        "title": "t",
        "repeats": 3,
        "systems": systems,
        "workloads": (ScenarioLoad(name="burst", requests=4, prompt=10, output=5),),
    }
    return Scenario(**(given | changes))


def run(
    monkeypatch: pytest.MonkeyPatch, measuring: Measuring, given: Scenario, **options: Any
) -> tuple[PolicyComparison, list[str]]:
    monkeypatch.setattr(policies, "measure_engine", measuring.engine)
    monkeypatch.setattr(policies, "measure_url", measuring.url)

    async def measure_block(config: object) -> int:
        return 4096

    monkeypatch.setattr(policies, "measure_block", measure_block)
    told: list[str] = []
    return asyncio.run(compare(given, log=told.append, **options)), told


A = System(name="a", policy="static", slots=2)
B = System(name="b", policy="continuous")
C = System(name="c", external="url", url="http://localhost:1", repeats=1)


def test_repeats_are_interleaved_and_each_round_starts_with_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measuring = Measuring({"a": [3.0, 1.0, 2.0], "b": [1.0, 9.0, 5.0], "c": [4.0]})
    comparison, told = run(monkeypatch, measuring, scenario(A, B, C))
    assert measuring.order == ["a", "b", "c", "b", "a", "a", "b"]
    first, second, third = comparison.report.runs
    # The median run: second of three by throughput, in the scenario's order.
    assert [run.summary["duration"] for run in (first, second, third)] == [2.0, 5.0, 4.0]
    assert (first.settings["runs"], third.settings["runs"]) == (3, 1)
    assert [run.kind for run in (first, second, third)] == ["engine", "engine", "external"]
    assert first.summary["total_token_throughput"] == pytest.approx(4 * 15 / 2.0)
    assert len(told) == 7
    assert "burst | a | run 1 of 3" in told[0]
    assert measuring.blocks == [None] * 6, "without a budget nobody asks how large a block is"
    assert comparison.failures == ()


def test_a_budget_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    measuring = Measuring({"a": [1.0]})
    comparison, _ = run(monkeypatch, measuring, scenario(A, kv_tokens=100, repeats=2))
    assert measuring.blocks == [4096, 4096]
    assert comparison.report.about["KV cache"] == "100 tokens for every system"


def test_passes_are_drawn_of_the_engines_that_learned_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    systems = [System(name=name, policy="paced") for name in "abc"]
    measuring = Measuring(
        {name: [1.0] for name in "abc"}, learned={"a": (1, 8), "b": (2, 4), "c": (1, 2)}
    )
    comparison, _ = run(monkeypatch, measuring, scenario(*systems, repeats=1))
    report = comparison.report
    one, two = report.passes
    assert [each.name.rpartition(", ")[2] for each in report.passes] == ["1 thread", "2 threads"]
    # Arithmetic that takes eight times as long as the limit allows reaches an eighth of it.
    assert one.best == pytest.approx(100 / 8, rel=0.1)
    assert two.best == pytest.approx(100 / 4, rel=0.1)
    assert report.notes[-2:] == (one.text, two.text)
    assert report.about["Engine"].endswith("1 thread")
    fleets = [replace(system, replicas=2) for system in systems]
    comparison, _ = run(monkeypatch, measuring, scenario(*fleets, repeats=1))
    assert comparison.report.about["Engine"].endswith("cpu"), "each says its own threads"


def test_an_engine_that_told_no_model_has_no_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    comparison, _ = run(monkeypatch, Measuring({"a": [1.0]}), scenario(A, repeats=1))
    assert comparison.report.passes == ()


def test_loads_are_shares_of_the_fastest_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    measuring = Measuring({"a": [2.0], "b": [1.0], "c": [0.1]})
    loads = (
        ScenarioLoad(name="burst", requests=4, repeats=2),
        ScenarioLoad(
            name="stream", requests=4, of="burst", loads=(0.5,), systems=("b",), repeats=1
        ),
    )
    kept: list[int] = []
    comparison, _ = run(
        monkeypatch,
        measuring,
        scenario(A, B, C, workloads=loads),
        on_report=lambda report: kept.append(len(report.runs)),
        about={"Commit": "abc"},
    )
    # b answered 4 requests in a second; c was faster, but is not this engine.
    assert measuring.groups[-1].rate == pytest.approx(2.0)
    assert measuring.order == ["a", "b", "c", "b", "a", "b"]
    assert kept == [3, 4]
    assert comparison.report.about["Commit"] == "abc"


def test_a_system_that_cannot_run_is_left_out_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    measuring = Measuring({"a": [1.0], "b": [1.0]}, broken=("a",))
    comparison, told = run(monkeypatch, measuring, scenario(A, B))
    assert [run.system for run in comparison.report.runs] == ["b"]
    # It is not tried again.
    assert measuring.order == ["a", "b", "b", "b"]
    assert comparison.failures == ("burst, a: out of memory",)
    assert "burst, a: out of memory" in comparison.report.notes
    assert "burst, a: out of memory" in told


def test_requests_that_fail_are_said_and_make_the_comparison_fail(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measuring = Measuring({"a": [1.0], "b": [1.0]}, failing=("b",), warning="the client lagged")
    comparison, _ = run(monkeypatch, measuring, scenario(A, B, repeats=1))
    assert comparison.failures == ("burst, b: 4 requests failed: connection lost",)
    assert "burst, a: the client lagged" in comparison.report.notes


def test_transformers_that_is_not_installed_is_a_note_and_no_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(policies, "transformers_version", lambda: None)
    padded = System(name="naive", external="transformers", slots=2)
    comparison, _ = run(monkeypatch, Measuring({"a": [1.0]}), scenario(padded, A))
    assert [run.system for run in comparison.report.runs] == ["a"]
    assert comparison.failures == ()
    assert any("headway[bench]" in note for note in comparison.report.notes)


def test_transformers_is_loaded_once_and_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    happened: list[str] = []

    class Process:
        dtype = "bfloat16"

        @classmethod
        async def start(cls, order: object) -> Process:
            happened.append(f"start {order}")
            return cls()

        async def close(self) -> None:
            happened.append("close")

    async def measure(
        scenario: Scenario, system: System, group: RunGroup, process: object
    ) -> SystemResult:
        happened.append(system.name)
        return await measuring.url(scenario, system, group)

    measuring = Measuring({"naive": [1.0], "one by one": [1.0]})
    monkeypatch.setattr(policies, "TransformersProcess", Process)
    monkeypatch.setattr(policies, "load_message", lambda _, *, dtype, device: f"{dtype} {device}")
    monkeypatch.setattr(policies, "measure_transformers", measure)
    systems = [
        System(name=name, external="transformers", slots=2) for name in ("naive", "one by one")
    ]
    comparison, _ = run(monkeypatch, measuring, scenario(*systems, repeats=1))
    assert happened == ["start None auto", "naive", "one by one", "close"]
    assert comparison.report.about["transformers"].endswith("bfloat16")


def test_when_nothing_runs_it_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HeadwayError, match="out of memory"):
        run(monkeypatch, Measuring({}, broken=("a",)), scenario(A))


def test_loads_of_what_did_not_run_are_an_error_that_keeps_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loads = (
        ScenarioLoad(name="burst", requests=1),
        ScenarioLoad(name="s", requests=1, of="burst", loads=(1.0,)),
    )
    kept: list[Report] = []
    with pytest.raises(InvalidRequest, match="burst"):
        run(
            monkeypatch,
            Measuring({"c": [1.0]}),
            scenario(C, workloads=loads),
            on_report=kept.append,
        )
    assert [run.system for run in kept[0].runs] == ["c"]


def test_an_answer_in_one_piece_has_no_inter_token_latencies() -> None:
    record = RequestRecord(
        id="a", due=0, sent=0, prompt_tokens=1, output_tokens=3, ttft=1.0, latency=1.0, itls=(0.5,)
    )
    whole = summarize([record], duration=1.0)
    left_out = set(whole) - set(without_itls(whole))
    assert {"p50_itl_ms", "mean_tpot_ms", "largest_gap_ms"} <= left_out
    assert {"p50_ttft_ms", "output_throughput", "p99_e2el_ms"} <= set(without_itls(whole))
