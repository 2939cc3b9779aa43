"""A scenario: the systems that are compared, the workloads, and the memory that all of them get.

Plain data with its rules, and its YAML, which is read strictly: a misspelt key is an error and not
a default. A system is one way of serving: a policy of this engine, or an external program beside
it. Knows nothing of how any of them runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Literal

import yaml

from headway.codec import convert
from headway.config import DEFAULT_MODEL, EngineConfig, PolicyName, PolicyOption
from headway.errors import InvalidRequest
from headway.perf.report.price import CURRENCY, HourlyPrice
from headway.scheduling.policy import PARAMETERS, split_options
from headway.types.engine import KVReservation
from headway.types.fleet import FleetConfig, RouterName

ExternalKind = Literal["transformers", "url"]
SlotCount = int | Literal["auto"]
AUTO: Literal["auto"] = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """One way of serving. Which fields may be given depends on `external`."""

    name: str
    policy: PolicyName | None = None
    """Of this engine; None for an external system."""
    padded: bool = False
    """Requests go in batches of `slots`, all as long as the batch's longest, and answers are there
    when the batch ends: a loop around an engine that knows nothing of requests."""
    slots: SlotCount | None = None
    """Most sequences at once. "auto": as many whole sequences as the budget holds, which is how
    memory was given out before paging. None: as many as memory and the engine's own bound allow."""
    kv_reservation: KVReservation = "on-demand"
    policy_options: Mapping[str, PolicyOption] = field(default_factory=dict)
    """Parameters of the policy, by the names of their flags ("dynamic_wait")."""
    replicas: int = 1
    """Engines side by side, which share cores and memory; slots are each one's."""
    roles: str | None = None
    """What each of them is for, such as "prefill,decode": see `FleetConfig`, which has these names
    too."""
    fixed_roles: bool = False
    router: RouterName = "predicted"
    external: ExternalKind | None = None
    dtype: str | None = None
    """Of transformers' weights; None: what this machine multiplies fastest."""
    url: str | None = None
    model: str | None = None
    """The name that the server at `url` knows the model by; None: the first that it lists."""
    repeats: int | None = None
    """Instead of the workload's and the scenario's."""

    def __post_init__(self) -> None:
        if isinstance(self.slots, int):
            _at_least("slots", self.slots, 1, self.name)
        if self.repeats is not None:
            _at_least("repeats", self.repeats, 1, self.name)
        allowed = {
            None: _OWN,
            "transformers": {"slots", "dtype"},
            "url": {"url", "model"},
        }[self.external]
        for key, default in _DEFAULTS.items():
            if key not in allowed and getattr(self, key) != default:
                kind = self.external or "this engine's own"
                raise InvalidRequest(f"system {self.name!r}: {kind} has no {key}", field=key)
        self._check_whole()
        self._check_fleet()

    @property
    def fleet(self) -> FleetConfig:
        """How many engines it has, and what they are for; one engine where it is external."""
        return FleetConfig(
            replicas=self.replicas,
            router=self.router,
            roles=self.roles,
            fixed_roles=self.fixed_roles,
        )

    def _check_fleet(self) -> None:
        try:
            fleet = self.fleet
        except InvalidRequest as error:
            raise InvalidRequest(
                f"system {self.name!r}: {error.message}", field=error.field
            ) from error
        if self.padded and fleet.replicas > 1:
            raise InvalidRequest(
                f"system {self.name!r}: padded batches go to one engine, leave replicas out",
                field="replicas",
            )

    def _check_whole(self) -> None:
        if self.external is None and self.policy is None:
            raise InvalidRequest(
                f"system {self.name!r}: give a policy, or say which external system it is",
                field="policy",
            )
        if self.external == "url" and not self.url:
            raise InvalidRequest(f"system {self.name!r}: url is missing", field="url")
        if (self.padded or self.external == "transformers") and self.slots is None:
            raise InvalidRequest(
                f"system {self.name!r}: padded batches need slots, a number or 'auto'",
                field="slots",
            )


_FLEET: dict[str, object] = {
    "replicas": 1,
    "roles": None,
    "fixed_roles": False,
    "router": "predicted",
}
_OWN = {"policy", "padded", "slots", "kv_reservation", "policy_options", *_FLEET}
_DEFAULTS: dict[str, object] = {
    "policy": None,
    "padded": False,
    "slots": None,
    "kv_reservation": "on-demand",
    "policy_options": {},
    **_FLEET,
    "dtype": None,
    "url": None,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenarioLoad:
    """One workload, or several that differ in their rate alone. Lengths are tokens."""

    name: str
    requests: int
    prompt: str | int = 128
    """A length distribution, as `headway.perf.workload.lengths` reads it."""
    output: str | int = 128
    cap: int | None = None
    """Most tokens that callers allow; None: exactly what is generated, so the length is known."""
    rates: tuple[float, ...] = ()
    """Requests a second, a group for each; none: all at once."""
    loads: tuple[float, ...] = ()
    """Instead of rates: shares of the most requests a second that an engine of this scenario
    reached on the workload `of`, which stands before."""
    of: str | None = None
    burstiness: float = 1.0
    prefix_tokens: int = 0
    prefixes: int = 1
    trace: str | None = None
    """File with arrivals and lengths instead of all that is said above."""
    length_scale: float = 1.0
    rate_scale: float = 1.0
    slo: str | None = None
    """Objectives, such as "ttft_p99=1s,tpot_p99=50ms": what this engine is asked for, and what all
    systems are held to."""
    slots: int | None = None
    """What "auto" is here instead of what follows from the budget."""
    systems: tuple[str, ...] | None = None
    """Names of those that take part; None: all."""
    repeats: int | None = None
    """Instead of the scenario's."""

    def __post_init__(self) -> None:
        _at_least("requests", self.requests, 1, self.name)
        if self.repeats is not None:
            _at_least("repeats", self.repeats, 1, self.name)
        for key, given in (("rates", self.rates), ("loads", self.loads)):
            if any(not 0 < value < float("inf") for value in given):
                raise InvalidRequest(
                    f"workload {self.name!r}: {key} must be more than 0", field=key
                )
        for key in ("burstiness", "length_scale", "rate_scale"):
            if not 0 < getattr(self, key) < float("inf"):
                raise InvalidRequest(f"workload {self.name!r}: {key} must be positive", field=key)
        if bool(self.loads) != (self.of is not None) or (self.loads and self.rates):
            raise InvalidRequest(
                f"workload {self.name!r}: give rates, or loads and the workload they are shares of",
                field="loads",
            )
        if self.trace is not None and (self.rates or self.loads):
            raise InvalidRequest(
                f"workload {self.name!r}: a trace has its own times; use rate_scale", field="trace"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """All settings of one comparison."""

    title: str
    about: str = ""
    model: str = DEFAULT_MODEL
    engine: EngineConfig = field(default_factory=EngineConfig)
    """What all engines have in common; the model is the scenario's."""
    kv_tokens: int | None = None
    """Tokens that every system's KV cache may hold; None: what the engine takes by itself."""
    price_per_hour: float | None = None
    currency: str = CURRENCY
    """Of the price per hour, a code such as EUR."""
    repeats: int = 3
    seed: int = 0
    warmup: int = 4
    """Requests that every system answers before it is measured."""
    systems: tuple[System, ...]
    workloads: tuple[ScenarioLoad, ...]

    def __post_init__(self) -> None:
        _at_least("repeats", self.repeats, 1)
        _at_least("warmup", self.warmup, 0)
        if self.kv_tokens is not None:
            _at_least("kv_tokens", self.kv_tokens, 1)
        HourlyPrice(self.price_per_hour or 0.0, self.currency)  # raises for what is none
        for key, names in (
            ("systems", [system.name for system in self.systems]),
            ("workloads", [load.name for load in self.workloads]),
        ):
            if not names:
                raise InvalidRequest(f"{key}: there are none", field=key)
            if len(set(names)) < len(names):
                raise InvalidRequest(f"{key}: two have the same name", field=key)
        for message in self._mistakes():
            raise InvalidRequest(message, field="workloads")

    @property
    def price(self) -> HourlyPrice | None:
        """What the machine costs; None where the scenario does not say."""
        per_hour = self.price_per_hour
        return None if per_hour is None else HourlyPrice(per_hour, self.currency)

    @property
    def hands_over(self) -> bool:
        """Whether engines of some system load what others computed, as those with roles do.

        They find it by the names that prefix caching gives blocks, so then all systems have that.
        """
        return any(system.roles is not None for system in self.systems)

    def kv_tokens_of(self, system: System) -> int | None:
        """What each engine of a system has of the memory that all systems get alike."""
        return None if self.kv_tokens is None else self.kv_tokens // system.fleet.replicas

    def taking_part(self, load: ScenarioLoad) -> tuple[System, ...]:
        """The systems of a workload, in the scenario's order."""
        chosen = load.systems
        return tuple(s for s in self.systems if chosen is None or s.name in chosen)

    def _mistakes(self) -> Iterator[str]:
        known = {system.name for system in self.systems}
        before: set[str] = set()
        for load in self.workloads:
            for name in load.systems or ():
                if name not in known:
                    yield f"workload {load.name!r}: there is no system {name!r}"
            if load.of is not None and load.of not in before:
                yield f"workload {load.name!r}: no workload {load.of!r} stands before it"
            before.add(load.name)
            autos = any(system.slots == AUTO for system in self.taking_part(load))
            if autos and self.kv_tokens is None and load.slots is None:
                yield f"workload {load.name!r}: slots 'auto' need kv_tokens"


def _at_least(key: str, value: int, low: int, name: str = "") -> None:
    if value < low:
        where = f"{name!r}: " if name else ""
        raise InvalidRequest(f"{where}{key} must be at least {low}, got {value}", field=key)


DEFAULT = "policies"
OURS = (
    "model",
    "policy",
    "policy_options",
    *PARAMETERS,
    "max_num_seqs",
    "max_model_len",
    "kv_cache_memory",
    "kv_reservation",
    "enable_prefix_caching",
    "record",
    "slo",
    "slo_interactive",
    "slo_batch",
)
"""Settings of the engine that a scenario has its own keys for, or that must be what they are."""
_RENAMED = {"seats": "slots", "outside": "external"}
"""Keys of systems and workloads, as files of earlier versions call them."""


def scenario_names() -> tuple[str, ...]:
    """Those that ship with the package and are found by name, all others by path."""
    folder = resources.files("headway.perf.bench") / "scenarios"
    names = (entry.name for entry in folder.iterdir())
    return tuple(sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml")))


def load_scenario(source: str) -> Scenario:
    """The scenario of that name, or in that file. Traces are looked for beside the file.

    Raises `InvalidRequest` naming the key at fault.
    """
    if source in scenario_names():
        text = (resources.files("headway.perf.bench") / "scenarios" / f"{source}.yaml").read_text(
            "utf-8"
        )
        return parse_scenario(text, name=source)
    path = Path(source)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidRequest(
            f"no scenario {source}: neither a file that can be read nor one of "
            f"{', '.join(scenario_names())}",
            field="scenario",
        ) from error
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{source} is not text in UTF-8", field="scenario") from error
    return _with_traces(parse_scenario(text, name=source), path.parent)


def parse_scenario(text: str, *, name: str = "scenario") -> Scenario:
    """The scenario that a YAML text describes; `name` is what errors call it."""
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidRequest(f"{name} is not valid YAML: {error}", field="scenario") from error
    if not isinstance(content, dict):
        raise InvalidRequest(f"{name} must hold a mapping", field="scenario")
    engine = content.get("engine")
    for key in engine.keys() & OURS if isinstance(engine, dict) else ():
        raise InvalidRequest(f"{name}: engine: {key} cannot be set here", field=key)
    for key in ("systems", "workloads"):
        if isinstance(content.get(key), list):
            content[key] = [_renamed(entry) for entry in content[key]]
    if isinstance(systems := content.get("systems"), list):
        content["systems"] = [_with_options(system) for system in systems]
    try:
        return convert(Scenario, content, name)
    except InvalidRequest as error:
        message = error.message if error.message.startswith(name) else f"{name}: {error.message}"
        raise InvalidRequest(message, field=error.field) from error


def _renamed(entry: object) -> object:
    if not isinstance(entry, dict):
        return entry
    return {_RENAMED.get(key, key): value for key, value in entry.items()}


def _with_options(system: object) -> object:
    """A system of which the policies' parameters are in the field that holds them."""
    if not isinstance(system, dict):
        return system
    own, options = split_options(system)
    return {**own, "policy_options": options} if options else own


def _with_traces(scenario: Scenario, folder: Path) -> Scenario:
    return replace(
        scenario,
        workloads=tuple(
            replace(load, trace=str(folder / load.trace)) if load.trace else load
            for load in scenario.workloads
        ),
    )
