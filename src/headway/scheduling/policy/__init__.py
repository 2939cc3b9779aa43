"""Batching policies, one a file: each turns a `View` into a `Decision` and does nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from headway.config import PolicyName
from headway.scheduling.policy.base import Decision, Policy, SequenceView, View, Waiting
from headway.scheduling.policy.continuous import Continuous
from headway.scheduling.policy.dynamic import Dynamic
from headway.scheduling.policy.sequential import Sequential
from headway.scheduling.policy.static import Static

POLICIES: Mapping[PolicyName, Callable[[float], Policy]] = MappingProxyType(
    {
        "sequential": lambda _: Sequential(),
        "static": lambda _: Static(),
        "dynamic": lambda wait: Dynamic(wait=wait),
        "continuous": lambda _: Continuous(),
    }
)


def make_policy(name: PolicyName, *, dynamic_wait: float = 0.05) -> Policy:
    """The policy of that name; `dynamic_wait` (seconds) concerns `dynamic` alone."""
    return POLICIES[name](dynamic_wait)


__all__ = ["POLICIES", "Decision", "Policy", "SequenceView", "View", "Waiting", "make_policy"]
