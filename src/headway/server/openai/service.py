"""How soon a request is wanted: the fields `slo` and `service_tier` as objectives and a class.

OpenAI's tiers are classes under other names. Who may ask for how much is the operator's choice
(`headway.server.callers`); errors name the field that the client used.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headway.errors import InvalidRequest
from headway.llm import GenerationRequest
from headway.server.admission import ServerState
from headway.server.callers import may_hurry
from headway.server.openai.schema import SamplingBody, SloBody
from headway.types import ServiceClass
from headway.types.objectives import Metric, Objective, pace_of

METRIC_OF_FIELD: Mapping[str, Metric] = {
    "ttft_ms": "ttft",
    "tpot_ms": "tpot",
    "itl_ms": "itl",
    "deadline_ms": "e2el",
}
CLASS_OF_TIER: Mapping[str, ServiceClass] = {
    "default": "standard",
    "flex": "batch",
    "priority": "interactive",
}
"""The tier "auto" leaves the class open."""
TIER_OF_CLASS = {service_class: tier for tier, service_class in CLASS_OF_TIER.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedService:
    """What a body asks for: a class, and the objectives that it names itself."""

    objectives: tuple[Objective, ...]
    service_class: ServiceClass


def service_of(scope: Mapping[str, Any], state: ServerState, body: SamplingBody) -> AskedService:
    """Raises `InvalidRequest` for fields that disagree, and for more than this caller may have."""
    slo = body.slo or SloBody()
    tiered = CLASS_OF_TIER.get(body.service_tier or "auto")
    if slo.class_ and tiered and slo.class_ != tiered:
        raise InvalidRequest(
            f"service_tier {body.service_tier} is the class {tiered}, and slo.class says "
            f"{slo.class_}; give one of them",
            field="service_tier",
        )
    service_class = slo.class_ or tiered or "standard"
    given = {name: getattr(slo, name) for name in METRIC_OF_FIELD}
    own = {
        name: Objective(metric=METRIC_OF_FIELD[name], seconds=value / 1000)
        for name, value in given.items()
        if value is not None
    }
    if not may_hurry(scope, state.config):
        if service_class == "interactive":
            field = "slo.class" if slo.class_ else "service_tier"
            raise InvalidRequest(
                f"{field}: requests of this API key are not interactive", field=field
            )
        _check_patience(own, service_class, state.llm.objectives.get(service_class, ()))
    return AskedService(objectives=tuple(own.values()), service_class=service_class)


def answered_tier(body: SamplingBody, generation: GenerationRequest) -> str | None:
    """The tier that served a request, for one that named a tier; None for others."""
    if body.service_tier is None:
        return None
    return TIER_OF_CLASS[generation.requests[0].service_class]


def _check_patience(
    own: Mapping[str, Objective], service_class: ServiceClass, defaults: tuple[Objective, ...]
) -> None:
    """Raise for an objective that is tighter than the class's own."""
    pace = pace_of(defaults)
    for name, objective in own.items():
        bound: float = getattr(pace, objective.metric)
        if objective.seconds < bound:
            least = "has none" if bound == math.inf else f"has {bound * 1000:g} ms"
            raise InvalidRequest(
                f"slo.{name}: requests of this API key may ask for no more than their class does, "
                f"and {service_class} {least}",
                field=f"slo.{name}",
            )
