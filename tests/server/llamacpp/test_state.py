"""`/props`, `/slots`, `/apply-template`: what llama.cpp's clients ask before they complete."""

from __future__ import annotations

from dataclasses import replace

import httpx
import pytest
from msgspec import structs

from headway.types.speculation import SpeculativeConfig
from headway.types.speculation_json import OFF
from tests.server.conftest import MODEL, Running, serving
from tests.server.fakes import TEMPLATE

HELLO = [{"role": "user", "content": "hi"}]


def test_properties(http: httpx.Client) -> None:
    props = http.get("/props").json()
    assert props["total_slots"] == 8
    assert (props["model_alias"], props["model_path"]) == (MODEL, MODEL)
    assert props["chat_template"] == TEMPLATE
    defaults = props["default_generation_settings"]
    assert defaults["n_ctx"] == defaults["params"]["n_ctx"] == 1000
    assert props["modalities"] == {"vision": False, "audio": False}


@pytest.mark.parametrize(
    ("speculation", "told"),
    [(None, False), (OFF, False), (SpeculativeConfig(method="ngram"), True)],
)
def test_whether_tokens_are_computed_ahead(
    server: Running, http: httpx.Client, speculation: SpeculativeConfig | None, told: bool
) -> None:
    before = server.engine.info
    try:
        scheduler = replace(before.scheduler, speculation=speculation)
        server.engine.info = structs.replace(before, scheduler=scheduler)
        props = http.get("/props").json()["default_generation_settings"]
        assert props["speculative"] is told
        assert {slot["speculative"] for slot in http.get("/slots").json()} == {told}
    finally:
        server.engine.info = before


def test_defaults_are_those_of_completion(http: httpx.Client) -> None:
    told = http.get("/props").json()["default_generation_settings"]["params"]
    used = http.post("/completion", json={"prompt": "x" * 990}).json()["generation_settings"]
    assert {k: v for k, v in used.items() if k != "seed"} == {
        k: v for k, v in told.items() if k != "seed"
    }


def test_a_model_without_a_template_has_none() -> None:
    with serving(template=False) as server, server.http() as http:
        props = http.get("/props").json()
        assert (props["chat_template"], props["chat_template_caps"]) == ("", {})


def test_slots_are_in_use_while_sequences_run(server: Running) -> None:
    with server.http() as http:
        slots = http.get("/slots").json()
        assert [slot["id"] for slot in slots] == list(range(8))
        assert not any(slot["is_processing"] for slot in slots)
        running = server.engine.stats
        try:
            server.engine.stats = type(running)(running=3)
            slots = http.get("/slots").json()
            assert [slot["is_processing"] for slot in slots] == [True] * 3 + [False] * 5
            assert http.get("/slots?fail_on_no_slot=1").status_code == 200
            server.engine.stats = type(running)(running=8)
            assert http.get("/slots?fail_on_no_slot=0").status_code == 200
            full = http.get("/slots?fail_on_no_slot=1")
            assert (full.status_code, full.json()["error"]["code"]) == (503, 503)
        finally:
            server.engine.stats = running


@pytest.mark.parametrize(
    ("more", "end"),
    [
        ({}, "assistant:"),
        ({"add_generation_prompt": False}, ""),
        ({"chat_template_kwargs": {"thinking": True}}, "[thinking=True]assistant:"),
    ],
)
def test_a_conversation_as_a_prompt(http: httpx.Client, more: dict[str, object], end: str) -> None:
    answer = http.post("/apply-template", json={"messages": HELLO} | more)
    assert answer.json() == {"prompt": f"user:hi;{end}"}


def test_what_cannot_be_a_prompt(http: httpx.Client) -> None:
    answer = http.post("/apply-template", json={"messages": []})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "messages"


def test_before_there_is_a_model() -> None:
    with serving(ready=False) as server, server.http() as http:
        for method, path in (("GET", "/props"), ("GET", "/slots"), ("POST", "/completion")):
            answer = http.request(method, path, json={"prompt": "x"})
            assert answer.status_code == 503, path
            assert answer.json()["error"]["type"] == "unavailable_error"
