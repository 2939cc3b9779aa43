"""`headway bench throughput`: a workload on an engine in this process, without a server.

By default all requests come at once, and the figure is how many tokens a second come of it.
"""

from __future__ import annotations

import argparse
from typing import Any

from headway.cli.bench import (
    add_result_flags,
    at_least,
    complain,
    kept_result,
    now,
    places_from,
    result_options,
    write_json,
)
from headway.cli.flags import add_flags, collect
from headway.cli.main import run_async
from headway.cli.workload_flags import add_objective_flags, add_workload_flags, workload_from
from headway.config import EngineConfig


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default=None, help="known name, hub name, file or directory")
    parser.add_argument(
        "--max-concurrency", type=int, metavar="N", help="most requests in flight at once"
    )
    parser.add_argument(
        "--num-warmups", type=int, default=4, metavar="N", help="requests before (default: 4)"
    )
    workload = parser.add_argument_group("workload")
    add_workload_flags(workload)
    add_objective_flags(workload)
    add_result_flags(parser)
    # `--seed` is the workload's here; greedy answers need none.
    add_flags(parser.add_argument_group("engine"), EngineConfig, leave_out=("model", "seed"))


def run(arguments: argparse.Namespace) -> int:
    from headway.perf.bench.result import details, document, figures, problems, table
    from headway.perf.bench.throughput import run_workloads
    from headway.perf.records import write_records

    options, result = result_options(arguments), kept_result(arguments, "headway-throughput")
    workload = workload_from(arguments)
    config = collect(EngineConfig, argparse.Namespace(**vars(arguments) | {"seed": None}))
    ran = run_async(
        run_workloads(
            config,
            [workload],
            warmups=at_least(0, "--num-warmups", arguments.num_warmups),
            max_concurrency=places_from(arguments),
            progress=not arguments.disable_tqdm,
        )
    )
    (load_result,) = ran.results
    found = figures(load_result, options) | {"preemptions": ran.preemptions}
    print(table("Throughput, in process", load_result, found, options))
    if arguments.records:
        write_records(arguments.records, load_result.records)
    if result.path is not None:
        about: dict[str, Any] = {
            "date": now(),
            "model_id": config.model,
            "workload": workload.name,
            "seed": arguments.seed,
            "policy": ran.info.scheduler.policy.name,
            "dtype": ran.info.hardware.dtype,
            "backend": ran.info.hardware.backend,
            "threads": ran.info.hardware.threads,
            **result.metadata,
        }
        content = document(load_result, found, options, about=about)
        # As vLLM's offline benchmark calls them.
        content |= {
            "elapsed_time": found["duration"],
            "num_requests": len(load_result.records),
            "requests_per_second": found.get("request_throughput"),
            "tokens_per_second": found.get("total_token_throughput"),
            "total_num_tokens": round(found["total_input_tokens"] + found["total_output_tokens"]),
        }
        write_json(result.path, content | (details(load_result) if result.detailed else {}))
    complain(problems(load_result))
    return 1 if found["failed"] else 0
