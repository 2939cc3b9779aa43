"""Flags that say what is asked of a server, an engine or the simulator, and with which objectives.

Named as in vLLM's benchmark where that has them. Some belong to made-up workloads and some to
traces: one that would have no effect is an error and not ignored.
"""

from __future__ import annotations

import argparse
import math

from headway.cli.service_flags import add_service_flags, with_service
from headway.errors import InvalidRequest
from headway.perf.workload.lengths import SYNTAX, parse_lengths
from headway.perf.workload.synthetic import Arrivals, at_once, gamma, ramp, rearrive, synthesize
from headway.perf.workload.traces import read_trace
from headway.perf.workload.workload import LONGEST, MOST_REQUESTS, Workload, write_workload
from headway.types.objectives import Objective, parse_goodput, parse_objectives

REQUESTS = 100
INPUT_LEN = "256"
OUTPUT_LEN = "64"

_OF_SYNTHETIC = ("input_len", "output_len", "random_prefix_len", "num_prefixes")
_OF_TRACES = ("length_scale", "rate_scale")


def add_workload_flags(parser: argparse._ActionsContainer) -> None:
    """Flags for lengths, arrivals, traces, classes and tenants; read by `workload_from`."""
    parser.add_argument(
        "--dataset-name",
        choices=("random", "trace"),
        help="made up from length distributions, or read from --dataset-path (default: trace where "
        "a path is given)",
    )
    parser.add_argument(
        "--dataset-path",
        metavar="FILE",
        help="trace to replay: Azure's CSV, Mooncake's JSON Lines or a saved workload",
    )
    parser.add_argument(
        "--num-prompts",
        type=int,
        metavar="N",
        help=f"requests (default: {REQUESTS}, or the whole trace; more than that repeat it)",
    )
    _add_length_flags(parser)
    _add_arrival_flags(parser)
    parser.add_argument(
        "--length-scale",
        type=float,
        metavar="X",
        help="multiply all lengths of the trace (default: 1)",
    )
    parser.add_argument(
        "--rate-scale",
        type=float,
        metavar="X",
        help="send the trace's requests so many times as fast (default: 1)",
    )
    add_service_flags(parser)
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of everything random (default: 0)"
    )
    parser.add_argument(
        "--save-workload", metavar="FILE", help="keep the requests, to be replayed as a trace"
    )


def workload_from(arguments: argparse.Namespace) -> Workload:
    """The workload that the flags describe, also written to --save-workload.

    Raises `InvalidRequest` naming the flag.
    """
    path, kind = arguments.dataset_path, arguments.dataset_name
    if kind == "random" and path is not None:
        _conflict("--dataset-path", "--dataset-name is random")
    if kind == "trace" and path is None:
        raise InvalidRequest(
            "--dataset-name trace needs --dataset-path FILE", field="--dataset-path"
        )
    _check_count("--num-prompts", arguments.num_prompts, 1, MOST_REQUESTS)
    _check_count("--output-cap", arguments.output_cap, 1, LONGEST)
    workload = _synthetic(arguments) if path is None else _traced(arguments)
    workload = with_service(arguments, workload)
    if arguments.save_workload is not None:
        write_workload(arguments.save_workload, workload)
    return workload


def add_objective_flags(parser: argparse._ActionsContainer) -> None:
    """Flags for objectives; read by `objectives_from`."""
    parser.add_argument(
        "--slo",
        metavar="LIST",
        help="objectives for ttft, tpot, itl and e2el, with a percentile or for every request, "
        "such as ttft_p99=1s,tpot_p99=50ms",
    )
    parser.add_argument(
        "--goodput",
        nargs="+",
        metavar="METRIC:MS",
        help="the same in vLLM's spelling: milliseconds that every request must keep, such as "
        "ttft:500 tpot:50",
    )


def objectives_from(arguments: argparse.Namespace) -> tuple[Objective, ...]:
    """The objectives that the flags describe; raises `InvalidRequest` naming the flag."""
    if arguments.slo is not None and arguments.goodput is not None:
        _conflict("--goodput", "--slo is given too")
    if arguments.goodput is not None:
        return parse_goodput(arguments.goodput)
    return () if arguments.slo is None else parse_objectives(arguments.slo)


def _add_length_flags(parser: argparse._ActionsContainer) -> None:
    distributions = f"{SYNTAX}, in tokens"
    parser.add_argument(
        "--input-len",
        "--random-input-len",
        metavar="DIST",
        help=f"length of prompts, without shared prefixes: {distributions} (default: {INPUT_LEN})",
    )
    parser.add_argument(
        "--output-len",
        "--random-output-len",
        metavar="DIST",
        help=f"length of answers, as prompts (default: {OUTPUT_LEN})",
    )
    parser.add_argument(
        "--output-cap",
        type=int,
        metavar="N",
        help="every request's max_tokens, so that the server learns only at an answer's end how "
        "long it is (default: each its own length)",
    )
    parser.add_argument(
        "--random-prefix-len",
        type=int,
        metavar="N",
        help="tokens before each prompt that it shares with others (default: 0)",
    )
    parser.add_argument(
        "--num-prefixes",
        type=int,
        metavar="N",
        help="different shared prefixes, one for each request at random (default: 1)",
    )


def _add_arrival_flags(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--request-rate",
        type=float,
        metavar="R",
        help="requests a second, inf for all at once (default: inf, or as the trace has it)",
    )
    parser.add_argument(
        "--burstiness",
        type=float,
        metavar="X",
        help="shape of the gamma distribution of the time between requests: 1 is Poisson, less "
        "comes in bursts, inf is even (default: 1)",
    )
    parser.add_argument(
        "--ramp-up-strategy",
        choices=("linear", "exponential"),
        help="let the rate grow over the run, from --ramp-up-start-rps to --ramp-up-end-rps",
    )
    parser.add_argument("--ramp-up-start-rps", type=float, metavar="R", help="first rate")
    parser.add_argument("--ramp-up-end-rps", type=float, metavar="R", help="last rate")


def _synthetic(arguments: argparse.Namespace) -> Workload:
    for name in _OF_TRACES:
        if getattr(arguments, name) is not None:
            _conflict(_flag(name), "there is no trace; give --dataset-path")
    prefix_tokens, prefixes = arguments.random_prefix_len, arguments.num_prefixes
    _check_count("--random-prefix-len", prefix_tokens, 0, LONGEST)
    _check_count("--num-prefixes", prefixes, 1, MOST_REQUESTS)
    if prefixes is not None and not prefix_tokens:
        _conflict("--num-prefixes", "--random-prefix-len is not given")
    requests = REQUESTS if arguments.num_prompts is None else arguments.num_prompts
    return synthesize(
        num_requests=requests,
        prompt=parse_lengths(arguments.input_len or INPUT_LEN, field="--input-len"),
        output=parse_lengths(arguments.output_len or OUTPUT_LEN, field="--output-len"),
        arrivals=_arrivals(arguments, requests) or at_once,
        prefix_tokens=prefix_tokens or 0,
        prefixes=prefixes or 1,
        cap=arguments.output_cap,
        seed=arguments.seed,
    )


def _traced(arguments: argparse.Namespace) -> Workload:
    for name in _OF_SYNTHETIC:
        if getattr(arguments, name) is not None:
            _conflict(_flag(name), "the lengths are the trace's; scale them with --length-scale")
    if arguments.rate_scale is not None and (
        arguments.request_rate is not None or arguments.ramp_up_strategy is not None
    ):
        _conflict("--rate-scale", "the times are not the trace's but --request-rate's or a ramp's")
    for name in _OF_TRACES:
        _check_positive(_flag(name), getattr(arguments, name))
    workload = read_trace(
        arguments.dataset_path,
        num_requests=arguments.num_prompts,
        length_scale=arguments.length_scale or 1.0,
        rate_scale=arguments.rate_scale or 1.0,
        cap=arguments.output_cap,
        seed=arguments.seed,
    )
    arrivals = _arrivals(arguments, len(workload.requests))
    return workload if arrivals is None else rearrive(workload, arrivals, seed=arguments.seed)


def _arrivals(arguments: argparse.Namespace, requests: int) -> Arrivals | None:
    """As the flags say; None where they say nothing."""
    rate, burstiness = arguments.request_rate, arguments.burstiness
    growth = arguments.ramp_up_strategy
    start, end = arguments.ramp_up_start_rps, arguments.ramp_up_end_rps
    for name in ("request_rate", "burstiness", "ramp_up_start_rps", "ramp_up_end_rps"):
        _check_positive(_flag(name), getattr(arguments, name))
    if growth is None:
        if start is not None or end is not None:
            raise InvalidRequest(
                "a ramp needs --ramp-up-strategy linear or exponential", field="--ramp-up-strategy"
            )
        if burstiness is not None and (rate is None or math.isinf(rate)):
            _conflict("--burstiness", "--request-rate is not given, or infinite")
        return None if rate is None else gamma(rate, burstiness or 1.0)
    if rate is not None:
        _conflict("--request-rate", "the ramp has rates of its own")
    if start is None or end is None or math.isinf(start) or math.isinf(end):
        raise InvalidRequest(
            "a ramp needs finite rates --ramp-up-start-rps and --ramp-up-end-rps",
            field="--ramp-up-end-rps" if start is not None else "--ramp-up-start-rps",
        )
    return ramp(start, end, requests, growth, burstiness or 1.0)


def _conflict(flag: str, reason: str) -> None:
    raise InvalidRequest(f"{flag} would have no effect: {reason}", field=flag)


def _check_count(flag: str, value: int | None, least: int, most: int) -> None:
    if value is not None and not least <= value <= most:
        raise InvalidRequest(f"{flag} is from {least} to {most}, not {value}", field=flag)


def _check_positive(flag: str, value: float | None) -> None:
    if value is not None and not value > 0:
        raise InvalidRequest(f"{flag} must be above 0, not {value:g}", field=flag)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
