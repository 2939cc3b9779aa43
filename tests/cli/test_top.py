"""`headway top` on a server: what it says is what happened between two readings."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator

import pytest

from headway.cli import top
from headway.cli.main import main
from headway.cli.scrape import Scrape, Span, scrape_of
from headway.cli.top_figures import top_lines, top_summary
from headway.config import EngineConfig, ServerConfig
from headway.errors import Unavailable
from headway.perf.bench.http_connection import Address
from headway.wire import EngineStats
from tests.server.conftest import Running, serving
from tests.server.test_slo import busy_engine, pacing_of


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    config = ServerConfig(port=0, response_cache=2**20)
    with serving(config=config, engine=EngineConfig(slo="ttft=10s")) as server:
        yield server


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Callable[[], object]]]:
    """What happens instead of each wait."""
    events: list[Callable[[], object]] = []
    monkeypatch.setattr("headway.cli.top.time.sleep", lambda seconds: events.pop(0)())
    yield events
    assert events == []


def ask(server: Running) -> None:
    with server.http() as http:
        body = {"prompt": "abc", "max_tokens": 20}
        assert http.post("/v1/completions", json=body).status_code == 200


def test_each_reading_is_a_line_where_there_is_no_terminal(
    server: Running, meanwhile: list[Callable[[], object]], capsys: pytest.CaptureFixture[str]
) -> None:
    meanwhile += [lambda: ask(server), lambda: None]
    assert main(["top", "--url", server.url, "--samples", "2"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert re.match(r"\d\d:\d\d:\d\d  0 running, 0 waiting, [\d,.]+ tokens/s, TTFT p99 ", first)
    assert ", 0 tokens/s, KV memory" in second


def test_a_server_that_is_gone_for_a_while_is_waited_for(
    server: Running,
    meanwhile: list[Callable[[], object]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    real = top.read_metrics

    def gone(address: Address) -> Scrape:
        monkeypatch.setattr(top, "read_metrics", real)
        raise Unavailable("no server answers")

    meanwhile += [lambda: monkeypatch.setattr(top, "read_metrics", gone), lambda: None]
    assert main(["top", "--url", server.url, "--samples", "2"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith("  no answer")
    assert "0 running" in second


def test_on_a_terminal_the_lines_are_drawn(
    server: Running,
    meanwhile: list[Callable[[], object]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("rich")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    meanwhile.append(lambda: ask(server))
    assert main(["top", "--url", server.url, "--samples", "1"]) == 0
    drawn = capsys.readouterr().out
    assert "requests" in drawn
    assert "░" in drawn
    meanwhile.append(lambda: ask(server))
    assert main(["top", "--url", server.url, "--samples", "1", "--plain"]) == 0
    assert "░" not in capsys.readouterr().out


def a_span() -> Span:
    """From a server's start to an answer, and a step of an engine whose model is known."""
    news = EngineStats(
        step=10**6,
        running=3,
        waiting=3,
        deferred=1,
        step_tokens=9,
        step_seconds=0.2,
        prefix_queries=10**6,
        prefix_hits=10**6 // 2,
        pacing=pacing_of(),
    )
    with serving(engine=EngineConfig(slo="ttft=10s")) as server, server.http() as http:
        ask(server)

        def tell() -> None:
            server.engine.info, server.engine.stats = busy_engine(pacing_of()).info, news
            for listener in server.engine._listeners:
                listener([], news, time.monotonic())

        server.call(tell)
        after = scrape_of(http.get("/metrics").text, 10.0)
    return Span(before=scrape_of("", 0.0), after=after)


def test_the_lines_say_what_happened() -> None:
    span = a_span()
    said = {line.label: line for line in top_lines(span)}
    assert said["requests"].text.startswith("3 running, 2 waiting for room, 1 held back")
    assert "0.100 ended/s" in said["requests"].text
    assert "2.00 written/s" in said["tokens"].text
    assert "3 sequences in a step" in said["batch"].text
    assert "(predicted 250 ms)" in said["batch"].text
    assert re.search(r"limited by \w+", said["batch"].text)
    assert "TTFT " in said["latency"].text
    assert said["objectives"].text == "100 % of standard on time"
    assert said["KV memory"].share is not None
    assert re.search(r"\d % of prompts cached", said["saved"].text)
    assert top_summary(span).startswith("3 running, 3 waiting, 2.00 tokens/s, TTFT p99 ")


def test_what_is_not_known_is_left_out() -> None:
    few = scrape_of("vllm:num_requests_running 1\n", 0.0)
    span = Span(before=few, after=few)
    assert [(line.label, line.text) for line in top_lines(span)] == [("requests", "1 running")]
    assert top_summary(span) == "1 running"


def test_one_sequence_is_one() -> None:
    alone = scrape_of("headway:step_width 1\n", 0.0)
    (line,) = top_lines(Span(before=alone, after=alone))
    assert line.text == "1 sequence in a step"


def test_of_several_engines_it_is_said_what_each_is_and_has() -> None:
    with serving(config=ServerConfig(port=0, replicas=2)) as server, server.http() as http:
        text = http.get("/metrics").text
    idle = scrape_of(text, 0.0)
    said = {line.label: line.text for line in top_lines(Span(before=idle, after=idle))}
    assert said["engines"] == "2 ready, requests 0 + 2"
    lost = text.replace('replica="1",state="ready"} 1.0', 'replica="1",state="ready"} 0.0')
    lost = lost.replace('replica="1",state="failed"} 0.0', 'replica="1",state="failed"} 1.0')
    live = 'headway:replica_live_requests{model_name="alphabet",replica="0"} '
    busy = scrape_of(lost.replace(f"{live}0.0", f"{live}12.0"), 0.0)
    said = {line.label: line.text for line in top_lines(Span(before=idle, after=busy))}
    assert said["engines"] == "1 ready, 1 failed, requests 12 + 2"


def test_a_bar_is_as_long_as_its_share() -> None:
    assert top.bar_of(None) == ""
    for share, full in ((0.0, 0), (0.5, 12), (1.0, 24)):
        assert top.bar_of(share).count("█") == full
        assert top.bar_of(share).count("░") == 24 - full


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--interval", "0"], "--interval must be from 0.2 to 3600 seconds, not 0"),
        (["--interval", "nan"], "--interval must be"),
        (["--samples", "0"], "--samples must be at least 1"),
        (["--url", "http://127.0.0.1:1"], "no server answers"),
        (["--url", "nonsense://x"], "--url"),
    ],
)
def test_wrong_flags(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["top", *words]) == 1
    assert said in capsys.readouterr().err


def test_another_program_is_told_apart(server: Running, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["top", "--url", server.url + "/x", "--samples", "1"]) == 1
    assert "no metrics of Headway's" in capsys.readouterr().err
