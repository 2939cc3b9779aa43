"""`headway bench latency`: one batch of equal requests, again and again, in this process."""

from __future__ import annotations

import argparse
from pathlib import Path

from headway.cli.bench import at_least, complain, now, write_json
from headway.cli.flags import add_flags, collect
from headway.cli.main import run_async
from headway.config import EngineConfig

PERCENTILES = (10, 25, 50, 75, 90, 99)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default=None, help="known name, hub name, file or directory")
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
    add_flags(parser.add_argument_group("engine"), EngineConfig, leave_out=("model",))


def run(arguments: argparse.Namespace) -> int:
    from headway.perf.bench.result import problems
    from headway.perf.bench.throughput import batches, run_workloads
    from headway.perf.records import percentile

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
