"""`headway doctor`: what was found on this machine, and which kernels run here.

It also starts an engine, and reports what that chose and how long it took to be ready. With
`--quality` it instead compares all weight formats of a model with float32 and keeps the result;
with `--limits` it measures what the machine can do at most and keeps the best.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import headway
from headway import __version__, machine, native
from headway.cli.flags import add_flags, collect
from headway.config import DEFAULT_MODEL, EngineConfig
from headway.environment import cache_home
from headway.extras import INSTALL_TORCH, has_torch
from headway.steptime.shape import PeakRates
from headway.wire import EngineInfo

if TYPE_CHECKING:
    from headway.checkpoint.quality_reports import QualityReport

Fact = tuple[str, str]
LIMITS_HEAD = f"{'format':<10} {'operations G/s':>14} {'read GB/s':>10}"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run)
    parser.add_argument("model", nargs="?", help=f"model to start (default: {DEFAULT_MODEL})")
    parser.add_argument("--no-engine", action="store_true", help="do not start an engine")
    parser.add_argument(
        "--quality",
        action="store_true",
        help="measure how close every weight format of the model is to float32, which takes "
        "minutes; the dtype 'auto' uses the result from now on",
    )
    parser.add_argument(
        "--limits",
        action="store_true",
        help="measure anew how fast the machine computes and reads memory, of which engines report "
        "the percentage that they reach; the best is kept, so measure while nothing else runs",
    )
    add_flags(parser.add_argument_group("engine"), EngineConfig, leave_out=("model",))


def run(arguments: argparse.Namespace) -> int:
    _show(machine_facts())
    config = collect(EngineConfig, arguments)
    if arguments.limits:
        _measure(config)
    if arguments.quality:
        _evaluate(config)
    elif not (arguments.no_engine or arguments.limits):
        print(f"\nStarting an engine for {config.model} ...", flush=True)
        started = time.monotonic()
        info = asyncio.run(_start_and_stop(config))
        _show([*engine_facts(info), ("ready after", f"{time.monotonic() - started:.1f} s")])
    return 0


def machine_facts() -> Iterator[Fact]:
    """Name and value of what the operating system reports."""
    yield "headway", __version__
    yield "python", platform.python_version()
    yield "torch", _torch()
    yield "processor", machine.processor()
    yield "cores", str(machine.cores())
    yield "instruction sets", " ".join(machine.instruction_sets()) or "unknown"
    yield (
        "memory",
        f"{_gib(machine.available_memory())} free of {_gib(machine.total_memory())}",
    )
    yield "NVIDIA GPU", "yes" if machine.has_nvidia_gpu() else "none"
    yield "native kernels", _native_kernels()
    yield "C++ compiler", shutil.which("c++") or shutil.which("g++") or "none"
    yield "models in", str(cache_home())


def engine_facts(info: EngineInfo) -> Iterator[Fact]:
    """Name and value of what a started engine chose."""
    hardware, scheduler, limits = info.hardware, info.scheduler, info.scheduler.limits
    yield "device", f"{hardware.device}, {hardware.threads} threads"
    yield "kernels", hardware.backend
    yield "weights", f"{hardware.dtype}, {_gib(info.weight_bytes)}"
    blocks, tokens = scheduler.num_blocks, scheduler.num_blocks * scheduler.block_size
    yield (
        "KV cache",
        f"{hardware.kv_cache_dtype}, {_gib(info.kv_bytes)}: {blocks} blocks, {tokens} tokens",
    )
    yield (
        "batch",
        f"policy {scheduler.policy.name}, at most {limits.max_num_seqs} sequences and "
        f"{limits.max_num_batched_tokens} new tokens a step",
    )
    yield "longest sequence", f"{limits.max_model_len} tokens"


def quality_table(report: QualityReport) -> Iterator[str]:
    """A report as lines of text: each weight format beside float32."""
    yield f"{report.model}: {report.tokens} tokens, float32 perplexity {report.perplexity:.3f}"
    yield f"{'weights':<10} {'KV cache':<10} {'perplexity':>10} {'KL':>8} {'same top token':>15}"
    for row in report.forms:
        yield (
            f"{row.form:<10} {row.kv_cache:<10} {row.perplexity:>+10.2%} {row.divergence:>8.4f} "
            f"{row.agreement:>15.1%}  {'passes' if row.passes else 'fails'}"
        )


def limits_row(limits: PeakRates) -> str:
    """One number format's limits as a line of text, below `LIMITS_HEAD`."""
    billions = limits.flops_per_second / 1e9
    return f"{limits.dtype:<10} {billions:>14,.0f} {limits.bandwidth / 1e9:>10.1f}"


def _measure(config: EngineConfig) -> None:
    from headway.llm.peak_rates import measure_machine

    print("\nMeasuring what this machine can do at most ...", flush=True)
    for number, limits in enumerate(measure_machine(config)):
        if number == 0:
            print(f"{limits.device}, {limits.threads} threads\n{LIMITS_HEAD}")
        print(limits_row(limits), flush=True)


def _evaluate(config: EngineConfig) -> None:
    from headway.perf.quality.evaluate import evaluate

    print(f"\nComparing all weight formats of {config.model} with float32 ...", flush=True)
    for line in quality_table(evaluate(config, on_progress=_watch)):
        print(line)


def _watch(done: int, total: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{done} of {total} contexts", end="\n" if done == total else "", file=sys.stderr)


def _torch() -> str:
    if not has_torch():
        return f"not installed, which only GPUs and the reference backend need: {INSTALL_TORCH}"
    return importlib.metadata.version("torch")


def _native_kernels() -> str:
    try:
        return "for " + " ".join(native.supported(native.load()))
    except native.LibraryError as error:
        return error.message


async def _start_and_stop(config: EngineConfig) -> EngineInfo:
    llm = await headway.AsyncLLM.start(config)
    try:
        return llm.client.info
    finally:
        await llm.close()


def _show(facts: Iterator[Fact] | list[Fact]) -> None:
    for name, value in facts:
        print(f"{name:>18}  {value}")


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"
