"""`headway bench serve | throughput | latency | policies`: load, measured from the outside.

Each has a module of its own. What all of them need of the command line stands in `bench_common`.
"""

from __future__ import annotations

import argparse
import importlib

KINDS = {
    "serve": "load a server, ours or another's, and measure what its clients see",
    "throughput": "run a workload on an engine in this process, as fast as it goes",
    "latency": "run one batch again and again, and measure how long it takes",
    "policies": "compare policies, and other systems, on the same requests",
}


def configure(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    for name, explanation in KINDS.items():
        module = importlib.import_module(f"headway.cli.bench_{name}")
        kind = kinds.add_parser(name, help=explanation, description=explanation)
        module.configure(kind)
        kind.set_defaults(bench=module.run)


def run(arguments: argparse.Namespace) -> int:
    status: int = arguments.bench(arguments)
    return status
