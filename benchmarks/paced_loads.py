"""The loads on which `paced` is compared with fixed settings, with objectives on every request.

For one H100: three public traces at scales of their rate. For this machine: steady loads at shares
of its capacity, and loads that shift, which no fixed setting suits from beginning to end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from headway.perf.workload.lengths import parse_lengths
from headway.perf.workload.service import with_classes, with_objectives
from headway.perf.workload.synthetic import at_once, at_rate, gamma, rearrive, synthesize, then
from headway.perf.workload.traces import read_trace
from headway.perf.workload.workload import Workload
from headway.types import SERVICE_CLASSES
from headway.types.objectives import Objective, parse_objectives

TRACES = {
    "azure conversation": "AzureLLMInferenceTrace_conv.csv",
    "azure code": "AzureLLMInferenceTrace_code.csv",
    "mooncake": "mooncake_conversation_trace.jsonl",
}
RATES = {
    "azure conversation": (2.0, 3.0, 3.4, 4.0, 5.0),
    "azure code": (4.0, 6.0, 8.0, 10.0),
    "mooncake": (0.25, 0.5, 0.75, 1.0),
}
"""Times each trace's own rate: from well below to beyond what one H100 serves."""
STEADY = (0.5, 0.8, 1.0, 1.5)
"""Shares of capacity."""
TIGHT = "ttft_p99=500ms,tpot_p99=40ms"
"""Objectives of interactive requests where tight and loose are mixed."""
SMALLER = 1 / 8
"""Of a trace's lengths, for two cores."""

Kind = Callable[[int, int], Workload]
"""Makes so many requests by a seed; when they come is no part of a kind."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """Requests to be served, each of which has its objectives."""

    name: str
    family: str
    """Loads of one family differ in their rate alone."""
    workload: Workload


def held_to(workload: Workload, objectives: tuple[Objective, ...]) -> Workload:
    """Every request, of whatever class, has these objectives."""
    return with_objectives(workload, dict.fromkeys(SERVICE_CLASSES, objectives))


def traced(
    folder: Path, trace: str, rate: float, requests: int, objectives: tuple[Objective, ...]
) -> Load:
    """A trace's first requests at `rate` times its own rate."""
    workload = read_trace(folder / TRACES[trace], num_requests=requests, rate_scale=rate)
    name = f"{trace} x {rate:g}"
    return Load(name=name, family=trace, workload=held_to(workload, objectives))


def chat(count: int, seed: int) -> Workload:
    """Short questions and answers several times as long as a step is worth: decodes dominate."""
    return _made(count, seed, "lognormal:96:0.7:512", "exponential:96:384")


def reading(count: int, seed: int) -> Workload:
    """Long prompts and short answers: prefills dominate."""
    return _made(count, seed, "lognormal:500:0.5:1500", "exponential:24:96")


def _made(count: int, seed: int, prompt: str, output: str) -> Workload:
    return synthesize(
        num_requests=count,
        prompt=parse_lengths(prompt),
        output=parse_lengths(output),
        arrivals=at_once,
        seed=seed,
    )


def coding(folder: Path, count: int, seed: int) -> Workload:
    """Azure's code trace with shorter lengths, bursts and all."""
    path = folder / TRACES["azure code"]
    return read_trace(path, num_requests=count, length_scale=SMALLER, seed=seed)


def kinds(traces: Path | None) -> dict[str, Kind]:
    """Kinds of requests by name; those of traces need their folder."""
    found: dict[str, Kind] = {"chat": chat, "reading": reading}
    return found if traces is None else found | {"code": partial(coding, traces)}


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What loads for a machine are made of."""

    capacity: Callable[[str], float]
    """The most requests a second that it serves of a kind (see `kinds`)."""
    objectives: tuple[Objective, ...]
    requests: int
    traces: Path | None
    seed: int = 1

    def loads(self) -> dict[str, Callable[[], Load]]:
        """All loads by name, made when they are asked for."""
        made: dict[str, Callable[[], Workload]] = {
            f"steady {share:.0%}": partial(self._steady, share) for share in STEADY
        }
        made |= {
            "step in rate": self._step,
            "shift in lengths": self._lengths,
            "tight and loose": self._mixed,
        }
        if self.traces is not None:
            made["bursty code"] = partial(self._code, self.traces)
        return {name: partial(self._load, name, make) for name, make in made.items()}

    def _load(self, name: str, make: Callable[[], Workload]) -> Load:
        workload = make()
        classes = {request.service_class for request in workload.requests}
        if classes == {"standard"}:
            workload = held_to(workload, self.objectives)
        return Load(name=name, family=name.split(maxsplit=1)[0], workload=workload)

    def _arriving(self, kind: str, share: float, count: int, seed: int) -> Workload:
        workload = kinds(None)[kind](count, seed)
        return rearrive(workload, gamma(share * self.capacity(kind)), seed=seed)

    def _steady(self, share: float) -> Workload:
        return self._arriving("chat", share, self.requests, self.seed)

    def _step(self) -> Workload:
        """Half of the requests at 60 % of capacity, half of them at 140 %."""
        half = self.requests // 2
        calm = self._arriving("chat", 0.6, half, self.seed)
        return then(calm, self._arriving("chat", 1.4, half, self.seed + 1))

    def _lengths(self) -> Workload:
        """From answers to prompts half-way, each at 90 % of what the machine serves of its kind."""
        half = self.requests // 2
        first = self._arriving("chat", 0.9, half, self.seed)
        return then(first, self._arriving("reading", 0.9, half, self.seed + 1))

    def _mixed(self) -> Workload:
        workload = self._arriving("chat", 1.1, self.requests, self.seed)
        shares: Mapping[str, float] = {"interactive": 0.3, "standard": 0.5, "batch": 0.2}
        mixed = with_classes(
            workload, {name: shares[name] for name in SERVICE_CLASSES}, seed=self.seed
        )
        tight = parse_objectives(TIGHT)
        return with_objectives(mixed, {"interactive": tight, "standard": self.objectives})

    def _code(self, folder: Path) -> Workload:
        """The trace's own times, as fast as makes 80 % of capacity on average."""
        workload = coding(folder, self.requests, self.seed)
        own = len(workload.requests) / workload.requests[-1].at
        scaled = at_rate(workload, 0.8 * self.capacity("code") / own)
        return replace(scaled, name="code")
