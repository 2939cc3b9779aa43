"""Prefill and decode of one stream against the length of its context, over HTTP.

Works with any server that speaks the OpenAI API: a chunk counts as a token where it has text.

    python benchmarks/context.py --url http://127.0.0.1:8000 --model smollm2-135m-instruct
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
import urllib.request
from pathlib import Path
from typing import Any

import workload

TOKENS = 48


def stream(url: str, model: str, prompt: list[int]) -> tuple[float, float]:
    """Seconds to the first token, and per token after it (the median gap)."""
    body: dict[str, Any] = {
        "model": model,
        "prompt": prompt,
        "max_tokens": TOKENS,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
    }
    request = urllib.request.Request(  # noqa: S310 - the address is the caller's own
        f"{url}/v1/completions",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    asked = time.perf_counter()
    times: list[float] = []
    with urllib.request.urlopen(request, timeout=600) as answer:  # noqa: S310
        times.extend(
            time.perf_counter()
            for line in answer
            if line.startswith(b"data: {") and json.loads(line[6:]).get("choices")
        )
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    return times[0] - asked, statistics.median(gaps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 512, 2048, 4096, 8064])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rows = []
    for size in arguments.sizes:
        prompts = workload.prompts(arguments.rounds, size, size)
        found = [stream(arguments.url, arguments.model, prompt) for prompt in prompts]
        first, gap = (statistics.median(values) for values in zip(*found, strict=True))
        rows.append({"context": size, "first token s": first, "ms per token": gap * 1e3})
        print(f"{size:6d} tokens: {first:7.3f} s to the first, {gap * 1e3:7.2f} ms a token")
    if arguments.out:
        arguments.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
