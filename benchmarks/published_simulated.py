"""The published experiment at its full size, on the machine it was made on, in the simulator.

1,000 requests of 512 prompt tokens, outputs exponential with mean 128 under four caps, OPT-13B on
an A100 of 40 GB as a roofline profile; the shipped scheduler under four ways to group requests,
all under one memory budget. It tells what scheduling and paging are worth where a wider batch costs
little; kernels are the same for all, so the published gain of better kernels is not in it.

    python benchmarks/published_simulated.py --out results.json
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path

from headway.config import PolicyName
from headway.perf.records.summary import summarize
from headway.perf.sim.roofline import known_device, known_model, roofline_profile
from headway.perf.sim.simulate import Setup, simulate
from headway.perf.workload.lengths import parse_lengths
from headway.perf.workload.synthetic import at_once, synthesize
from headway.perf.workload.workload import Workload
from headway.types import Limits
from headway.types.engine import KVReservation, PolicyConfig, SchedulerConfig
from served import about_this_machine

PROMPT, MEAN = 512, 128
SLOTS = {32: 16, 128: 12, 512: 8, 1536: 4}
"""By cap, as published."""
BUDGET, BLOCK = 8704, 16
"""Tokens of KV cache: 16 sequences of 512 and 32."""
PUBLISHED = {"static, better kernels": 4, "continuous": 8, "continuous, paged": 23}


@dataclass(frozen=True, kw_only=True)
class System:
    policy: PolicyName
    reservation: KVReservation = "full"
    padded: bool = False


SYSTEMS = {
    "static, padded": System(policy="static", padded=True),
    "static": System(policy="static"),
    "continuous, whole length reserved": System(policy="continuous"),
    "continuous, paged on demand": System(policy="continuous", reservation="on-demand"),
}


def padded(workload: Workload, slots: int) -> Workload:
    """Every row of a batch goes on until the batch's slowest ends."""
    requests = workload.requests
    batches = [requests[first : first + slots] for first in range(0, len(requests), slots)]
    return replace(
        workload,
        requests=tuple(
            replace(request, output=max(other.output for other in batch))
            for batch in batches
            for request in batch
        ),
    )


def run(system: System, cap: int, requests: int) -> dict[str, float]:
    workload = synthesize(
        num_requests=requests,
        prompt=parse_lengths(str(PROMPT)),
        output=parse_lengths(f"exponential:{MEAN}:{cap}"),
        arrivals=at_once,
        cap=cap,
        seed=0,
    )
    slots = SLOTS[cap]
    paged = system.reservation == "on-demand"
    row = -(-(PROMPT + cap) // BLOCK)
    setup = Setup(
        profile=roofline_profile(
            known_device("a100-40gb"),
            known_model("opt-13b"),
            dtype="bfloat16",
            kv_cache_dtype="bfloat16",
        ),
        scheduler=SchedulerConfig(
            policy=PolicyConfig(name=system.policy),
            limits=Limits(
                max_num_seqs=256 if paged else slots,
                max_num_batched_tokens=2048,
                max_num_partial_prefills=1,
                max_model_len=PROMPT + cap,
            ),
            num_blocks=BUDGET // BLOCK if paged else slots * row,
            block_size=BLOCK,
            prefix_caching=False,
            reservation=system.reservation,
        ),
    )
    found = simulate(padded(workload, slots) if system.padded else workload, setup)
    summary = summarize(found.records, duration=found.duration, gaps=found.gaps)
    wanted = workload.prompt_tokens + workload.output_tokens
    (replica,) = found.replicas
    return {
        "tokens/s": wanted / found.duration,
        "p50 latency s": summary["p50_e2el_ms"] / 1e3,
        "preemptions": replica.preemptions,
        "mean width": replica.slot_seconds / found.duration,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    rows = []
    for cap in SLOTS:
        base = 0.0
        for name, system in SYSTEMS.items():
            figures = run(system, cap, given.requests)
            base = base or figures["tokens/s"]
            rows.append({"cap": cap, "system": name, **figures})
            print(
                f"cap {cap:>4}  {name:<34} {figures['tokens/s']:7.0f} tokens/s "
                f"{figures['tokens/s'] / base:5.2f} x  p50 {figures['p50 latency s']:6.1f} s  "
                f"width {figures['mean width']:5.1f}  preempted {figures['preemptions']:.0f}",
                flush=True,
            )
    if given.out:
        record = about_this_machine() | {"published": PUBLISHED, "rows": rows}
        given.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
