"""The page of a load on a server is about what its clients saw."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from headway.perf.bench.http_connection import Address
from headway.perf.bench.result import ResultOptions, figures
from headway.perf.bench.serve import ServeLoad, load_server
from headway.perf.bench.serve_report import serve_report
from headway.perf.report.page import render
from headway.perf.report.price import HourlyPrice
from tests.perf.bench.fakes import request, workload
from tests.server.conftest import Running, serving


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with serving() as running:
        yield running


def test_a_load_becomes_a_page(server: Running) -> None:
    requests = workload(*(request(3 + n, 2 + n) for n in range(6)))
    load = ServeLoad(workload=requests, address=Address.parse(server.url), max_concurrency=2)
    loaded = asyncio.run(load_server(load))
    found = figures(loaded.load_result, ResultOptions())
    price = HourlyPrice(2.0, "EUR")
    report = serve_report(loaded, load, found, price=price, notes=["warning: <slow>"])
    (run,) = report.runs
    assert (run.system, run.kind, run.slots, run.rate) == ("alphabet", "external", None, None)
    assert {bar.request for bar in run.bars} == {f"request-{number}" for number in range(1, 7)}
    assert {bar.slot for bar in run.bars} <= {0, 1}, "two were in flight at most"
    assert run.cost_per_million == pytest.approx(price.per_million(found["output_throughput"]))
    assert report.about["Most in flight"] == "2"
    text = render(report)
    assert "Requests in flight</h2>" in text
    assert "warning: &lt;slow&gt;" in text
    assert f"alphabet at {server.url}" in text
