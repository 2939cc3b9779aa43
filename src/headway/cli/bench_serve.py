"""`headway bench serve`: a workload against a server with an OpenAI-compatible API.

Flags, table and result have the names of vLLM's benchmark where it has them. Exit status 1 if any
request was refused or failed.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import replace
from typing import Any, Literal

from headway.cli.bench import (
    add_result_flags,
    at_least,
    check_writable,
    complain,
    kept_result,
    max_concurrency_from,
    now,
    pairs_from,
    result_options,
    write_json,
)
from headway.cli.main import run_async
from headway.cli.price_flags import add_price_flags, price_from
from headway.cli.workload_flags import add_objective_flags, add_workload_flags, workload_from
from headway.environment import from_environment
from headway.errors import InvalidRequest
from headway.perf.bench.http_connection import Address
from headway.perf.bench.result import details, document, figures, problems, table
from headway.perf.bench.serve import ServeLoad, ServeResult, load_server
from headway.perf.bench.serve_report import serve_report
from headway.perf.records.record import write_records
from headway.perf.report.page import write_page
from headway.perf.report.price import HourlyPrice

if sys.platform != "win32":
    import resource

SPARE_FILES = 64
"""Open files beside one connection for each request."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run)
    _add_server_flags(parser)
    load = parser.add_argument_group("load")
    load.add_argument(
        "--max-concurrency", type=int, metavar="N", help="most requests in flight at once"
    )
    load.add_argument(
        "--num-warmups", type=int, default=0, metavar="N", help="requests before the measurement"
    )
    workload = parser.add_argument_group("workload")
    add_workload_flags(workload)
    add_objective_flags(workload)
    add_result_flags(parser)
    page = parser.add_argument_group("page")
    page.add_argument("--html", metavar="FILE", help="write the result as one HTML page")
    add_price_flags(page, of="what serves")


def _add_server_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("server")
    group.add_argument("--base-url", metavar="URL", help="such as http://127.0.0.1:8000")
    group.add_argument("--host", default="127.0.0.1", help="in place of --base-url")
    group.add_argument("--port", type=int, default=8000, help="in place of --base-url")
    group.add_argument("--model", metavar="NAME", help="default: the first that the server lists")
    group.add_argument(
        "--endpoint",
        default="/v1/completions",
        metavar="PATH",
        help="/v1/completions (default) or /v1/chat/completions",
    )
    group.add_argument(
        "--prompts",
        choices=("tokens", "text"),
        help="exact token ids (default), or words, of which chats are always made",
    )
    group.add_argument("--api-key", metavar="KEY", help="default: HEADWAY_API_KEY, if it is set")
    group.add_argument(
        "--header", nargs="+", default=[], metavar="KEY=VALUE", help="sent with every request"
    )
    group.add_argument(
        "--extra-body",
        metavar="JSON",
        help="fields put over those of every request; null takes one away",
    )
    group.add_argument(
        "--max-token-id",
        type=int,
        default=30_000,
        metavar="N",
        help="prompts are made of token ids from 100 to below this (default: 30000)",
    )
    group.add_argument(
        "--ready-check-timeout-sec",
        type=float,
        default=60.0,
        metavar="S",
        help="wait so long for the server, and try one request first; 0: neither (default: 60)",
    )
    group.add_argument(
        "--request-timeout-sec",
        type=float,
        default=6 * 3600.0,
        metavar="S",
        help="give an answer up after so long (default: 6 hours)",
    )


def run(arguments: argparse.Namespace) -> int:
    options = result_options(arguments)
    load = _load(arguments)
    result = kept_result(arguments)
    price = price_from(arguments)
    if price is not None:
        options = replace(options, currency=price.currency)
    check_writable(arguments.html, "--html")
    allow_files(len(load.workload.requests) + SPARE_FILES)
    loaded = run_async(load_server(load))
    load_result = loaded.load_result
    found = figures(load_result, options)
    if price is not None and found.get("output_throughput", 0.0) > 0:
        found["cost_per_million"] = price.per_million(found["output_throughput"])
    print(table("Serving benchmark result", load_result, found, options))
    if arguments.records:
        write_records(arguments.records, load_result.records)
    about = _about(arguments, load, loaded, price) | dict(result.metadata)
    path = result.path(_name(arguments, load), loaded.model)
    if path is not None:
        content = document(load_result, found, options, about=about)
        write_json(path, content | (details(load_result) if result.detailed else {}))
    warnings = problems(load_result, loaded.other_lengths)
    if arguments.html:
        write_page(arguments.html, serve_report(loaded, load, found, price=price, notes=warnings))
    complain(warnings)
    return 1 if found["failed"] else 0


def _load(arguments: argparse.Namespace) -> ServeLoad:
    # What a response cache has would be measured as if it were computed.
    headers = {"Cache-Control": "no-store"} | pairs_from(arguments.header, field="--header")
    key = arguments.api_key or from_environment("--api-key")
    if key:
        headers["Authorization"] = f"Bearer {key.split(',')[0]}"
    _check_ranges(arguments)
    return ServeLoad(
        workload=workload_from(arguments),
        address=Address.parse(arguments.base_url or f"http://{arguments.host}:{arguments.port}"),
        model=arguments.model,
        endpoint=arguments.endpoint,
        prompts=_prompts(arguments),
        headers=headers,
        extra=_extra(arguments.extra_body),
        max_concurrency=max_concurrency_from(arguments),
        warmups=at_least(0, "--num-warmups", arguments.num_warmups),
        ready_timeout=arguments.ready_check_timeout_sec,
        request_timeout=arguments.request_timeout_sec,
        max_token=arguments.max_token_id,
        progress=not arguments.disable_tqdm,
    )


def _check_ranges(arguments: argparse.Namespace) -> None:
    if arguments.max_token_id <= 100:
        raise InvalidRequest("--max-token-id must be above 100", field="--max-token-id")
    if not arguments.request_timeout_sec > 0:
        raise InvalidRequest("--request-timeout-sec must be above 0", field="--request-timeout-sec")
    if not arguments.ready_check_timeout_sec >= 0:
        raise InvalidRequest(
            "--ready-check-timeout-sec must be at least 0", field="--ready-check-timeout-sec"
        )


def _prompts(arguments: argparse.Namespace) -> Literal["tokens", "text"]:
    chats = "chat" in arguments.endpoint
    if chats and arguments.prompts == "tokens":
        raise InvalidRequest("--prompts tokens: chats are made of text", field="--prompts")
    return "text" if chats or arguments.prompts == "text" else "tokens"


def _extra(text: str | None) -> dict[str, Any]:
    try:
        fields = json.loads(text or "{}")
    except ValueError as error:
        raise InvalidRequest(f"--extra-body is not JSON: {error}", field="--extra-body") from error
    if not isinstance(fields, dict):
        raise InvalidRequest("--extra-body must be a JSON object", field="--extra-body")
    return fields


def _about(
    arguments: argparse.Namespace, load: ServeLoad, loaded: ServeResult, price: HourlyPrice | None
) -> dict[str, Any]:
    rate = arguments.request_rate
    cost = {} if price is None else {"price_per_hour": price.per_hour, "currency": price.currency}
    return {
        "date": now(),
        "endpoint_type": "openai-chat" if "chat" in load.endpoint else "openai",
        "base_url": load.address.url,
        "model_id": loaded.model,
        "workload": load.workload.name,
        "request_rate": "inf" if rate is None else _in_json(rate),
        "burstiness": 1.0 if arguments.burstiness is None else _in_json(arguments.burstiness),
        "max_concurrency": load.max_concurrency,
        "seed": arguments.seed,
        **cost,
    }


def _in_json(number: float) -> float | str:
    """JSON has no infinity; vLLM's results have a word for it."""
    return "inf" if math.isinf(number) else number


def _name(arguments: argparse.Namespace, load: ServeLoad) -> str:
    bound = f"-concurrency{load.max_concurrency}" if load.max_concurrency else ""
    rate = "inf" if arguments.request_rate is None else f"{arguments.request_rate:g}"
    return f"headway-{rate}qps{bound}"


def allow_files(count: int) -> None:
    """Let this process have so many files open, as far as the system lets it."""
    if sys.platform == "win32":  # It has no such limit.
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
