"""Results: names and figures of the table and the file, and what is complained of."""

from __future__ import annotations

import json
import re

import pytest

from headway.perf.bench.result import (
    ResultOptions,
    details,
    document,
    figures,
    grouped_errors,
    problems,
    table,
)
from headway.perf.bench.run_load import ClientDelay, LoadResult
from headway.perf.records.record import RequestRecord
from headway.types.objectives import parse_objectives


def record(number: int, **fields: object) -> RequestRecord:
    values: dict[str, object] = {
        "id": f"request-{number}",
        "due": 0.0,
        "sent": 0.5,
        "prompt_tokens": 10,
        "output_tokens": 5,
        "ttft": 0.1 * number,
        "latency": 0.1 * number + 0.4,
        "itls": (0.1,) * 4,
        "largest_gap": 0.1,
    }
    return RequestRecord(**(values | fields))  # type: ignore[arg-type]


def load_result(*records: RequestRecord, wake: float = 0.001) -> LoadResult:
    client_delay = ClientDelay(
        late_p99=0.002, late_max=0.003, wake_p99=wake, wake_max=wake, busy=0.25, duration=10.0
    )
    return LoadResult(records=records, duration=10.0, client_delay=client_delay)


REFUSED = record(
    3, outcome="refused", error="429: full", ttft=None, latency=None, output_tokens=0, itls=()
)
WANTED = ResultOptions(
    objectives=parse_objectives("ttft_p50=150ms,e2el=1ms"),
    metrics=("ttft", "e2el"),
    percentiles=(25.0, 99.9),
)


def test_the_table_has_the_familiar_lines() -> None:
    run = load_result(record(1), record(2), REFUSED)
    lines = table("A run", run, figures(run, WANTED), WANTED).splitlines()
    shown = {" ".join(line.split()) for line in lines}
    assert {
        "Successful requests: 2",
        "Failed requests: 1",
        "Benchmark duration (s): 10.00",
        "Total input tokens: 20",
        "Total generated tokens: 10",
        "Request throughput (req/s): 0.20",
        "Output token throughput (tok/s): 1.00",
        "Total token throughput (tok/s): 3.00",
        "Share of requests refused: 33.33%",
        "Attainment over offered requests: 0.00%",
        "Mean TTFT (ms): 150.00",
        "P25 TTFT (ms): 125.00",
        "P99.9 E2EL (ms): 599.90",
        "Share of a core used: 25.0%",
        "e2el=1ms: -, missed",
    } <= shown
    assert not any("TPOT" in line or "ITL" in line for line in lines)
    assert all(len(line) <= 80 for line in lines)
    assert {len(lines[0]), len(lines[-1])} == {56}


def test_nothing_measured_is_nothing_shown() -> None:
    run = load_result(REFUSED)
    shown = table("A run", run, figures(run, WANTED), WANTED)
    assert "TTFT (ms)" not in shown
    assert "nan" not in shown.lower()
    empty = load_result()
    assert "Successful requests:" in table("A run", empty, figures(empty, WANTED), WANTED)


def test_tokens_from_the_cache_are_shown_where_there_were_any() -> None:
    run = load_result(record(1, cached_tokens=7))
    assert "from a prefix cache" in table("A run", run, figures(run, WANTED), WANTED)
    none = load_result(record(1))
    assert "prefix cache" not in table("A run", none, figures(none, WANTED), WANTED)


def test_drafts_are_shown_where_there_were_any() -> None:
    run = load_result(record(1, draft_tokens=8, accepted_tokens=3))
    shown = table("A run", run, figures(run, WANTED), WANTED)
    assert re.search(r"Draft tokens: +8\n", shown)
    assert re.search(r"of which accepted: +3\n", shown)
    assert re.search(r"Tokens an answer got of a step: +2\.50\n", shown)
    content = document(run, figures(run, WANTED), WANTED, about={})
    assert content["spec_decode_draft_tokens"] == 8
    assert isinstance(content["spec_decode_accepted_tokens"], int)
    none = load_result(record(1))
    assert "raft" not in table("A run", none, figures(none, WANTED), WANTED)


def test_the_file_has_the_familiar_names() -> None:
    run = load_result(record(1), record(2), REFUSED)
    content = document(run, figures(run, WANTED), WANTED, about={"model_id": "m"})
    content |= details(run)
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert next(iter(content)) == "model_id"
    assert (content["num_prompts"], content["completed"], content["failed"]) == (3, 2, 1)
    assert isinstance(content["total_output_tokens"], int)
    for metric in ("ttft", "tpot", "itl", "e2el"):
        for figure in ("mean", "median", "std", "p25", "p99", "p99.9"):
            assert content[f"{figure}_{metric}_ms"] >= 0
    assert content["objectives"]["e2el=1ms"] == {"met": False, "value_ms": None}
    assert content["input_lens"] == [10, 10, 10]
    assert content["output_lens"] == [5, 5, 0]
    assert content["errors"] == ["", "", "429: full"]
    assert content["itls"][0] == [0.1] * 4
    assert content["client_warning"] is None


def test_problems_are_grouped_and_the_client_is_not_spared() -> None:
    assert problems(load_result(record(1))) == []
    lines = problems(load_result(REFUSED, REFUSED, record(1), wake=1.0), 3)
    assert lines[0] == "2 x 429: full"
    assert lines[1] == "3 answers were not as long as asked"
    assert lines[2].startswith("warning: the client could not keep up")


@pytest.mark.parametrize(("kinds", "last"), [(3, "1 x e2"), (12, "and 2 other errors")])
def test_few_kinds_of_errors_are_listed(kinds: int, last: str) -> None:
    errors = ["often"] * 4 + [f"e{n}" for n in range(kinds if kinds < 10 else kinds - 1)]
    lines = grouped_errors(errors)
    assert lines[0] == "4 x often"
    assert lines[-1] == last


def test_what_classes_and_tenants_attained_is_shown() -> None:
    wanted = parse_objectives("ttft=150ms")
    result = load_result(
        record(1, service_class="interactive", tenant="a b", objectives=wanted),
        record(2, service_class="interactive", objectives=wanted),
        record(3, service_class="batch", tenant="a b"),
    )
    shown = table("t", result, figures(result, ResultOptions()), ResultOptions())
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert "Attainment over offered requests: 66.67%" in lines
    assert "of interactive: 50.00%" in lines
    assert "of tenant a b: 100.00%" in lines
