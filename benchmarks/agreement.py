"""Does `headway bench serve` measure what another client measures? Both load one server in turns.

The other client is guidellm, installed apart (`pip install guidellm`); it needs the model's Hugging
Face tokenizer in a folder. Each round starts with the other client first, every second round with
ours, at a fixed concurrency and with fixed lengths; prompts differ, so no prefix is shared. Prints
medians over rounds and their ratios, and writes all of it with `--out`.

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
from pathlib import Path

from served import MODEL, Server, about_this_machine

FIGURES = ("output tokens/s", "median TTFT ms", "median TPOT ms")


def with_guidellm(given: argparse.Namespace, streams: int, folder: Path) -> dict[str, float]:
    """Through chat completions, which is what it sends; its own random words as prompts."""
    out = folder / "guidellm.json"
    command = [
        given.guidellm,
        "run",
        "--disable-progress",
        "--seed",
        f"kind=static,value={streams}",
    ]
    options = {
        "--backend": f"kind=openai_http,target=http://127.0.0.1:{given.port},model={MODEL}",
        "--profile": f"kind=concurrent,streams={streams}",
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


def with_ours(
    given: argparse.Namespace, streams: int, folder: Path, prompt: int
) -> dict[str, float]:
    """Prompts of the same length in tokens, through completions."""
    command = [sys.executable, "-m", "headway", "bench", "serve", "--port", str(given.port)]
    command += ["--model", MODEL, "--num-prompts", str(given.requests), "--disable-tqdm"]
    command += ["--max-concurrency", str(streams), "--input-len", str(prompt)]
    command += ["--output-len", str(given.output), "--seed", str(streams), "--save-result"]
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
    with Server(given.port, ["--no-enable-prefix-caching"]):
        for streams in given.streams:
            prompt = given.prompt
            for round_number in range(given.rounds):
                order = ["guidellm", "headway bench serve"]
                # Ours takes the length that the other's chat template gave, so it cannot be first.
                if round_number % 2:
                    order.reverse()
                for client in order:
                    if client == "guidellm":
                        figures = with_guidellm(given, streams, folder)
                        prompt = round(figures["prompt tokens"])
                    else:
                        figures = with_ours(given, streams, folder, prompt)
                    runs.append({"client": client, "streams": streams, **figures})
                    print(json.dumps(runs[-1]), flush=True)
    return runs


def compared(runs: list[dict[str, object]], streams: int) -> dict[str, float]:
    """Median over rounds of ours, over that of the other."""

    def median(client: str, figure: str) -> float:
        chosen = [run for run in runs if (run["client"], run["streams"]) == (client, streams)]
        return statistics.median(float(str(run[figure])) for run in chosen)

    return {
        figure: median("headway bench serve", figure) / median("guidellm", figure)
        for figure in FIGURES
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--guidellm", required=True, help="the other client's program")
    parser.add_argument("--tokenizer", required=True, help="folder with the model's tokenizer")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--requests", type=int, default=96)
    parser.add_argument("--prompt", type=int, default=98)
    parser.add_argument("--output", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--port", type=int, default=8018)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs = measure(given, Path(folder))
    ratios = {str(streams): compared(runs, streams) for streams in given.streams}
    for streams, figures in ratios.items():
        shown = "  ".join(f"{name} {value:.3f}" for name, value in figures.items())
        print(f"{streams:>3} streams, ours over guidellm's:  {shown}")
    if given.out:
        record = about_this_machine() | {"runs": runs, "ours over guidellm's": ratios}
        given.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
