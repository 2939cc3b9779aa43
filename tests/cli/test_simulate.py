"""`headway simulate` from its flags to its tables and files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from headway.cli.main import main
from headway.perf.report.run import read_report
from headway.perf.sim.roofline import known_device, known_model, roofline_profile
from headway.scheduling.policy import POLICIES
from headway.steptime.profiles import keep_profile
from tests.perf.sim.setups import profile_of
from tests.perf.sim.test_replay import a_recording
from tests.recording.samples import write_recordings

H200 = ("simulate", "--device", "h200", "--model", "llama-3.1-8b")
FEW = ("--num-prompts", "20", "--input-len", "32", "--output-len", "uniform:4:16")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEADWAY_HOME", str(tmp_path / "home"))
    return tmp_path


def complaint(capsys: pytest.CaptureFixture[str], *flags: str) -> str:
    assert main(flags) == 1
    return capsys.readouterr().err


def test_a_table_and_how_fast_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*H200, *FEW, "--price-per-hour", "4", "--currency", "EUR"]) == 0
    out, err = capsys.readouterr()
    assert "llama-3.1-8b on NVIDIA H200 SXM, simulated" in out
    assert "paced" in out
    assert "cost" in out
    assert "from 207 tokens on arithmetic hides reading the weights" in out
    assert " EUR" in out
    assert "20 requests" in err
    assert "times as fast" in err


def test_the_slots_are_drawn(home: Path) -> None:
    drawing = home / "slots.svg"
    assert main([*H200, *FEW, "--compare-policies", "--svg", str(drawing)]) == 0
    text = drawing.read_text()
    assert all(f">{policy}</tspan>" in text for policy in POLICIES)
    assert main([*H200, *FEW, "--svg", str(home / "again.svg"), "--policy", "static"]) == 0
    assert "paced" not in (home / "again.svg").read_text()


def test_reports_and_records_are_written(home: Path) -> None:
    files = {name: home / f"report.{name}" for name in ("json", "html", "jsonl")}
    flags = ["--json", str(files["json"]), "--html", str(files["html"])]
    assert main([*H200, *FEW, *flags, "--records", str(files["jsonl"]), "--compare-policies"]) == 0
    report = read_report(files["json"])
    assert [run.system for run in report.runs] == list(POLICIES)
    assert all(run.kind == "simulated" and run.bars for run in report.runs)
    (passes,) = report.passes
    assert passes.name == "llama-3.1-8b on NVIDIA H200 SXM"
    assert ">Tokens in a pass against percent of limit</h2>" in files["html"].read_text()
    assert "<svg" in files["html"].read_text()
    assert len(files["jsonl"].read_text().splitlines()) == len(POLICIES) * 20


def test_settings_of_the_engine_and_the_fleet_count(home: Path) -> None:
    path = home / "report.json"
    flags = ("--policy", "static", "--max-num-seqs", "4", "--block-size", "32", "--num-blocks", "9")
    fleet = ("--replicas", "2", "--router", "least-requests", "--kv-reservation", "full")
    assert main([*H200, *FEW, *flags, *fleet, "--json", str(path)]) == 0
    (run,) = read_report(path).runs
    assert run.settings == {
        "policy": "static",
        "max_num_seqs": 4,
        "max_num_batched_tokens": 8192,
        "KV cache tokens": 288,
        "kv_reservation": "full",
        "replicas": 2,
        "router": "least-requests",
    }


def test_drafts_that_are_right_as_often_as_is_said(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = home / "report.json"
    one = ("--num-prompts", "1", "--input-len", "32", "--output-len", "200", "--json", str(path))
    some = ("--speculative-config", '{"num_speculative_tokens": 3}', "--acceptance", "0.8")
    assert main([*H200, *one, *some]) == 0
    (run,) = read_report(path).runs
    assert 1.5 < run.summary["tokens_per_step"] < 4
    assert 60 < run.summary["spec_decode_acceptance_rate"] < 90
    assert run.settings["acceptance"] == 0.8
    out = capsys.readouterr().out
    assert "a step" in out
    assert "right with probability 0.8" in out
    assert main([*H200, *one]) == 0
    assert "tokens_per_step" not in read_report(path).runs[0].summary


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--acceptance", "1.5"), "--acceptance must be from 0 to 1, not 1.5"),
        (("--acceptance", "nan"), "--acceptance must be from 0 to 1"),
        (("--speculative-config", "{}"), "--speculative-config needs --acceptance"),
        (
            ("--speculative-config", '{"model": "m"}', "--acceptance", "0.5"),
            "a draft model's own time is not simulated",
        ),
        (
            ("--speculative-config", '{"mode": "m"}', "--acceptance", "0.5"),
            "did you mean model",
        ),
    ],
)
def test_drafts_that_cannot_be_simulated(
    flags: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert words in complaint(capsys, *H200, *FEW, *flags)


def test_the_kv_cache_may_be_given_in_bytes(home: Path) -> None:
    path = home / "report.json"
    assert main([*H200, *FEW, "--kv-cache-memory", "1GiB", "--json", str(path)]) == 0
    # 32 layers of keys and values, 8 heads of 128, two bytes each: 128 KiB a token.
    assert read_report(path).runs[0].settings["KV cache tokens"] == 8192


def test_the_kept_profile_of_a_model_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    keep_profile(profile_of())
    assert main(["simulate", "--model", "toy", *FEW]) == 0
    assert "toy on abacus" in capsys.readouterr().out


def test_a_profile_from_a_file(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = home / "mine.json"
    profile = roofline_profile(known_device("l4"), known_model("qwen3-0.6b"))
    path.write_text(profile.to_json())
    assert main(["simulate", "--profile", str(path), *FEW]) == 0
    assert "qwen3-0.6b on NVIDIA L4" in capsys.readouterr().out


def test_the_smallest_fleet_for_objectives(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = home / "report.json"
    load = ("--num-prompts", "300", "--request-rate", "300", "--output-len", "64")
    slo = ("--slo", "ttft_p99=100ms,tpot_p99=8ms", "--max-num-batched-tokens", "2048")
    flags = ("--find", "replicas", "--price-per-hour", "4", "--json", str(report))
    assert main([*H200, *load, *slo, *flags]) == 0
    out, err = capsys.readouterr()
    first, *_ = out.splitlines()
    found = read_report(report)
    assert found.answer == first
    assert "ttft_p99=100ms (" in first
    assert first.split()[1] in ("replica", "replicas")
    assert any(trial.attains and trial.cost_per_million for trial in found.trials)
    assert "Found: policy paced, max_num_seqs" in out
    assert "replicas" in out.split("Found:")[1]
    tried = [line for line in err.splitlines() if "max_num_seqs" in line]
    assert len(tried) > 3
    assert all("max_num_batched_tokens 2048" in line for line in tried), "what is given stays"


def test_the_best_batch_and_the_highest_rate(capsys: pytest.CaptureFixture[str]) -> None:
    slo = ("--slo", "ttft_p99=1s", "--request-rate", "5")
    assert main([*H200, *FEW, *slo, "--find", "batch", "--max-num-seqs", "8"]) == 0
    assert capsys.readouterr().out.startswith("max_num_seqs 8 with max_num_batched_tokens")
    assert main([*H200, *FEW, *slo, "--find", "rate"]) == 0
    assert " requests/s hold ttft_p99=1s (" in capsys.readouterr().out.splitlines()[0]


def test_what_nothing_holds_is_said(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = home / "page.html"
    flags = ("--slo", "ttft=1ms", "--find", "batch", "--html", str(page))
    assert main([*H200, *FEW, *flags]) == 1
    out = capsys.readouterr().out
    assert out.startswith("Nothing that was tried holds the objectives; nearest is max_num_seqs ")
    assert "\nNearest: policy paced" in out
    assert "<h1>Nothing that was tried" in page.read_text()


def test_an_overload_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    load = ("--num-prompts", "400", "--request-rate", "40", "--input-len", "512")
    slow = ("--policy", "sequential", "--output-len", "64")
    assert main([*H200, *load, *slow]) == 0
    assert "sequential: overloaded: the queue only grew" in capsys.readouterr().out
    assert main([*H200, *load, "--output-len", "8"]) == 0
    assert "overloaded" not in capsys.readouterr().out


def test_a_recording_is_replayed_and_predicted(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = home / "steps.jsonl"
    write_recordings(path, [a_recording(), a_recording()])
    assert main(["simulate", "--replay", str(path)]) == 0
    out = capsys.readouterr().out
    assert "steps planned alike" in out
    assert "predicted" not in out, "no profile is kept for this engine"
    profile = home / "profile.json"
    profile.write_text(profile_of().to_json())
    report = home / "report.json"
    page = home / "page.html"
    flags = ("--profile", str(profile), "--json", str(report), "--html", str(page))
    assert main(["simulate", "--replay", str(path), *flags]) == 0
    out = capsys.readouterr().out
    found = read_report(report)
    assert found.prediction
    assert "steps planned alike; latency p50 predicted at worst " in found.answer
    assert f"\n{found.answer}\n\ntoy on abacus" in out
    assert f"<h1>{found.answer}</h1>" in page.read_text()
    first, second = found.runs[:2]
    assert [each.id for each in first.records] == [each.id for each in second.records]
    assert {bar.request for bar in first.bars} == {bar.request for bar in second.bars}
    assert [(run.group, run.system) for run in read_report(report).runs] == [
        (f"engine {number}, continuous", system)
        for number in (1, 2)
        for system in ("measured", "predicted")
    ]


def test_a_recording_that_is_planned_otherwise_fails(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = home / "steps.jsonl"
    write_recordings(path, [a_recording()])
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[0]["engine"]["scheduler"]["limits"]["max_num_seqs"] = 1
    path.write_text("\n".join(json.dumps(line) for line in lines))
    assert main(["simulate", "--replay", str(path)]) == 1
    assert "first difference: step" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--device", "h200"), "--model"),
        (("--device", "h200", "--model", "llama-3.1-8b", "--profile", "x"), "exclude"),
        (("--dtype", "int8"), "--device"),
        (("--profile", "x", "--model", "y"), "own model"),
        (("--profile", "nowhere"), "nowhere"),
        (("--model", "unmeasured"), "headway profile"),
        ((*H200[1:], "--replicas", "0"), "--replicas"),
        ((*H200[1:], "--router", "prefix-affine"), "called prefix now"),
        ((*H200[1:], "--router", "least-tokens"), "least-tokens is gone"),
        ((*H200[1:], "--router", "nearest"), "round-robin, least-requests, prefix, predicted"),
        ((*H200[1:], "--num-blocks", "0"), "one block"),
        ((*H200[1:], "--num-blocks", "9", "--kv-cache-memory", "1GiB"), "exclude"),
        ((*H200[1:], "--find", "batch"), "objectives"),
        ((*H200[1:], "--find", "rate", "--slo", "ttft=1s"), "at once"),
        ((*H200[1:], "--find", "replicas", "--slo", "ttft=1s", "--replicas", "2"), "leave it out"),
        (("--replay", "steps.jsonl", "--num-prompts", "3"), "--num-prompts"),
        (("--replay", "steps.jsonl", "--policy", "static"), "--policy"),
    ],
)
def test_flags_that_make_no_sense_are_errors_that_say_so(
    capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], words: str
) -> None:
    assert words in complaint(capsys, "simulate", *flags)
