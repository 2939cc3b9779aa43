"""`headway bench throughput` and `headway bench latency`: an engine in this process, no server.

The one runs a workload, by default all requests at once, and shows how many tokens a second come of
it. The other runs one batch of equal requests again and again, and shows how long that takes.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from headway.cli.bench import (
    add_result_flags,
    at_least,
    complain,
    kept_result,
    max_concurrency_from,
    now,
    result_options,
    write_json,
)
from headway.cli.flags import add_flags, collect
from headway.cli.main import run_async
from headway.cli.workload_flags import (
    add_objective_flags,
    add_workload_flags,
    objectives_from,
    workload_from,
)
from headway.config import DEFAULT_MODEL, EngineConfig
from headway.perf.bench.engine_client import batches, run_workloads
from headway.perf.bench.result import details, document, figures, problems, table
from headway.perf.records.record import write_records
from headway.perf.records.summary import percentile

OF_OTHER_CLASSES = ("slo_interactive", "slo_batch")
"""Objectives of classes that no request here has."""
PERCENTILES = (10, 25, 50, 75, 90, 99)


def configure_throughput(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run_throughput)
    parser.add_argument(
        "--model",
        metavar="MODEL",
        help=f"known name, hub name, file or directory (default: {DEFAULT_MODEL})",
    )
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
    # `--seed` is the workload's here; greedy answers need none. `--slo` is there already.
    leave_out = ("model", "seed", "slo", *OF_OTHER_CLASSES)
    add_flags(parser.add_argument_group("engine"), EngineConfig, leave_out=leave_out)


def run_throughput(arguments: argparse.Namespace) -> int:
    config = throughput_config(arguments)
    options = replace(result_options(arguments), objectives=config.objectives_of("standard"))
    result = kept_result(arguments)
    workload = workload_from(arguments)
    ran = run_async(
        run_workloads(
            config,
            [workload],
            warmups=at_least(0, "--num-warmups", arguments.num_warmups),
            max_concurrency=max_concurrency_from(arguments),
            progress=not arguments.disable_tqdm,
        )
    )
    (load_result,) = ran.results
    found = figures(load_result, options) | {"preemptions": ran.preemptions}
    print(table("Throughput, in process", load_result, found, options))
    if arguments.records:
        write_records(arguments.records, load_result.records)
    path = result.path("headway-throughput", config.model)
    if path is not None:
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
        write_json(path, content | (details(load_result) if result.detailed else {}))
    complain(problems(load_result))
    return 1 if found["failed"] else 0


def throughput_config(arguments: argparse.Namespace) -> EngineConfig:
    """The engine's settings; its requests have the objectives that are reported."""
    objectives = objectives_from(arguments)
    own = {"seed": None, "slo": ",".join(map(str, objectives)) or None}
    return collect(EngineConfig, argparse.Namespace(**vars(arguments) | own))


def configure_latency(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run_latency)
    parser.add_argument(
        "--model",
        metavar="MODEL",
        help=f"known name, hub name, file or directory (default: {DEFAULT_MODEL})",
    )
    for flag, default, meaning in (
        ("--batch-size", 8, "requests in the batch"),
        ("--input-len", 32, "tokens in each prompt"),
        ("--output-len", 128, "tokens in each answer"),
        ("--num-iters", 10, "batches to measure"),
        ("--num-iters-warmup", 2, "batches before them"),
    ):
        parser.add_argument(
            flag, type=int, default=default, metavar="N", help=f"{meaning} (default: {default})"
        )
    parser.add_argument("--output-json", metavar="FILE", help="write all latencies there")
    parser.add_argument("--disable-tqdm", action="store_true", help="show no progress")
    engine = parser.add_argument_group("engine")
    add_flags(engine, EngineConfig, leave_out=("model", *OF_OTHER_CLASSES))


def run_latency(arguments: argparse.Namespace) -> int:
    for name in ("batch_size", "input_len", "output_len", "num_iters"):
        at_least(1, "--" + name.replace("_", "-"), getattr(arguments, name))
    config = collect(EngineConfig, arguments)
    warmups = at_least(0, "--num-iters-warmup", arguments.num_iters_warmup)
    workloads = batches(
        size=arguments.batch_size,
        prompt=arguments.input_len,
        output=arguments.output_len,
        count=warmups + arguments.num_iters,
    )
    ran = run_async(run_workloads(config, workloads, progress=not arguments.disable_tqdm))
    measured = ran.results[warmups:]
    seconds = [result.duration for result in measured]
    shares = {str(share): percentile(seconds, share) for share in PERCENTILES}
    mean = sum(seconds) / len(seconds)
    print(f"Mean latency of a batch: {mean:.4f} s")
    for share, value in shares.items():
        print(f"P{share} latency: {value:.4f} s")
    if arguments.output_json:
        write_json(
            Path(arguments.output_json),
            {
                "date": now(),
                "model_id": config.model,
                "workload": workloads[0].name,
                "avg_latency": mean,
                "latencies": seconds,
                "percentiles": shares,
            },
        )
    failures = [line for result in measured for line in problems(result)]
    complain(list(dict.fromkeys(failures)))
    failed = any(record.outcome != "ok" for result in ran.results for record in result.records)
    return 1 if failed else 0
