"""`headway explain`: of a machine nobody owns, and of a server that runs."""

from __future__ import annotations

import dataclasses
import json
import socket
from pathlib import Path

import pytest
from msgspec.structs import replace

from headway.cli.explain_text import reported
from headway.cli.main import main
from headway.config import ServerConfig
from headway.perf.sim.roofline import known_device, known_model, roofline_profile
from headway.server.slo import Explainer
from headway.steptime.profiles import keep_profile
from headway.types.speculation import SpeculativeConfig
from headway.types.speculation_json import OFF
from tests.server.conftest import serving
from tests.server.test_metrics import HandClock
from tests.server.test_slo import busy_engine, explainer_of, fleet_of, pacing_of
from tests.steptime.world import profile

H100 = ("explain", "--device", "h100", "--model", "llama-3.1-8b")
NGRAM = SpeculativeConfig(method="ngram")
LOAD = ("--input-len", "1000", "--output-len", "200", "--slo", "ttft_p99=1s,tpot_p99=15ms")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEADWAY_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HEADWAY_URL", raising=False)
    return tmp_path


def complaint(capsys: pytest.CaptureFixture[str], *flags: str) -> str:
    assert main(flags) == 1
    return capsys.readouterr().err


def found(capsys: pytest.CaptureFixture[str], *flags: str) -> dict[str, object]:
    assert main([*H100, *flags, "--json"]) == 0
    answer: dict[str, object] = json.loads(capsys.readouterr().out)
    return answer


def test_a_machine_that_nobody_owns(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*H100, *LOAD, "--request-rate", "40", "--price-per-hour", "3"]) == 0
    rows = dict(row.strip().split("  ", 1) for row in capsys.readouterr().out.splitlines()[1:])
    assert rows["limited by"].startswith("the objective: with more than 66.9 answers at once")
    assert "22.3 requests/s, 4,461 tokens/s; now 179 % of that" in rows["can serve"]
    assert rows["lowest TPOT"] == "7.33 ms for an answer alone"
    assert rows["price"] == "twice the max_num_seqs: +0.0 % requests/s"
    assert rows["cost"].startswith("0.187 USD a million tokens")


def test_the_price_of_the_objective_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*H100, *LOAD]) == 0
    out = capsys.readouterr().out
    assert "2 ms more a step: +" in out
    assert "2 ms less a step: -" in out
    assert "now" not in out.split("can serve")[1].splitlines()[0]


def test_what_cannot_be_held_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*H100, "--slo", "tpot=5ms"]) == 0
    out = capsys.readouterr().out
    assert "not even an answer alone keeps steps within 5 ms" in out
    assert "tpot=5ms; the nearest that can be: tpot=7.3ms" in out


def test_limits_that_are_given_stay(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*H100, *LOAD[:4], "--max-num-seqs", "32"]) == 0
    assert "the limit max_num_seqs 32, as it was set" in capsys.readouterr().out
    plan = found(capsys, "--max-num-batched-tokens", "64", "--num-blocks", "100")
    assert plan["limits"] == {
        "max_num_seqs": 256,
        "max_num_batched_tokens": 64,
        "kv_cache_tokens": 1600,
        "pinned": ["max_num_batched_tokens"],
    }
    assert main([*H100, "--max-num-batched-tokens", "64"]) == 0
    assert "the limit max_num_batched_tokens 64" in capsys.readouterr().out


def test_little_memory_limits(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*H100, *LOAD[:4], "--kv-cache-memory", "1GiB"]) == 0
    out = capsys.readouterr().out
    # 128 KiB a token: see the simulator's test.
    assert "memory: the KV cache of 8,192 tokens holds 7.45 answers at once" in out


def test_lengths_are_means_of_what_fits(capsys: pytest.CaptureFixture[str]) -> None:
    plan = found(capsys, "--input-len", "uniform:100:300", "--output-len", "exponential:50")
    assert plan["prompt"] == pytest.approx(200, rel=0.02)
    assert plan["output"] == pytest.approx(50, rel=0.05)
    short = found(capsys, "--input-len", "uniform:100:300", "--max-model-len", "200")
    assert 100 < float(str(short["prompt"])) < 140
    flags = (*H100, "--input-len", "300", "--max-model-len", "200")
    assert "no such prompt and answer fit" in complaint(capsys, *flags)


def test_a_profile_that_was_measured_has_margins(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = home / "mine.json"
    path.write_text(profile().to_json())
    flags = ("--input-len", "20", "--output-len", "10", "--json")
    assert main(["explain", "--profile", str(path), *flags]) == 0
    explanation = json.loads(capsys.readouterr().out)["explanation"]
    assert explanation["step_bound"] > explanation["step_seconds"]


def test_the_kept_profile_of_a_model_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    keep_profile(roofline_profile(known_device("l4"), known_model("qwen3-0.6b")))
    assert main(["explain", "--model", "qwen3-0.6b"]) == 0
    assert "qwen3-0.6b on NVIDIA L4" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--request-rate", "0"), "--request-rate must be above 0"),
        (("--input-len", "x"), "--input-len"),
        (("--slo", "x"), "slo"),
        (("--num-blocks", "0"), "the KV cache needs room"),
        (("--num-blocks", "9", "--kv-cache-memory", "1GiB"), "exclude each other"),
        (("--max-num-seqs", "0"), "max_num_seqs must be from 1"),
        (("--url", "http://x"), "leave it or --url out"),
        (("--api-key", "x"), "leave it or --api-key out"),
    ],
)
def test_bad_flags_are_named(
    flags: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert words in complaint(capsys, *H100, *flags)


def test_a_server_that_runs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ServerConfig(port=0, api_key=("secret",))
    with serving(config=config) as server:
        engine = busy_engine(pacing_of())
        server.engine.info, server.engine.stats = engine.info, engine.stats
        assert main(["explain", "--url", server.url, "--api-key", "secret"]) == 0
        out = capsys.readouterr().out
        assert "3 running, 1 waiting; 9 tokens in a step of 200 ms" in out
        assert "limited by  arrivals" in out
        assert "learned, 7 steps seen, off by 3 % on average" in out
        monkeypatch.setenv("HEADWAY_URL", server.url + "/v1")
        assert "wants a key" in complaint(capsys, "explain")
        monkeypatch.setenv("HEADWAY_API_KEY", "secret")
        assert main(["explain", "--json"]) == 0
        report = json.loads(capsys.readouterr().out)
        assert report["explanation"]["limiting_factor"] == "arrivals"


def test_a_server_before_its_first_request(capsys: pytest.CaptureFixture[str]) -> None:
    with serving() as server:
        assert main(["explain", "--url", server.url]) == 0
        out = capsys.readouterr().out
        assert "standard  none" in out
        assert "not known before requests have been served" in out
    with serving(ready=False) as server:
        assert "is starting" in complaint(capsys, "explain", "--url", server.url)


def test_objectives_of_classes_are_shown() -> None:
    text = reported(explainer_of(None, "tpot=1ms,ttft=1s").report())
    assert "standard  tpot=1ms, ttft=1s; TTFT for prompts of up to" in text
    assert "not held  tpot=1ms; the nearest that can be:" in text


def test_of_several_engines_it_says_which_is_explained() -> None:
    text = reported(Explainer(fleet_of(0.5, 2.0), clock=HandClock()).report())
    assert "replica  1, to which most requests come, of 2\n" in text
    assert "replica" not in reported(explainer_of(pacing_of()).report())


def test_kinds_of_steps_that_are_not_known_well_are_named() -> None:
    pacing = pacing_of()
    assert pacing.model is not None
    off = replace(pacing, model=replace(pacing.model, off=("mixed", "prefill")))
    text = reported(explainer_of(off).report())
    assert (
        "learned, 7 steps seen, off by 3 % on average; far off for mixed and prefill steps" in text
    )
    assert "far off" not in reported(explainer_of(pacing).report())


@pytest.mark.parametrize(
    ("speculation", "stats", "told"),
    [
        (None, {}, "off, as it was set"),
        (OFF, {}, "off, as it was set"),
        (SpeculativeConfig(), {"running": 0}, "of grammars and predictions alone"),
        (NGRAM, {"running": 0}, "ngram"),
        (
            NGRAM,
            {"drafting": 2, "drafts": 10, "draft_tokens": 40, "accepted_tokens": 15},
            "ngram, for 2 of 3 sequences of the last step seen; 2.5 tokens a step where there were "
            "drafts, of which 37.5 % were right",
        ),
        (
            NGRAM,
            {"declined": 1200},
            "ngram, at present without drafts: none was found that is expected to pay; 1,200 times "
            "they would not have paid",
        ),
        (
            SpeculativeConfig(method="ngram", disable_by_batch_size=2),
            {},
            "ngram, at present without drafts: more sequences than disable_by_batch_size, 2",
        ),
        (
            SpeculativeConfig(method="draft_model", model="m"),
            {"drafts": 1, "draft_tokens": 2, "accepted_tokens": 2, "running": 0},
            "draft_model; 3 tokens a step where there were drafts, of which 100 % were right",
        ),
    ],
)
def test_speculation_is_explained(
    speculation: SpeculativeConfig | None, stats: dict[str, int], told: str
) -> None:
    counted = {name: count for name, count in stats.items() if name != "drafting"}
    engine = busy_engine(pacing_of(drafting=stats.get("drafting", 0)))
    scheduler = dataclasses.replace(engine.info.scheduler, speculation=speculation)
    engine.info = replace(engine.info, scheduler=scheduler)
    engine.stats = replace(engine.stats, **counted)
    lines = reported(Explainer(engine).report()).splitlines()
    rows = dict(line.strip().split("  ", 1) for line in lines)
    assert rows["speculation"] == told


def test_where_no_server_answers(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert "no server answers" in complaint(capsys, "explain", "--url", f"127.0.0.1:{port}")
    assert "--url 'ftp://x' is no address" in complaint(capsys, "explain", "--url", "ftp://x")


def test_another_program_is_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    with serving() as server:
        flags = ("explain", "--url", server.url + "/elsewhere")
        assert "answers with 404 and nothing of Headway's" in complaint(capsys, *flags)
