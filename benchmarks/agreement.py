"""Does `headway bench serve` measure what another client measures? Both load one server in turns.

The other client is guidellm, installed apart (`pip install guidellm`); it needs the model's Hugging
Face tokenizer in a folder. Each round starts with the other client first, every second round with
ours, with fixed lengths, at a fixed concurrency or at an even rate (with several streams the waves
in which requests of equal length end and begin decide about TTFT, and no two runs of either client
agree; at a rate there are none). Prompts differ, so no prefix is shared. The
server has one core and the client another: what a client takes for itself would otherwise be
missing from the server, and the two clients' appetites differ. Prints medians over rounds and their
ratios, and writes all of it with `--out`.

    python benchmarks/agreement.py --guidellm ~/guide/bin/guidellm --tokenizer ~/smollm2
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from served import MODEL, Server, about_this_machine

FIGURES = ("output tokens/s", "median TTFT ms", "median TPOT ms")


@dataclass(frozen=True)
class Load:
    """So many streams, each asking again when it was answered, or so many requests a second."""

    streams: int | None = None
    rate: float | None = None

    def __str__(self) -> str:
        return f"{self.streams} streams" if self.streams else f"{self.rate:g} requests/s"

    @property
    def seed(self) -> int:
        return self.streams or round(100 * (self.rate or 0))

    @property
    def for_guidellm(self) -> str:
        streams = f"kind=concurrent,streams={self.streams}"
        return streams if self.streams else f"kind=constant,rate={self.rate}"

    @property
    def for_ours(self) -> list[str]:
        if self.streams:
            return ["--max-concurrency", str(self.streams)]
        return ["--request-rate", str(self.rate), "--burstiness", "inf"]


def with_guidellm(given: argparse.Namespace, load: Load, folder: Path) -> dict[str, float]:
    """Through chat completions, which is what it sends; its own random words as prompts."""
    out = folder / "guidellm.json"
    command = [
        given.guidellm,
        "run",
        "--disable-progress",
        "--seed",
        f"kind=static,value={load.seed}",
    ]
    options = {
        "--backend": f"kind=openai_http,target=http://127.0.0.1:{given.port},model={MODEL}",
        "--profile": load.for_guidellm,
        "--constraint": f"kind=max_requests,count={given.requests}",
        "--tokenizer": f"kind=hf_auto,model={given.tokenizer}",
        "--data": f"kind=synthetic_text,prompt_tokens={given.prompt},output_tokens={given.output}",
        "--output": f"kind=json,path={out}",
    }
    command += [word for option in options.items() for word in option]
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    subprocess.run(command, check=True, env=dict(os.environ) | offline, capture_output=True)
    (found,) = json.loads(out.read_text())["benchmarks"]
    answers = found["requests"]["successful"]
    # What it calls inter-token latency of a request is what we and vLLM call TPOT.
    return {
        "requests": len(answers),
        "prompt tokens": statistics.median(each["prompt_tokens"] for each in answers),
        "output tokens/s": sum(each["output_tokens"] for each in answers) / found["duration"],
        "median TTFT ms": statistics.median(each["time_to_first_token_ms"] for each in answers),
        "median TPOT ms": statistics.median(each["inter_token_latency_ms"] for each in answers),
    }


def with_ours(given: argparse.Namespace, load: Load, folder: Path, prompt: int) -> dict[str, float]:
    """Prompts of the same length in tokens, through completions."""
    command = [sys.executable, "-m", "headway", "bench", "serve", "--port", str(given.port)]
    command += ["--model", MODEL, "--num-prompts", str(given.requests), "--disable-tqdm"]
    command += [*load.for_ours, "--input-len", str(prompt)]
    command += ["--output-len", str(given.output), "--seed", str(load.seed), "--save-result"]
    command += ["--result-dir", str(folder), "--result-filename", "ours.json"]
    subprocess.run(command, check=True, capture_output=True)
    found = json.loads((folder / "ours.json").read_text())
    return {
        "requests": found["completed"],
        "prompt tokens": prompt,
        "output tokens/s": found["output_throughput"],
        "median TTFT ms": found["median_ttft_ms"],
        "median TPOT ms": found["median_tpot_ms"],
    }


def measure(given: argparse.Namespace, folder: Path) -> list[dict[str, object]]:
    runs: list[dict[str, object]] = []
    *_, servers, clients = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {servers})  # which the server inherits
    with Server(given.port, ["--no-enable-prefix-caching", "--threads", "1"]):
        os.sched_setaffinity(0, {clients})
        for load in loads(given):
            prompt = given.prompt
            for round_number in range(given.rounds):
                order = ["guidellm", "headway bench serve"]
                # Ours takes the length that the other's chat template gave, so it cannot be first.
                if round_number % 2:
                    order.reverse()
                for client in order:
                    if client == "guidellm":
                        figures = with_guidellm(given, load, folder)
                        prompt = round(figures["prompt tokens"])
                    else:
                        figures = with_ours(given, load, folder, prompt)
                    runs.append({"client": client, "load": str(load), **figures})
                    print(json.dumps(runs[-1]), flush=True)
    return runs


def loads(given: argparse.Namespace) -> list[Load]:
    streams = [Load(streams=number) for number in given.streams]
    return streams + [Load(rate=rate) for rate in given.rates]


def compared(runs: list[dict[str, object]], load: Load) -> dict[str, float]:
    """Median over rounds of ours, over that of the other."""

    def median(client: str, figure: str) -> float:
        chosen = [run for run in runs if (run["client"], run["load"]) == (client, str(load))]
        return statistics.median(float(str(run[figure])) for run in chosen)

    return {
        figure: median("headway bench serve", figure) / median("guidellm", figure)
        for figure in FIGURES
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--guidellm", required=True, help="the other client's program")
    parser.add_argument("--tokenizer", required=True, help="folder with the model's tokenizer")
    parser.add_argument("--streams", type=int, nargs="*", default=[1])
    parser.add_argument("--rates", type=float, nargs="*", default=[1.0, 2.5])
    parser.add_argument("--requests", type=int, default=96)
    parser.add_argument("--prompt", type=int, default=98)
    parser.add_argument("--output", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--port", type=int, default=8018)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    machine = about_this_machine()  # before its cores are divided
    with tempfile.TemporaryDirectory() as folder:
        runs = measure(given, Path(folder))
    ratios = {str(load): compared(runs, load) for load in loads(given)}
    for load, figures in ratios.items():
        shown = "  ".join(f"{name} {value:.3f}" for name, value in figures.items())
        print(f"{load}, ours over guidellm's:  {shown}")
    if given.out:
        record = machine | {"runs": runs, "ours over guidellm's": ratios}
        given.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
