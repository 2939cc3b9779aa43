"""Headway beside other engines, on the same prompts, lengths and client, in one interleaved run.

The other engines, the workload and the client come from a folder outside of this repository: its
`run.sh ENGINE OUT.json WORK...` measures one engine, and its `client.py` any server that speaks the
OpenAI API. Every round runs each system once, beginning with another one and with fresh prompts;
what counts is the median of rounds. Run it on a machine that does nothing else.

    PEERS=folder-of-installs python benchmarks/peers.py --peers folder-of-scripts --rounds 3 \\
        --out results "headway:--dtype int8" "headway:--dtype int4" vllm llamacpp:q4_0 openvino
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import workload
from rounds import short
from served import MODEL, Server, Work, about_this_machine, ask

Figures = dict[str, float]
ASK_FOR_TOKENS = {"return_token_ids": True, "stream_options": {"include_usage": True}}
UNCACHED = {"cache_salt": "alone"}


@dataclass(frozen=True, kw_only=True)
class Run:
    """One turn of one system; without figures where it failed."""

    system: str
    figures: Figures
    chosen: dict[str, str] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class Results:
    systems: list[str]
    runs: list[Run]

    def values(self, system: str, figure: str) -> list[float]:
        """What all runs of a system gave, in their order."""
        return [
            run.figures[figure]
            for run in self.runs
            if run.system == system and figure in run.figures
        ]

    def failures(self, system: str) -> int:
        return sum(run.system == system and bool(run.error) for run in self.runs)


@dataclass(frozen=True, kw_only=True)
class System:
    """`name:detail`. For Headway the detail is flags of `headway serve`, else a form of weights."""

    name: str
    detail: str

    @staticmethod
    def parse(text: str) -> System:
        name, _, detail = text.partition(":")
        return System(name=name, detail=detail)

    def __str__(self) -> str:
        return f"{self.name} {self.detail}".strip()

    @property
    def ours(self) -> bool:
        return self.name == "headway"


@dataclass(frozen=True, kw_only=True)
class Settings:
    folder: Path
    installs: Path
    client_python: str
    work: tuple[str, ...]
    cap: float | None
    port: int
    timeout: float


def run_once(system: System, prompt_set: int, settings: Settings) -> Run:
    """One system through all the work; what went wrong is a part of the result."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        try:
            run = run_ours if system.ours else run_peer
            extra, chosen = run(system, prompt_set, settings, out)
            results = json.loads(out.read_text())
        except (RuntimeError, OSError, subprocess.SubprocessError, ValueError) as error:
            return Run(system=str(system), figures={}, error=str(error)[-2000:])
    works = results["res"] if isinstance(results, dict) else results
    figures: Figures = dict(extra)
    for work in works:
        figures |= figures_of(work)
    return Run(system=str(system), figures=figures, chosen=chosen)


def run_ours(
    system: System, prompt_set: int, settings: Settings, out: Path
) -> tuple[Figures, dict[str, str]]:
    with Server(settings.port, [MODEL, *shlex.split(system.detail)]) as server:
        hello = asyncio.run(ask(settings.port, Work(prompt=workload.prompts(1, 5, 0)[0], tokens=1)))
        started = hello.asked + hello.seconds - server.started
        command = [settings.client_python, str(settings.folder / "client.py")]
        command += ["--url", f"http://127.0.0.1:{settings.port}", "--model", MODEL]
        command += ["--extra", json.dumps(ASK_FOR_TOKENS), "--extrainv", json.dumps(UNCACHED)]
        command += ["--set", str(prompt_set), "--out", str(out)]
        if settings.cap is not None:
            command += ["--cap", str(settings.cap)]
        text = output_of([*command, *settings.work], dict(os.environ), settings.timeout)
        print(text, flush=True)
        figures = {"start s": started}
        peak = server.peak_memory()
        if peak is not None:
            figures["peak memory MiB"] = peak / 2**20
        return figures, server.chosen()


def run_peer(
    system: System, prompt_set: int, settings: Settings, out: Path
) -> tuple[Figures, dict[str, str]]:
    environment = dict(os.environ) | {
        "PEERS": str(settings.installs),
        "SET": str(prompt_set),
        "PORT": str(settings.port),
    }
    if system.detail:
        environment["FORM"] = system.detail
    command = ["bash", str(settings.folder / "run.sh"), system.name, str(out), *settings.work]
    text = output_of(command, environment, settings.timeout)
    print(text, flush=True)
    figures: Figures = {}
    for key, pattern in (
        ("start s", r"COLDSTART[^\d]*([\d.]+)"),
        ("peak memory MiB", r"PEAKRSS\s+([\d.]+)"),
    ):
        found = re.search(pattern, text)
        if found is not None:
            figures[key] = float(found[1])
    return figures, {}


def output_of(command: list[str], environment: dict[str, str], timeout: float) -> str:
    """What a command prints; raises RuntimeError with its last words where it fails."""
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )
    if done.returncode != 0:
        raise RuntimeError((done.stdout + done.stderr)[-2000:])
    return done.stdout


def figures_of(work: dict[str, Any]) -> Figures:
    """What the client says of one piece of work, under names that say the work and the unit."""
    name = str(work["name"])
    if name == "INV":
        return {"INV identical %": 100 * work["match"] / work["of"]}
    if name == "W0":
        decode = sorted(work["decode_tps"])
        return {"W0 decode tokens/s": decode[len(decode) // 2], "W0 TTFT s": work["ttft50"]}
    if name == "W3":
        return {"W3 total tokens/s": work["total_tps"]}
    latencies = {
        f"{name} TTFT s": work["ttft50"],
        f"{name} ITL p50 ms": work["itl50"],
        f"{name} ITL p99 ms": work["itl99"],
    }
    if name.startswith("W1"):
        return {f"{name} output tokens/s": work["out_tps"], **latencies}
    return latencies


def more_is_better(figure: str) -> bool:
    return figure.endswith(("tokens/s", "%"))


def table(results: Results) -> str:
    """Markdown: a row for each figure, medians with (least-most), and the ratio in our favour."""
    names = list(dict.fromkeys(name for run in results.runs for name in run.figures))
    lines = [
        "| | " + " | ".join(results.systems) + " | best of ours to best peer |",
        "|" + "---|" * (len(results.systems) + 2),
    ]
    for figure in names:
        cells = [_cell(results.values(system, figure)) for system in results.systems]
        lines.append(f"| {figure} | " + " | ".join(cells) + f" | {_ratio(results, figure)} |")
    failed = [f"{name}: {results.failures(name)}" for name in results.systems]
    if any(run.error for run in results.runs):
        lines.append("\nFailed turns: " + ", ".join(failed))
    return "\n".join(lines) + "\n"


def _cell(values: list[float]) -> str:
    if not values:
        return ""
    median = short(statistics.median(values))
    if len(values) == 1:
        return median
    return f"{median} ({short(min(values))}-{short(max(values))}, n={len(values)})"


def _ratio(results: Results, figure: str) -> str:
    """How many times better the best of ours is than the best other, by medians."""
    best: dict[bool, float] = {}
    for system in results.systems:
        values = results.values(system, figure)
        if values:
            ours = system.startswith("headway")
            middle = statistics.median(values)
            better = max if more_is_better(figure) else min
            best[ours] = better(best.get(ours, middle), middle)
    if len(best) < 2 or min(best.values()) <= 0:
        return ""
    ratio = best[True] / best[False] if more_is_better(figure) else best[False] / best[True]
    return f"{ratio:.2f}"


def settings_from(arguments: argparse.Namespace) -> Settings:
    installs = Path(os.environ.get("PEERS", ".peers")).resolve()
    likely = installs / "vllm" / "bin" / "python"
    python = arguments.client_python or (str(likely) if likely.exists() else sys.executable)
    return Settings(
        folder=arguments.peers.resolve(),
        installs=installs,
        client_python=python,
        work=tuple(arguments.work),
        cap=arguments.cap,
        port=arguments.port,
        timeout=arguments.timeout,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Headway beside other engines, interleaved.")
    parser.add_argument("systems", nargs="+", help='"headway:FLAGS", or an engine of run.sh[:FORM]')
    parser.add_argument("--peers", type=Path, required=True, help="folder with run.sh, client.py")
    parser.add_argument("--client-python", help="a Python that has what client.py imports")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", nargs="+", default=["W0", "W1a", "W3", "INV16"])
    parser.add_argument("--cap", type=float, help="requests/s that Headway's W2 is a share of")
    parser.add_argument("--port", type=int, default=8123)
    parser.add_argument("--timeout", type=float, default=3000, help="seconds for one system's turn")
    parser.add_argument("--pause", type=float, default=3, help="seconds between turns")
    parser.add_argument("--first-set", type=int, default=0, help="prompt set of the first round")
    parser.add_argument("--out", type=Path, required=True, help="folder for the JSON and the table")
    arguments = parser.parse_args()
    settings = settings_from(arguments)
    systems = [System.parse(text) for text in arguments.systems]
    sets = max(1, sum(work.startswith("W1") for work in arguments.work))
    runs: list[Run] = []
    arguments.out.mkdir(parents=True, exist_ok=True)
    for number in range(arguments.rounds):
        # Each system comes first once, in case the machine changes within a round.
        turn = number % len(systems)
        for system in systems[turn:] + systems[:turn]:
            print(f"== round {number + 1}: {system}", flush=True)
            run = run_once(system, arguments.first_set + number * sets, settings)
            if run.error:
                print(f"FAILED: {run.error}", flush=True)
            runs.append(run)
            write(arguments.out, Results(systems=[str(s) for s in systems], runs=runs), settings)
            time.sleep(arguments.pause)


def write(folder: Path, results: Results, settings: Settings) -> None:
    """After every turn, so that a run that is broken off has not been for nothing."""
    record = about_this_machine() | {"program": "benchmarks/peers.py", "work": settings.work}
    record |= {"systems": results.systems, "runs": [vars_of(run) for run in results.runs]}
    (folder / "peers.json").write_text(json.dumps(record, indent=1) + "\n")
    (folder / "peers.md").write_text(table(results))


def vars_of(run: Run) -> dict[str, object]:
    whole = {"system": run.system, "figures": run.figures, "chosen": run.chosen, "error": run.error}
    return {key: value for key, value in whole.items() if value}


if __name__ == "__main__":
    main()
