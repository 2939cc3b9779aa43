"""Nothing is accepted and ignored but what the document lists: every other field matters."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import pytest

from headway.server.anthropic.schema import AnthropicConversation, MessagesBody
from headway.server.body import NOT_SUPPORTED
from tests.server.anthropic.conftest import ASKED, HELLO
from tests.server.conftest import Running
from tests.server.openai.test_every_field import observe

Row = tuple[dict[str, Any], Any]

TOOL = {"name": "f", "input_schema": {"type": "object", "properties": {}}}
FIELDS: dict[str, Row] = {
    "messages": ({}, [*HELLO, {"role": "assistant", "content": "y"}]),
    "model": ({}, "other"),
    "system": ({}, "be"),
    "tools": ({}, [TOOL]),
    "tool_choice": ({}, {"type": "any"}),
    "output_config": ({}, {"format": {"type": "json_schema", "schema": {"type": "null"}}}),
    "chat_template_kwargs": ({}, {"thinking": True}),
    "max_tokens": ({}, 4),
    "stop_sequences": ({}, ["b"]),
    "temperature": ({}, 0.5),
    "top_p": ({}, 0.5),
    "top_k": ({}, 5),
    "stream": ({}, True),
    "metadata": ({}, {"user_id": "somebody"}),
    "service_tier": ({"slo": {"class": "batch"}}, "standard_only"),
    "slo": ({}, {"ttft_ms": 500}),
    "priority": ({}, 3),
    "cache_salt": ({}, "mine"),
}
HARMLESS: dict[str, tuple[Any, Any]] = {
    "cache_control": ({"type": "ephemeral", "ttl": "1h"}, None),
    "context_management": ({"edits": [{"type": "clear_thinking_20251015"}]}, "all"),
    "speed": ("standard", "fast"),
    "mcp_servers": ([], [{"type": "url"}]),
    "inference_geo": ("eu", 3),
    "thinking": ({"type": "enabled", "budget_tokens": 1024}, {"type": "on"}),
}
"""Fields that make no difference here (thinking: to a template that does not read of it): a value
that passes, and one that is refused, if any is."""
REFUSED = ("container", "diagnostics", "user_profile_id", "workspace_id")


def seen(server: Running, caplog: pytest.LogCaptureFixture, body: dict[str, Any]) -> object:
    found: Any = observe(server, caplog, "/v1/messages", body)
    status, text, *rest = found
    return status, re.sub(r'"(signature|request_id)":"\w+"', "", text), rest


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_makes_a_difference(
    server: Running, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    caplog.set_level(logging.INFO)
    extra, value = FIELDS[name]
    base = ASKED | extra
    before = seen(server, caplog, base)
    assert seen(server, caplog, base) == before, "only the field makes a difference"
    assert seen(server, caplog, base | {name: value}) != before


@pytest.mark.parametrize("name", HARMLESS)
def test_a_harmless_field_makes_none_and_is_checked(
    server: Running, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    caplog.set_level(logging.INFO)
    passes, refused = HARMLESS[name]
    before = seen(server, caplog, ASKED)
    assert seen(server, caplog, ASKED | {name: passes}) == before
    assert seen(server, caplog, ASKED | {name: None}) == before
    if refused is not None:
        with server.http() as http:
            answer = http.post("/v1/messages", json=ASKED | {name: refused})
        assert answer.status_code == 400
        assert answer.json()["error"]["message"].startswith(name)


@pytest.mark.parametrize("name", REFUSED)
def test_some_may_be_null_alone(server: Running, name: str) -> None:
    with server.http() as http:
        assert http.post("/v1/messages", json=ASKED | {name: None}).status_code == 200
        answer = http.post("/v1/messages", json=ASKED | {name: "x"})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == f"{name} is not supported by this server"


def test_no_field_is_left_out() -> None:
    tables = [*FIELDS, *HARMLESS, *REFUSED]
    assert sorted(tables) == sorted(MessagesBody.__struct_fields__)


@pytest.mark.parametrize("kind", ["message_create_params", "message_count_tokens_params"])
def test_every_parameter_of_the_official_client_is_known(kind: str) -> None:
    module = pytest.importorskip(f"anthropic.types.{kind}")
    counting = "count" in kind
    params = module.MessageCountTokensParams if counting else module.MessageCreateParamsBase
    body = AnthropicConversation if counting else MessagesBody
    unknown = set(params.__annotations__) - set(body.__struct_fields__) - NOT_SUPPORTED
    # When tokens are counted these choose whose they are.
    assert unknown == ({"user_profile_id", "workspace_id"} if counting else set())


def test_the_document_has_every_harmless_field_and_no_other() -> None:
    text = (Path(__file__).parents[3] / "docs" / "messages.md").read_text()
    table = text.partition("## Taken, and without effect")[2].partition("\n## ")[0]
    rows = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`([\w.]+)`", row)}
    assert {each.partition(".")[0] for each in named} == set(HARMLESS)
