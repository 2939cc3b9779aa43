"""The load generator against the real server with the real model."""

from __future__ import annotations

import asyncio

import pytest

from headway.perf.bench.http_connection import Address
from headway.perf.bench.serve import ServeLoad, load_server
from tests.perf.bench.fakes import request, workload
from tests.server.serving import MODEL, headway_serve, until_idle


@pytest.mark.model
def test_a_real_server_answers_with_the_asked_lengths_and_does_not_know_them() -> None:
    with headway_serve("--max-model-len", "256") as (_, url):
        requests = [request(10 + n, n, cap=40, at=0.01 * n) for n in (1, 2, 3, 9, 25, 40)]
        chats = workload(request(20, 12), request(20, 7, cap=30))
        load = ServeLoad(
            workload=workload(*requests, request(12, 8)), address=Address.parse(url), warmups=2
        )
        loaded = asyncio.run(load_server(load))
        assert loaded.model == MODEL
        assert {record.error for record in loaded.load_result.records} == {""}
        assert [record.output_tokens for record in loaded.load_result.records] == [
            *(1, 2, 3, 9, 25, 40),
            8,
        ]
        assert [record.prompt_tokens for record in loaded.load_result.records] == [
            *(11, 12, 13, 19, 35, 50),
            12,
        ]
        chat = ServeLoad(
            workload=chats, address=Address.parse(url), endpoint="/v1/chat/completions", warmups=1
        )
        records = asyncio.run(load_server(chat)).load_result.records
        assert [record.output_tokens for record in records] == [12, 7]
        # A slow reader gets tokens joined, so there may be fewer pieces than tokens, never more.
        assert all(0 < len(record.itls) < record.output_tokens for record in records)
        until_idle(url)
