"""Settings of several engines behind one server: how many, what each is for, and who gets what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from headway.errors import InvalidRequest, did_you_mean
from headway.settings import check_settings, setting

RouterName = Literal["round-robin", "least-requests", "prefix", "predicted"]
"""See `headway.routing`, which has a router for each."""
Role = Literal["prefill", "decode", "both"]
"""What an engine is for: to compute prompts, to generate answers to prompts that others computed,
or both."""
ROLES: tuple[Role, ...] = get_args(Role)
MOST_REPLICAS = 64
"""Engines of one server at most."""


@dataclass(frozen=True, kw_only=True)  # without slots, so that other settings can have these too
class FleetConfig:
    """How many engines run one model side by side."""

    replicas: int = setting(
        1,
        "engine processes of the model, which share the cores; requests outlive each of them",
        least=1,
        most=MOST_REPLICAS,
    )
    router: RouterName = setting(
        "predicted",
        "which of several engines gets a request: in turn, by load, by prefix, or where it is"
        " predicted to begin first at the least cost to others",
    )
    roles: str | None = setting(
        None,
        "what each engine is for, prefill, decode or both: prefill,decode or prefill:2,decode:6;"
        " says how many engines there are, too",
    )
    fixed_roles: bool = setting(
        False, "engines do nothing but what their role says, even where others would be late"
    )

    def __post_init__(self) -> None:
        check_settings(self)
        self.check_fleet()

    def check_fleet(self) -> None:
        """Raise `InvalidRequest` where the settings contradict each other; with roles alone, there
        are as many replicas."""
        roles = parse_roles(self.roles)
        if self.fixed_roles and not roles:
            raise InvalidRequest(
                "fixed_roles needs roles, such as prefill,decode", field="fixed_roles"
            )
        if roles and self.replicas == 1:
            object.__setattr__(self, "replicas", len(roles))
        if roles and self.replicas != len(roles):
            raise InvalidRequest(
                f"roles are given for {len(roles)} engines, and replicas is {self.replicas}; leave "
                "replicas out, or give as many roles",
                field="roles",
            )


def parse_roles(text: str | None) -> tuple[Role, ...]:
    """Roles of engines in their order, from text such as "prefill:2,decode"; none without.

    Raises `InvalidRequest`: for what is no role, for too many, and where nobody would compute
    prompts or nobody generate answers.
    """
    found: list[Role] = []
    for part in () if text is None else text.split(","):
        name, colon, number = part.strip().partition(":")
        role = next((each for each in ROLES if each == name), None)
        if role is None:
            raise InvalidRequest(
                f"roles: {name[:40]!r} is none of {', '.join(ROLES)}{did_you_mean(name, ROLES)}",
                field="roles",
            )
        counted = number.isascii() and number.isdigit() and len(number) <= 4
        if colon and not (counted and int(number)):
            raise InvalidRequest(
                f"roles: {part.strip()[:40]!r} is no role and a number, such as {role}:2",
                field="roles",
            )
        found += [role] * (int(number) if colon else 1)
    if len(found) > MOST_REPLICAS:
        raise InvalidRequest(
            f"roles are given for {len(found)} engines, and {MOST_REPLICAS} are the most",
            field="roles",
        )
    for needed, work in (("prefill", "compute prompts"), ("decode", "generate answers")):
        if found and needed not in found and "both" not in found:
            raise InvalidRequest(
                f"roles: no engine is there to {work}; add {needed} or both", field="roles"
            )
    return tuple(found)


ONE_ENGINE = FleetConfig()
