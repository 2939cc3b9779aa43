"""`headway bench policies` as a command: flags over the scenario, and a whole small run."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest

from headway.cli import bench_policies
from headway.cli.bench_policies import adapted, configure, run
from headway.cli.main import main
from headway.errors import InvalidRequest
from headway.perf.bench.policies import PolicyComparison
from headway.perf.bench.scenario import Scenario, load_scenario
from headway.perf.report.price import HourlyPrice
from headway.perf.report.run import Run, build_report, read_report

SMALL = """
title: two policies
kv_tokens: 512
repeats: 1
warmup: 1
engine: {threads: 1, block_size: 16}
price_per_hour: 1.5
systems:
- {name: "static, padded", policy: static, padded: true, slots: 2}
- {name: reserved, policy: continuous, slots: auto, kv_reservation: full}
workloads:
- {name: burst, requests: 4, prompt: 8, output: "uniform:2:9", cap: 24}
- {name: stream, requests: 3, prompt: 8, output: 4, of: burst, loads: [0.5], systems: [reserved]}
"""


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    configure(parser)
    return parser.parse_args(words)


def scenario_of(*words: str) -> Scenario:
    arguments = parsed(*words)
    return adapted(load_scenario(arguments.scenario), arguments)


def test_without_flags_the_scenario_stands() -> None:
    assert parsed().scenario == "policies"
    assert scenario_of("quick") == load_scenario("quick")


def test_flags_replace_what_the_scenario_says() -> None:
    words = ["--model", "mine", "--repeats", "2", "--price-per-hour", "0.5", "--dtype", "int4"]
    words += ["--currency", "EUR"]
    changed = scenario_of("published-cpu", *words, "--block-size", "64", "--threads", "3")
    assert changed.price == HourlyPrice(0.5, "EUR")
    assert (changed.model, changed.repeats, changed.price_per_hour) == ("mine", 2, 0.5)
    assert (changed.engine.dtype, changed.engine.block_size, changed.engine.threads) == (
        "int4",
        64,
        3,
    )
    assert {system.repeats for system in changed.systems} == {None}
    assert {load.repeats for load in changed.workloads} == {None}


def test_systems_and_workloads_can_be_chosen_and_servers_added() -> None:
    chosen = scenario_of(
        *("policies", "--systems", "static", "continuous", "--workloads", "high spread"),
        *("arrivals", "--url", "http://localhost:8001"),
    )
    assert [system.name for system in chosen.systems] == [
        "static",
        "continuous",
        "http://localhost:8001",
    ]
    assert [load.name for load in chosen.workloads] == ["high spread", "arrivals"]
    for load in chosen.workloads:
        assert chosen.taking_part(load)[-1].url == "http://localhost:8001"


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (("quick", "--systems", "best"), "--systems"),
        (("quick", "--workloads", "night"), "--workloads"),
        (("policies", "--workloads", "arrivals"), "workloads"),
        (("quick", "--repeats", "0"), "repeats"),
        (("quick", "--block-size", "17"), "block_size"),
        (("nothing.yaml",), "scenario"),
    ],
)
def test_what_cannot_be_is_named(words: tuple[str, ...], field: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        scenario_of(*words)
    assert raised.value.field == field


def test_reports_are_written_and_failures_are_the_exit_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [Run(system="static", group="burst", summary={"output_throughput": 12.0})]
    assert main(["bench", "policies", "quick", "--currency", "EUR"]) == 1
    assert "--currency needs --price-per-hour" in capsys.readouterr().err
    report = build_report(title="two policies", runs=runs)

    async def compare(scenario: Scenario, **given: object) -> PolicyComparison:
        assert given["about"] == {"Commit": "abc"}
        log, on_report = given["log"], given["on_report"]
        assert callable(log)
        assert callable(on_report)
        log("one run")
        on_report(report)
        return PolicyComparison(report=report, failures=("static: out of memory",))

    monkeypatch.setattr(bench_policies, "compare", compare)
    json_path, html_path = tmp_path / "report.json", tmp_path / "report.html"
    words = ("quick", "--json", str(json_path), "--html", str(html_path), "--about", "Commit=abc")
    assert run(parsed(*words)) == 1
    assert read_report(json_path).title == "two policies"
    assert "two policies" in html_path.read_text()
    shown = capsys.readouterr()
    assert shown.out.startswith("Static gives 12.0 tokens a second\n\ntwo policies\n")
    assert shown.err == "one run\n"
    with pytest.raises(InvalidRequest, match="no folder"):
        run(parsed("quick", "--html", str(tmp_path / "missing" / "report.html")))


@pytest.mark.model
def test_a_small_scenario_on_the_real_engine(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SMALL)
    command = [sys.executable, "-m", "headway", "--log-level", "error", "bench", "policies"]
    command += [str(tmp_path / "small.yaml"), "--json", str(tmp_path / "report.json")]
    command += ["--html", str(tmp_path / "report.html")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert "static, padded" in done.stdout
    padded, reserved, stream = read_report(tmp_path / "report.json").runs
    assert [run.system for run in (padded, reserved, stream)] == [
        "static, padded",
        "reserved",
        "reserved",
    ]
    asked = [record.output_tokens for record in reserved.records]
    assert len(asked) == 4
    assert all(2 <= tokens <= 9 for tokens in asked)
    assert [record.output_tokens for record in padded.records] == asked
    assert all(record.outcome == "ok" for run in (padded, reserved) for record in run.records)
    # 512 tokens hold 16 sequences of 8 and 24; two groups of two have been padded.
    assert (padded.settings["slots"], reserved.settings["slots"]) == (2, 16)
    assert (reserved.settings["kv_reservation"], reserved.settings["preemptions"]) == ("full", 0)
    assert reserved.settings["kv_blocks"] == 32
    assert padded.slots == 2
    assert {bar.slot for bar in padded.bars} == {0, 1}
    assert {bar.request for bar in reserved.bars} == {f"request-{number}" for number in range(1, 5)}
    assert all(0 <= bar.begin <= bar.first <= bar.end for bar in (*padded.bars, *reserved.bars))
    assert padded.idle_share is not None
    assert "p50_itl_ms" not in padded.summary
    assert reserved.summary["p50_itl_ms"] > 0
    assert reserved.cost_per_million is not None
    assert stream.rate == pytest.approx(0.5 * _fastest(padded, reserved))
    assert json.loads((tmp_path / "report.json").read_text())["title"] == "two policies"


APART = """
title: roles
kv_tokens: 1024
repeats: 1
warmup: 2
engine: {threads: 1, block_size: 16}
systems:
- {name: together, policy: paced, replicas: 2}
- {name: apart, policy: paced, roles: "prefill,decode", fixed_roles: true}
workloads:
- {name: burst, requests: 6, prompt: "uniform:20:90", output: "uniform:3:9", cap: 24}
"""


@pytest.mark.model
def test_aggregated_and_disaggregated_side_by_side_on_real_engines(tmp_path: Path) -> None:
    (tmp_path / "apart.yaml").write_text(APART)
    command = [sys.executable, "-m", "headway", "--log-level", "error", "bench", "policies"]
    command += [str(tmp_path / "apart.yaml"), "--json", str(tmp_path / "report.json")]
    command += ["--html", str(tmp_path / "report.html")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    report = read_report(tmp_path / "report.json")
    together, apart = report.runs
    for each in (together, apart):
        assert [record.outcome for record in each.records] == ["ok"] * 6
        assert each.settings["replicas"] == 2
        assert each.settings["kv_blocks"] == 64, "half of them are each engine's"
        assert each.slots is None
        assert {bar.request for bar in each.bars} == {f"request-{number}" for number in range(1, 7)}
        assert each.percent_of_limit is None
    assert [record.output_tokens for record in apart.records] == [
        record.output_tokens for record in together.records
    ]
    assert "handed_over" not in together.settings
    assert (apart.settings["roles"], apart.settings["fixed_roles"]) == ("prefill,decode", "true")
    assert apart.settings["handed_over"] == 6, "those of the warm-up do not count"
    (curve,) = report.passes
    assert curve.name.endswith("1 thread")
    page = (tmp_path / "report.html").read_text()
    assert "Requests in flight" in page
    assert "Tokens in a pass against percent of limit" in page


def _fastest(*runs: Run) -> float:
    return max(run.summary["request_throughput"] for run in runs)


def test_objectives_are_put_on_all_workloads() -> None:
    changed = scenario_of("policies", "--slo", "ttft_p99=1s")
    assert {load.slo for load in changed.workloads} == {"ttft_p99=1s"}
    with pytest.raises(InvalidRequest, match="is no objective") as raised:
        scenario_of("policies", "--slo", "soon")
    assert raised.value.field == "--slo"
