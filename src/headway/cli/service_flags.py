"""Flags that say whom a workload's requests are for: service classes, their objectives, tenants."""

from __future__ import annotations

import argparse

from headway.errors import InvalidRequest
from headway.perf.workload.service import (
    parse_shares,
    with_classes,
    with_objectives,
    with_tenants,
)
from headway.perf.workload.workload import Workload
from headway.types import SERVICE_CLASSES, ServiceClass
from headway.types.objectives import Objective, parse_objectives


def add_service_flags(parser: argparse._ActionsContainer) -> None:
    """Flags for classes, their objectives and tenants; read by `with_service`."""
    parser.add_argument(
        "--class-mix",
        metavar="LIST",
        help="service classes of the requests with the share of each, drawn by --seed, such as "
        "interactive:0.3,standard:0.5,batch:0.2 (default: all standard, or as the workload's file "
        "has them)",
    )
    parser.add_argument(
        "--class-slo",
        nargs="+",
        metavar="CLASS:LIST",
        help="objectives that requests of a class bring with them, such as "
        "interactive:ttft=500ms,tpot=30ms batch:e2el=5min; others are held to --slo, batch "
        "requests to nothing",
    )
    parser.add_argument(
        "--tenants",
        metavar="LIST",
        help="tenants with the share of each in the requests, drawn by --seed, such as a:0.9,b:0.1",
    )


def with_service(arguments: argparse.Namespace, workload: Workload) -> Workload:
    """The workload with the classes, objectives and tenants of the flags.

    Raises `InvalidRequest` naming the flag.
    """
    seed = arguments.seed
    if arguments.class_mix is not None:
        mix = parse_shares(arguments.class_mix, field="--class-mix")
        shares = {_class(name, "--class-mix"): share for name, share in mix.items()}
        workload = with_classes(workload, shares, seed=seed)
        present = set(shares)
    else:
        present = {request.service_class for request in workload.requests}
    if arguments.class_slo is not None:
        workload = with_objectives(workload, _objectives(arguments.class_slo, present))
    if arguments.tenants is not None:
        shares_of = parse_shares(arguments.tenants, field="--tenants")
        workload = with_tenants(workload, shares_of, seed=seed)
    return workload


def _objectives(
    texts: list[str], present: set[ServiceClass]
) -> dict[ServiceClass, tuple[Objective, ...]]:
    field = "--class-slo"
    found: dict[ServiceClass, tuple[Objective, ...]] = {}
    for text in texts:
        before, _, wanted = text.partition(":")
        name = _class(before.strip(), field)
        if name in found:
            raise InvalidRequest(f"{field}: {name} is there twice; keep one", field=field)
        if name not in present:
            raise InvalidRequest(
                f"{field} {text} would have no effect: no request is {name}; give --class-mix",
                field=field,
            )
        found[name] = parse_objectives(wanted, field=field)
    return found


def _class(name: str, field: str) -> ServiceClass:
    for known in SERVICE_CLASSES:
        if name == known:
            return known
    raise InvalidRequest(
        f"{field}: {name!r} is no service class; there are {', '.join(SERVICE_CLASSES)}",
        field=field,
    )
