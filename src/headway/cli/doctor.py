"""`headway doctor`: what was found on this machine, and which kernels run here.

With the model prepared already it also starts an engine, and reports what that chose and how long
it took to be ready.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import platform
import shutil
import time
from collections.abc import Iterator

from headway import __version__, machine
from headway.cli.flags import add_flags, collect
from headway.config import EngineConfig, cache_home
from headway.wire import EngineInfo

Fact = tuple[str, str]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", nargs="?", help="model to start (default: the default model)")
    parser.add_argument("--no-engine", action="store_true", help="do not start an engine")
    add_flags(parser.add_argument_group("engine"), EngineConfig, leave_out=("model",))


def run(arguments: argparse.Namespace) -> int:
    _show(machine_facts())
    if not arguments.no_engine:
        config = collect(EngineConfig, arguments)
        print(f"\nStarting an engine for {config.model} ...", flush=True)
        started = time.monotonic()
        info = asyncio.run(_start_and_stop(config))
        _show([*engine_facts(info), ("ready after", f"{time.monotonic() - started:.1f} s")])
    return 0


def machine_facts() -> Iterator[Fact]:
    """Name and value of what the operating system tells, for people to read."""
    yield "headway", __version__
    yield "python", platform.python_version()
    yield "torch", importlib.metadata.version("torch")
    yield "processor", machine.processor()
    yield "cores", str(machine.cores())
    yield "instruction sets", " ".join(machine.instruction_sets()) or "unknown"
    yield (
        "memory",
        f"{_gib(machine.available_memory())} free of {_gib(machine.total_memory())}",
    )
    yield "NVIDIA GPU", "yes" if machine.has_nvidia_gpu() else "none"
    yield "C++ compiler", shutil.which("c++") or shutil.which("g++") or "none"
    yield "models in", str(cache_home())


def engine_facts(info: EngineInfo) -> Iterator[Fact]:
    """Name and value of what a started engine chose."""
    limits = info.limits
    yield "device", f"{info.device}, {info.dtype}, {info.threads} threads"
    yield "kernels", info.backend
    yield "weights", _gib(info.weight_bytes)
    tokens = info.num_blocks * info.block_size
    yield "KV cache", f"{_gib(info.kv_bytes)}: {info.num_blocks} blocks, {tokens} tokens"
    yield (
        "batch",
        f"policy {info.policy}, at most {limits.max_num_seqs} sequences and "
        f"{limits.max_num_batched_tokens} new tokens a step",
    )
    yield "longest sequence", f"{limits.max_model_len} tokens"


async def _start_and_stop(config: EngineConfig) -> EngineInfo:
    from headway.llm import AsyncLLM

    llm = await AsyncLLM.start(config)
    try:
        return llm.client.info
    finally:
        await llm.close()


def _show(facts: Iterator[Fact] | list[Fact]) -> None:
    for name, value in facts:
        print(f"{name:>18}  {value}")


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"
