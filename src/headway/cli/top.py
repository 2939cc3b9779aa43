"""`headway top`: what a running server does now, on the terminal, until it is stopped.

It reads /metrics, so it costs the server next to nothing and needs no key. On a terminal where rich
is installed (the extra `terminal`) the lines are drawn in place; else each reading is one line.
"""

from __future__ import annotations

import argparse
import http.client
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from headway.cli.scrape import Scrape, Span, scrape_of
from headway.cli.top_figures import TopLine, top_lines, top_summary
from headway.environment import from_environment
from headway.errors import InvalidRequest, Unavailable
from headway.extras import has_rich
from headway.perf.bench.http_connection import Address

URL = "http://127.0.0.1:8000"
LEAST, MOST = 0.2, 3600.0
"""Seconds between two readings."""
_TIMEOUT = 10.0
_LARGEST = 16 * 2**20
"""Bytes of an answer that are read."""
_BAR = 24

Show = Callable[[Span | None], None]
"""Shows what came of a reading; None: the server did not answer."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run)
    parser.add_argument("--url", metavar="URL", help=f"the server (default: {URL})")
    parser.add_argument(
        "--interval", type=float, default=1.0, metavar="S", help="seconds a reading (default: 1)"
    )
    parser.add_argument(
        "--samples", type=int, metavar="N", help="end after so many (default: go on)"
    )
    parser.add_argument("--plain", action="store_true", help="a line each, though on a terminal")


def run(arguments: argparse.Namespace) -> int:
    _check(arguments)
    address = Address.parse(arguments.url or from_environment("--url") or URL, field="--url")
    before = read_metrics(address)
    drawn = sys.stdout.isatty() and has_rich() and not arguments.plain
    left = arguments.samples
    with _drawing(address) if drawn else _lines() as show:
        while left is None or left > 0:
            time.sleep(arguments.interval)
            try:
                after = read_metrics(address)
            except Unavailable:  # it may be started again
                show(None)
            else:
                show(Span(before=before, after=after))
                before = after
            left = None if left is None else left - 1
    return 0


def _check(arguments: argparse.Namespace) -> None:
    if not LEAST <= arguments.interval <= MOST:
        raise InvalidRequest(
            f"--interval must be from {LEAST:g} to {MOST:g} seconds, not {arguments.interval:g}",
            field="--interval",
        )
    if arguments.samples is not None and arguments.samples < 1:
        raise InvalidRequest(
            f"--samples must be at least 1, not {arguments.samples}", field="--samples"
        )


def read_metrics(address: Address) -> Scrape:
    """The server's metrics; raises `Unavailable` where it does not answer, `InvalidRequest` where
    what answers is no server of this kind."""
    connection: http.client.HTTPConnection
    if address.secure:
        connection = http.client.HTTPSConnection(
            address.host, address.port, timeout=_TIMEOUT, context=ssl.create_default_context()
        )
    else:
        connection = http.client.HTTPConnection(address.host, address.port, timeout=_TIMEOUT)
    try:
        connection.request("GET", f"{address.prefix}/metrics")
        answer = connection.getresponse()
        status, body = answer.status, answer.read(_LARGEST)
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(
            f"no server answers at {address.url}: {error}; start one with `headway serve`",
            field="--url",
        ) from error
    finally:
        connection.close()
    try:
        scrape = scrape_of(body.decode(), time.monotonic())
    except ValueError:  # neither text nor metrics
        scrape = None
    if status != 200 or scrape is None or "vllm:num_requests_running" not in scrape.samples:
        raise InvalidRequest(
            f"{address.url}/metrics answers with {status} and no metrics of Headway's: is it "
            "another program?",
            field="--url",
        )
    return scrape


@contextmanager
def _lines() -> Iterator[Show]:
    """A line for each reading, with the time of day: to be kept, or piped."""

    def show(span: Span | None) -> None:
        said = "no answer" if span is None else top_summary(span)
        print(f"{time.strftime('%H:%M:%S')}  {said}", flush=True)

    yield show


@contextmanager
def _drawing(address: Address) -> Iterator[Show]:
    """All lines, drawn in place."""
    from rich.live import Live
    from rich.table import Table

    def table(lines: list[TopLine], said: str) -> Table:
        grid = Table(
            "", "", title=f"Headway, {address.url}", caption=said, show_header=False, box=None
        )
        for line in lines:
            grid.add_row(f"[bold]{line.label}[/bold]", bar_of(line.share) + line.text)
        return grid

    with Live(auto_refresh=False) as live:

        def show(span: Span | None) -> None:
            now = time.strftime("%H:%M:%S")
            lines = [] if span is None else top_lines(span)
            said = f"{now}, no answer" if span is None else f"{now}, Ctrl-C ends"
            live.update(table(lines, said), refresh=True)

        yield show


def bar_of(share: float | None) -> str:
    """A share as a bar, in rich's markup; empty for None."""
    if share is None:
        return ""
    full = round(_BAR * share)
    colour = "red" if share > 0.95 else "cyan"
    return f"[{colour}]{'█' * full}[/{colour}][dim]{'░' * (_BAR - full)}[/dim] "
