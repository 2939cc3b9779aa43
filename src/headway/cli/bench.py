"""`headway bench serve | throughput | latency | policies`, and the flags and files they share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from headway.cli.main import Subcommand, add_subcommands
from headway.cli.workload_flags import objectives_from
from headway.codec import encode, write_bytes
from headway.errors import InvalidRequest
from headway.perf.bench.result import METRICS, ResultOptions

METRICS_SHOWN = "ttft,tpot,itl"


def add_result_flags(parser: argparse.ArgumentParser) -> None:
    """What is shown and kept of a run."""
    group = parser.add_argument_group("results")
    group.add_argument(
        "--percentile-metrics",
        metavar="LIST",
        help=f"latencies to show, of {','.join(METRICS)} (default: {METRICS_SHOWN})",
    )
    group.add_argument(
        "--metric-percentiles",
        default="99",
        metavar="LIST",
        help="their percentiles to show, such as 50,99 (default: 99)",
    )
    group.add_argument("--records", metavar="FILE", help="write every request's record, JSON Lines")
    group.add_argument("--save-result", action="store_true", help="write all figures as JSON")
    group.add_argument(
        "--save-detailed",
        action="store_true",
        help="with --save-result: each request's figures, too",
    )
    group.add_argument("--result-dir", metavar="DIR", help="folder for it (default: this one)")
    group.add_argument(
        "--result-filename",
        metavar="NAME",
        help="default: made from the run and the model that is served",
    )
    group.add_argument(
        "--metadata",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="put these into the result, such as version=1.2",
    )
    group.add_argument("--disable-tqdm", action="store_true", help="show no progress")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What of a result goes into a file."""

    folder: Path | None
    """None: nothing."""
    filename: str | None
    """None: made from the run."""
    detailed: bool
    metadata: Mapping[str, str]

    def path(self, name: str, model: str) -> Path | None:
        """The file of a run of that name on a model, as it is served; None: nothing is kept."""
        if self.folder is None:
            return None
        made = f"{name}-{model.rstrip('/').rpartition('/')[2]}"
        safe = "".join(letter if letter.isalnum() or letter in "-._" else "-" for letter in made)
        return self.folder / (self.filename or f"{safe}-{now()}.json")


def result_options(arguments: argparse.Namespace) -> ResultOptions:
    """The figures that the flags ask for; raises `InvalidRequest` naming the flag."""
    return ResultOptions(
        objectives=objectives_from(arguments),
        metrics=_metrics(arguments.percentile_metrics or METRICS_SHOWN),
        percentiles=_percentiles(arguments.metric_percentiles),
    )


def kept_result(arguments: argparse.Namespace) -> Kept:
    """Where the result goes, made sure of before anything is measured.

    Raises `InvalidRequest` naming the flag.
    """
    if not arguments.save_result:
        for flag in ("save_detailed", "result_dir", "result_filename", "metadata"):
            if getattr(arguments, flag):
                spelt = "--" + flag.replace("_", "-")
                raise InvalidRequest(f"{spelt} needs --save-result", field=spelt)
        return Kept(folder=None, filename=None, detailed=False, metadata={})
    folder = Path(arguments.result_dir or ".")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidRequest(
            f"--result-dir: cannot make {folder}: {error.strerror}", field="--result-dir"
        ) from error
    return Kept(
        folder=folder,
        filename=arguments.result_filename,
        detailed=arguments.save_detailed,
        metadata=pairs_from(arguments.metadata, field="--metadata"),
    )


def _metrics(text: str) -> tuple[str, ...]:
    chosen = tuple(word.strip() for word in text.split(","))
    for word in chosen:
        if word not in METRICS:
            raise InvalidRequest(
                f"--percentile-metrics: {word!r} is none of {', '.join(METRICS)}",
                field="--percentile-metrics",
            )
    return chosen


def _percentiles(text: str) -> tuple[float, ...]:
    field = "--metric-percentiles"
    try:
        chosen = tuple(float(word) for word in text.split(","))
    except ValueError as error:
        raise InvalidRequest(f"{field} must be numbers, such as 50,99", field=field) from error
    if not all(0 <= share <= 100 for share in chosen):
        raise InvalidRequest(f"{field} must be in [0, 100]", field=field)
    return chosen


def pairs_from(words: Sequence[str], *, field: str) -> dict[str, str]:
    """KEY=VALUE words as a mapping; raises `InvalidRequest` naming the flag."""
    found = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise InvalidRequest(f"{field}: {word!r} is not KEY=VALUE", field=field)
        found[key] = value
    return found


def at_least(low: int, name: str, value: int) -> int:
    """The value; raises `InvalidRequest` naming the flag for one below `low`."""
    if value < low:
        raise InvalidRequest(f"{name} must be at least {low}, got {value}", field=name)
    return value


def max_concurrency_from(arguments: argparse.Namespace) -> int | None:
    """--max-concurrency; None without a bound."""
    given: int | None = arguments.max_concurrency
    return None if given is None else at_least(1, "--max-concurrency", given)


def check_writable(path: str | None, flag: str) -> None:
    """Ten minutes of measuring must not end in a folder that is not there; `flag` named it."""
    if path is not None and not Path(path).parent.is_dir():
        raise InvalidRequest(f"{flag}: {path}: there is no folder {Path(path).parent}", field=flag)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Raises `InvalidRequest` where the file cannot be written."""
    write_bytes(path, encode(content, pretty=True))


def complain(lines: Sequence[str]) -> None:
    for line in lines:
        print(f"headway: {line}", file=sys.stderr)


def now() -> str:
    """The date and time that results bear."""
    return datetime.now().strftime("%Y%m%d-%H%M%S")


KINDS = {
    "serve": Subcommand(
        "headway.cli.bench_serve:configure",
        "load a server, Headway or another, and measure what its clients see",
    ),
    "throughput": Subcommand(
        "headway.cli.bench_engine:configure_throughput",
        "run a workload on an engine in this process, as fast as it goes",
    ),
    "latency": Subcommand(
        "headway.cli.bench_engine:configure_latency",
        "run one batch again and again, and measure how long it takes",
    ),
    "policies": Subcommand(
        "headway.cli.bench_policies:configure",
        "compare policies, and other systems, on the same requests",
    ),
}


def configure(parser: argparse.ArgumentParser) -> None:
    add_subcommands(parser, KINDS, "kind")
