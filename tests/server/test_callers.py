"""Whose requests take turns, and who may give them a priority."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from headway.config import ServerConfig
from headway.errors import InvalidRequest
from headway.types import Owner
from tests.server.conftest import serving

KEYS = ("first", "second")
PATHS: dict[str, dict[str, Any]] = {
    "/v1/completions": {"prompt": "x", "max_tokens": 1},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "x"}], "max_tokens": 1},
}
every_path = pytest.mark.parametrize("path", PATHS)


def post(http: httpx.Client, path: str, key: str = "", **more: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return http.post(path, json=PATHS[path] | more, headers=headers)


def refusal(answer: httpx.Response) -> str:
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["param"] == "priority"
    message: str = error["message"]
    return message


@every_path
def test_a_priority_is_refused_unless_the_operator_wants_them(path: str) -> None:
    with serving() as server, server.http() as http:
        for priority in (1, -(2**31), 2**31 - 1):
            assert "--scheduling-policy priority" in refusal(post(http, path, priority=priority))
        assert post(http, path, priority=0).status_code == 200
        assert [asked[2] for asked in server.llm.asked] == [0]


@every_path
def test_a_priority_is_one_of_a_few(path: str) -> None:
    config = ServerConfig(port=0, scheduling_policy="priority")
    with serving(config=config) as server, server.http() as http:
        for priority in (-10, 0, 10):
            assert post(http, path, priority=priority).status_code == 200
        for priority in (-11, 11, -(2**31)):
            assert "from -10 to 10" in refusal(post(http, path, priority=priority))
        assert [asked[2] for asked in server.llm.asked] == [-10, 0, 10]


@every_path
def test_a_priority_is_for_the_keys_that_may(path: str) -> None:
    config = ServerConfig(
        port=0, api_key=KEYS, scheduling_policy="priority", priority_api_key=("second",)
    )
    with serving(config=config) as server, server.http() as http:
        assert "this API key" in refusal(post(http, path, "first", priority=1))
        assert post(http, path, "first").status_code == 200
        assert post(http, path, "second", priority=1).status_code == 200


@pytest.mark.parametrize(
    "given",
    [
        {"api_key": KEYS, "priority_api_key": ("first",)},
        {"api_key": KEYS, "priority_api_key": ("third",), "scheduling_policy": "priority"},
        {"priority_api_key": ("first",), "scheduling_policy": "priority"},
    ],
)
def test_keys_for_priorities_that_would_have_no_effect(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        ServerConfig(**given)
    assert caught.value.field == "priority_api_key"
    assert "first" not in caught.value.message


@every_path
def test_a_user_is_a_caller_of_the_keys_tenant_and_of_no_other(path: str) -> None:
    with serving(config=ServerConfig(port=0, api_key=KEYS)) as server, server.http() as http:
        for key, user in (("first", "Ann"), ("first", "Ann"), ("first", "Bob"), ("second", "Ann")):
            assert post(http, path, key, n=2, temperature=1.0, user=user).status_code == 200
        assert post(http, path, "first", user="").status_code == 200
        ann, again, bob, other, nobody = server.llm.owners
        assert ann == again
        assert (bob.tenant, other.tenant) == (ann.tenant, "key-1")
        assert other.caller == ann.caller != bob.caller
        assert nobody.caller not in ("", ann.caller, bob.caller)
        # Recordings keep callers, and no names.
        assert "Ann" not in ann.caller


def test_who_makes_up_users_is_no_more_callers_than_who_names_none() -> None:
    """Each of these requests is a caller, and all are of one tenant: no user buys a share."""
    with serving() as server, server.http() as http:
        for number in range(3):
            assert post(http, "/v1/completions", user=f"user {number}").status_code == 200
            assert post(http, "/v1/completions").status_code == 200
        assert {owner.tenant for owner in server.llm.owners} == {Owner().tenant}
        assert len({owner.caller for owner in server.llm.owners}) == 6


@every_path
def test_a_key_is_a_tenant_and_a_request_a_caller(path: str) -> None:
    with serving(config=ServerConfig(port=0, api_key=KEYS)) as server, server.http() as http:
        for key in ("second", "first", "first"):
            assert post(http, path, key, n=2, temperature=1.0).status_code == 200
        owners = server.llm.owners
        assert [owner.tenant for owner in owners] == ["key-1", "key-0", "key-0"]
        assert len({owner.caller for owner in owners}) == 3
        assert all(owner.caller for owner in owners)


@every_path
def test_without_keys_all_are_one_tenants_callers(path: str) -> None:
    with serving() as server, server.http() as http:
        for _ in range(2):
            assert post(http, path, "whatever").status_code == 200
        first, second = server.llm.owners
        assert first.tenant == second.tenant == Owner().tenant
        assert first.caller != second.caller
