"""`headway bench` as a person uses it: tables, files, exit statuses, one-line errors."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headway.cli.bench_serve import allow_files
from headway.cli.main import main
from headway.config import ServerConfig
from headway.perf.records.record import read_records
from headway.types import Request
from tests.client.fake_engine import COMMAND
from tests.llm.support import serve_fake, write_prepared
from tests.server.conftest import Running, serving

SMALL = ("--num-prompts", "6", "--input-len", "5", "--output-len", "4", "--disable-tqdm")


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with serving() as running:
        yield running


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands find a fake engine whatever model they are asked for."""
    (tmp_path / "model").mkdir()
    serve_fake(monkeypatch, write_prepared(tmp_path / "model"))
    monkeypatch.setattr("headway.client.client.DEFAULT_COMMAND", COMMAND)


def only_result(folder: Path) -> dict[str, Any]:
    (path,) = folder.glob("*.json")
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def test_serve_shows_a_table_and_writes_files(
    server: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = tmp_path / "records.jsonl"
    words = ["bench", "serve", "--base-url", server.url, *SMALL, "--request-rate", "200"]
    words += ["--slo", "ttft_p99=1min", "--save-result", "--save-detailed", "--records"]
    words += [str(records), "--result-dir", str(tmp_path / "new"), "--metadata", "who=me"]
    words += ["--percentile-metrics", "ttft", "--metric-percentiles", "50,99.5"]
    words += ["--html", str(tmp_path / "page.html"), "--price-per-hour", "2", "--currency", "EUR"]
    assert main(words) == 0
    shown = capsys.readouterr()
    assert "Successful requests:                   6" in shown.out
    assert "P99.5 TTFT (ms):" in shown.out
    assert "Mean TPOT" not in shown.out
    assert shown.err == ""
    assert [record.output_tokens for record in read_records(records)] == [4] * 6
    result = only_result(tmp_path / "new")
    assert (result["completed"], result["total_output_tokens"]) == (6, 24)
    assert (result["model_id"], result["request_rate"], result["who"]) == ("alphabet", 200, "me")
    assert result["output_lens"] == [4] * 6
    assert "p99.5_ttft_ms" in result
    cost = 2.0 / 3600 / result["output_throughput"] * 1e6
    assert (result["cost_per_million"], result["currency"]) == (pytest.approx(cost), "EUR")
    assert f"Cost of a million generated tokens:    {cost:.4g} EUR" in shown.out
    assert result["overload_warning"] is None
    (path,) = (tmp_path / "new").iterdir()
    assert path.name.startswith("headway-200qps-alphabet-"), "the model that is served"
    assert f"{cost:.3g}"[:3] in (tmp_path / "page.html").read_text()
    server.until_idle()


def test_serve_asks_as_it_is_told(server: Running, capsys: pytest.CaptureFixture[str]) -> None:
    before = len(server.llm.asked)
    words = ["bench", "serve", "--host", "127.0.0.1", "--port", str(server.port), *SMALL]
    words += ["--ready-check-timeout-sec", "0", "--extra-body", '{"cache_salt": "told"}']
    assert main([*words, "--max-token-id", "101", "--max-concurrency", "2"]) == 0
    asked = server.llm.asked[before:]
    assert len(asked) == 6
    assert all(prompt == (100,) * 5 for prompt, *_ in asked)
    assert {salt for *_, salt in asked} == {"told"}
    assert {(params.max_tokens, params.ignore_eos, params.greedy) for _, params, *_ in asked} == {
        (4, True, True)
    }
    assert main([*words, "--endpoint", "/v1/chat/completions", "--output-cap", "9"]) == 0
    params = server.llm.asked[-1][1]
    assert (params.max_tokens, params.min_tokens) == (9, 3)
    # The fake model heeds no bias, so it never comes to its stop token, and that is told.
    assert "6 answers were not as long as asked" in capsys.readouterr().err
    server.until_idle()


def test_serve_fails_where_requests_fail(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(config=ServerConfig(port=0, api_key=("secret",))) as server:
        words = ["bench", "serve", "--base-url", server.url, *SMALL]
        assert main(words) == 1
        assert "--api-key" in capsys.readouterr().err
        keyed = [*words, "--api-key", "secret"]
        assert main(keyed) == 0
        too_long = ["--input-len", "2000", "--ready-check-timeout-sec", "0"]
        assert main([*keyed, *too_long]) == 1
        shown = capsys.readouterr()
        assert "Failed requests:                       6" in shown.out
        assert "headway: 6 x 400: the prompt has 2000 tokens" in shown.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), ("inf", 1.0)),
        (("--request-rate", "inf"), ("inf", 1.0)),
        (("--request-rate", "200", "--burstiness", "inf"), (200.0, "inf")),
    ],
)
def test_what_is_infinite_is_a_word_in_a_result(
    words: tuple[str, ...], said: tuple[object, object], server: Running, tmp_path: Path
) -> None:
    given = ["bench", "serve", "--base-url", server.url, *SMALL, *words]
    assert main([*given, "--save-result", "--result-dir", str(tmp_path)]) == 0
    result = only_result(tmp_path)
    assert (result["request_rate"], result["burstiness"]) == said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--base-url", "ftp://x"), "--base-url"),
        (("--max-concurrency", "0"), "--max-concurrency"),
        (("--extra-body", "[1]"), "--extra-body must be a JSON object"),
        (("--extra-body", "{"), "--extra-body is not JSON"),
        (("--header", "nonsense"), "--header: 'nonsense' is not KEY=VALUE"),
        (("--max-token-id", "100"), "--max-token-id must be above 100"),
        (("--percentile-metrics", "ttft,speed"), "'speed' is none of"),
        (("--metric-percentiles", "101"), "--metric-percentiles must be in"),
        (("--metric-percentiles", "x"), "--metric-percentiles must be numbers"),
        (("--save-detailed",), "--save-detailed needs --save-result"),
        (("--html", "nowhere/at/all.html"), "--html: nowhere/at/all.html: there is no folder"),
        (("--currency", "EUR"), "--currency needs --price-per-hour"),
        (("--price-per-hour", "-1"), "--price-per-hour: the price per hour must be a number"),
        (("--price-per-hour", "1", "--currency", "euro"), "--currency: the currency must be"),
        (("--metadata", "a=b"), "--metadata needs --save-result"),
        (("--save-result", "--metadata", "ab"), "--metadata: 'ab' is not KEY=VALUE"),
        (("--endpoint", "/v1/chat/completions", "--prompts", "tokens"), "--prompts tokens"),
        (("--endpoint", "v1"), "--endpoint must be a path"),
        (("--num-warmups", "-1"), "--num-warmups must be at least 0"),
        (("--request-timeout-sec", "0"), "--request-timeout-sec must be above 0"),
        (("--ready-check-timeout-sec", "-1"), "--ready-check-timeout-sec must be at least 0"),
    ],
)
def test_bad_flags_of_serve_are_one_line(
    words: tuple[str, ...], said: str, server: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "serve", "--base-url", server.url, *SMALL, *words]) == 1
    shown = capsys.readouterr().err.strip()
    assert shown.startswith("headway: ")
    assert said in shown
    assert "\n" not in shown


def test_a_result_that_cannot_be_written_is_said_before_measuring(
    server: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    before = len(server.llm.asked)
    words = ["bench", "serve", "--base-url", server.url, *SMALL, "--save-result"]
    assert main([*words, "--result-dir", str(tmp_path / "file" / "x")]) == 1
    assert "--result-dir" in capsys.readouterr().err
    assert len(server.llm.asked) == before


def test_throughput(engine: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bench", "throughput", *SMALL, "--save-result", "--result-dir", str(tmp_path)]
    words += ["--result-filename", "r.json", "--num-warmups", "1", "--policy", "static"]
    assert main(words) == 0
    assert "Total generated tokens:                24" in capsys.readouterr().out
    result = only_result(tmp_path)
    assert (result["num_requests"], result["total_num_tokens"]) == (6, 54)
    assert result["requests_per_second"] == result["request_throughput"] > 0
    assert (result["policy"], result["backend"], result["preemptions"]) == ("static", "fake", 0)


@pytest.mark.parametrize(
    ("words", "variable", "objectives"),
    [
        (["--slo", "ttft_p99=1min"], None, ["ttft_p99=1min"]),
        (["--goodput", "ttft:60000", "tpot:0.0001"], None, ["ttft=1min", "tpot=0.0001ms"]),
        ([], "ttft=1min", ["ttft=1min"]),
        (["--slo", "e2el=1min"], "ttft=1min", ["e2el=1min"]),
        ([], None, []),
    ],
)
def test_an_engine_in_process_is_asked_for_what_is_reported(
    words: list[str],
    variable: str | None,
    objectives: list[str],
    engine: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = tmp_path / "requests.log"
    (tmp_path / "model" / "script.json").write_text(json.dumps({"requests_log": str(log)}))
    if variable is not None:
        monkeypatch.setenv("HEADWAY_SLO", variable)
    save = ["--save-result", "--result-dir", str(tmp_path), "--result-filename", "r.json"]
    assert main(["bench", "throughput", *SMALL, *save, *words]) == 0
    asked = [msgspec.json.decode(line, type=Request) for line in log.read_bytes().splitlines()]
    assert [[str(o) for o in each.objectives] for each in asked] == [objectives] * len(asked)
    assert {each.service_class for each in asked} == {"standard"}
    attained = {"ttft=1min": 1.0, "tpot=0.0001ms": 0.0} if objectives else {}
    assert only_result(tmp_path).get("attainment") == (
        min(attained.get(each, 1.0) for each in objectives) if objectives else None
    )


@pytest.mark.parametrize("command", ["throughput", "latency"])
def test_objectives_of_classes_that_no_request_has_are_no_flags(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["bench", command, "--slo-batch", "ttft=1s"])
    assert "--slo-batch" in capsys.readouterr().err


def test_latency(engine: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "latency.json"
    words = ["bench", "latency", "--batch-size", "3", "--num-iters", "4", "--output-len", "5"]
    assert main([*words, "--disable-tqdm", "--output-json", str(path)]) == 0
    assert "P50 latency:" in capsys.readouterr().out
    result = json.loads(path.read_text())
    assert len(result["latencies"]) == 4
    assert min(result["latencies"]) <= result["avg_latency"] <= max(result["latencies"])
    assert list(result["percentiles"]) == ["10", "25", "50", "75", "90", "99"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("latency", "--batch-size", "0"), "--batch-size must be at least 1"),
        (("latency", "--input-len", "2000", "--output-len", "2000"), "longest sequence"),
        (("throughput", "--input-len", "3000"), "longest sequence"),
        (("throughput", "--max-concurrency", "0"), "--max-concurrency"),
    ],
)
def test_bad_flags_of_the_others_are_one_line(
    words: tuple[str, ...], said: str, engine: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *words, "--disable-tqdm"]) == 1
    shown = capsys.readouterr().err.strip()
    assert said in shown
    assert "\n" not in shown


def test_open_files_are_allowed_as_far_as_they_may_be() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
        allow_files(150)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 150
        allow_files(120)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 150
        allow_files(10**9)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == (
            10**9 if hard == resource.RLIM_INFINITY else hard
        )
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
