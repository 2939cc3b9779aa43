"""The progress line: what it says, and that it never outlives its run."""

from __future__ import annotations

import asyncio

import pytest

from headway.perf.bench.run_load import ClientResponse, Progress


def test_it_says_who_runs_who_failed_and_how_fast() -> None:
    heard = [0]
    progress = Progress(10, tokens=lambda: heard[0], show=False)
    for _ in range(5):
        progress.sent()
    progress.ended(ClientResponse())
    assert progress.text() == "4 running, 0 tok/s"
    progress.ended(ClientResponse(outcome="refused", error="429"))
    heard[0] = 1_000_000
    said = progress.text()
    assert said.startswith("3 running, 1 failed, ")
    assert not said.endswith(" 0 tok/s")
    assert progress.text() == "3 running, 1 failed, 0 tok/s", "nothing came since"


def test_it_is_drawn_on_a_terminal_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def main() -> None:
        with Progress(3, tokens=lambda: 0) as progress:
            progress.sent()
            progress.ended(ClientResponse())

    asyncio.run(main())
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    asyncio.run(main())
    assert "running" in capsys.readouterr().err


def test_leaving_it_stops_its_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setattr("headway.perf.bench.run_load.INTERVAL", 0.001)
    asked: list[int] = []

    async def main() -> None:
        with Progress(3, tokens=lambda: len(asked)) as progress:
            progress.sent()
            while len(asked) < 3:
                asked.append(1)
                await asyncio.sleep(0.002)
        progress.sent()
        assert progress._timer is not None
        assert progress._timer.cancelled()

    asyncio.run(main())
