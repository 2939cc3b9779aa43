"""Settings of several engines: roles, and what contradicts itself."""

from __future__ import annotations

import re

import pytest

from headway.errors import InvalidRequest
from headway.types.fleet import FleetConfig, parse_roles


def test_roles_say_how_many_engines_there_are() -> None:
    assert parse_roles("prefill:2, decode,both") == ("prefill", "prefill", "decode", "both")
    assert parse_roles(None) == ()
    assert FleetConfig(roles="prefill,decode:2").replicas == 3
    assert FleetConfig(replicas=2, roles="both:2").roles == "both:2"
    assert FleetConfig(replicas=2).roles is None


@pytest.mark.parametrize(
    ("roles", "why"),
    [
        ("", "'' is none of prefill, decode, both"),
        ("prefil,decode", "did you mean prefill"),
        ("prefill:0,decode", "is no role and a number"),
        ("prefill:x,decode", "is no role and a number"),
        ("prefill:-1,decode", "is no role and a number"),
        ("prefill:99999,decode", "is no role and a number"),
        ("prefill:64,decode", "65 engines, and 64 are the most"),
        ("prefill:2", "no engine is there to generate answers"),
        ("decode", "no engine is there to compute prompts"),
    ],
)
def test_roles_that_make_no_sense_say_why(roles: str, why: str) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(why)) as caught:
        FleetConfig(roles=roles)
    assert caught.value.field == "roles"


def test_roles_and_replicas_agree() -> None:
    with pytest.raises(InvalidRequest, match="2 engines, and replicas is 3"):
        FleetConfig(replicas=3, roles="prefill,decode")
    with pytest.raises(InvalidRequest, match="needs roles") as caught:
        FleetConfig(replicas=3, fixed_roles=True)
    assert caught.value.field == "fixed_roles"
