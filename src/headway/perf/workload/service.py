"""Whom a workload's requests are for: service classes with their objectives, and tenants.

Traces say nothing of either. They are drawn by the seed, by streams of random numbers of their own,
so that times and lengths stay as they were, and each is drawn for every request in turn: the same
requests get the same classes at every rate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from headway.errors import InvalidRequest
from headway.perf.workload.synthetic import rng
from headway.perf.workload.workload import LONGEST_NAME, Workload
from headway.types import ServiceClass
from headway.types.objectives import Objective

Shares = Mapping[str, float]
"""How often each name is drawn, relative to the others; above 0."""


def parse_shares(text: str, *, field: str) -> dict[str, float]:
    """Shares from text such as `a:0.9,b:0.1`; raises `InvalidRequest` with `field`.

    They need not add up to 1: what counts is each one's part of their sum.
    """
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, colon, number = (each.strip() for each in part.rpartition(":"))
        if not colon or not 0 < len(name) <= LONGEST_NAME:
            raise InvalidRequest(
                f"{field}: {part.strip()!r} is no pair NAME:SHARE, such as a:0.9", field=field
            )
        if name in shares:
            raise InvalidRequest(f"{field}: {name!r} is there twice; keep one", field=field)
        shares[name] = _share(number, field)
    return shares


def with_classes(
    workload: Workload, shares: Mapping[ServiceClass, float], *, seed: int = 0
) -> Workload:
    """The same requests, each of a class that is drawn by these shares."""
    names = list(shares)
    drawn = rng(seed, "class").choices(names, [*shares.values()], k=len(workload.requests))
    requests = tuple(
        replace(request, service_class=name)
        for request, name in zip(workload.requests, drawn, strict=True)
    )
    return replace(workload, requests=requests)


def with_tenants(workload: Workload, shares: Shares, *, seed: int = 0) -> Workload:
    """The same requests, each of a tenant that is drawn by these shares."""
    names = list(shares)
    drawn = rng(seed, "tenant").choices(names, [*shares.values()], k=len(workload.requests))
    requests = tuple(
        replace(request, tenant=name)
        for request, name in zip(workload.requests, drawn, strict=True)
    )
    return replace(workload, requests=requests)


def with_objectives(
    workload: Workload, objectives: Mapping[ServiceClass, tuple[Objective, ...]]
) -> Workload:
    """The same requests; those of a class that is named have its objectives as their own."""
    requests = tuple(
        replace(request, objectives=objectives[request.service_class])
        if request.service_class in objectives
        else request
        for request in workload.requests
    )
    return replace(workload, requests=requests)


def _share(text: str, field: str) -> float:
    try:
        share = float(text)
    except ValueError:
        raise InvalidRequest(f"{field}: {text!r} is not a number", field=field) from None
    if not 0 < share < math.inf:
        raise InvalidRequest(f"{field}: a share is above 0 and finite, not {text}", field=field)
    return share
