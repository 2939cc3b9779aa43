"""Batching policies, one a file: each turns a `View` into a `Decision` and does nothing else.

A policy is a frozen dataclass whose fields are its parameters, each with a help text and bounds
(see `headway.settings.setting`). Flags, environment variables and scenario files call them by the
policy's name and theirs: field `wait` of `dynamic` is `dynamic_wait`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import Field, dataclass, fields, is_dataclass
from types import MappingProxyType
from typing import Any, get_type_hints

from headway.config import PolicyName, PolicyOption
from headway.errors import InvalidRequest
from headway.scheduling.policy.base import Decision, Policy, SequenceView, View
from headway.scheduling.policy.continuous import Continuous
from headway.scheduling.policy.dynamic import Dynamic
from headway.scheduling.policy.paced import Paced
from headway.scheduling.policy.sequential import Sequential
from headway.scheduling.policy.static import Static
from headway.types.engine import PolicyConfig

POLICIES: Mapping[PolicyName, Callable[..., Policy]] = MappingProxyType(
    {
        "sequential": Sequential,
        "static": Static,
        "dynamic": Dynamic,
        "continuous": Continuous,
        "paced": Paced,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A setting of one policy, as the policy's class declares it."""

    policy: PolicyName
    field: Field[Any]
    kind: Any
    """The field's type."""


def _parameters() -> Iterator[tuple[str, Parameter]]:
    for name, policy in POLICIES.items():
        declared: tuple[Field[Any], ...] = fields(policy) if is_dataclass(policy) else ()
        for each in declared:
            kind = get_type_hints(policy)[each.name]
            yield f"{name}_{each.name}", Parameter(policy=name, field=each, kind=kind)


PARAMETERS: Mapping[str, Parameter] = MappingProxyType(dict(_parameters()))
"""Every parameter of every policy, by the name that users know."""


def split_options(
    settings: Mapping[str, Any],
) -> tuple[dict[str, Any], dict[str, PolicyOption]]:
    """The settings that are no policy's, and the policies' own, which are checked.

    Raises `InvalidRequest` where a policy does not take its value.
    """
    options = {name: value for name, value in settings.items() if name in PARAMETERS}
    for name, value in options.items():
        parameter = PARAMETERS[name]
        POLICIES[parameter.policy](**{parameter.field.name: value})
    return {name: value for name, value in settings.items() if name not in options}, options


def policy_config(name: PolicyName, options: Mapping[str, PolicyOption]) -> PolicyConfig:
    """The policy of that name with its part of `options`, which may have any of `PARAMETERS`."""
    own = {
        parameter.field.name: options[key]
        for key, parameter in PARAMETERS.items()
        if parameter.policy == name and key in options
    }
    return PolicyConfig(name=name, options=own)


def make_policy(config: PolicyConfig) -> Policy:
    """The policy; raises `InvalidRequest` for one, or a parameter of it, that there is not."""
    policy = next((policy for name, policy in POLICIES.items() if name == config.name), None)
    if policy is None:
        raise InvalidRequest(
            f"the policy {config.name!r} is none of {', '.join(POLICIES)}", field="policy"
        )
    for option in config.options:
        if f"{config.name}_{option}" not in PARAMETERS:
            raise InvalidRequest(f"the policy {config.name} has no {option!r}", field="policy")
    return policy(**config.options)


__all__ = [
    "PARAMETERS",
    "POLICIES",
    "Decision",
    "Parameter",
    "Policy",
    "SequenceView",
    "View",
    "make_policy",
    "policy_config",
    "split_options",
]
