"""Much work is done while others have their turns, and little at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from headway.llm.message_form import MessageForm
from headway.server.anthropic import messages
from headway.server.offload import MANY, off_loop
from headway.server.responses import handlers

FUNCTION = {"name": "f", "parameters": {"type": "object", "properties": {}}}


@pytest.mark.parametrize("much", [False, True])
def test_only_much_work_has_a_thread_of_its_own(much: bool) -> None:
    def work(value: int, *, more: int) -> tuple[int, bool]:
        return value + more, threading.current_thread() is threading.main_thread()

    assert asyncio.run(off_loop(much, work, 1, more=2)) == (3, not much)


def test_errors_of_the_work_are_the_callers() -> None:
    with pytest.raises(ZeroDivisionError):
        asyncio.run(off_loop(True, lambda: 1 // 0))


def spied(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> list[bool]:
    """Whether each call of a function came while an event loop ran in its thread."""
    calls: list[bool] = []
    real: Callable[..., Any] = getattr(owner, name)

    def spy(*given: Any, **named: Any) -> Any:
        try:
            asyncio.get_running_loop()
            calls.append(True)
        except RuntimeError:
            calls.append(False)
        return real(*given, **named)

    monkeypatch.setattr(owner, name, spy)
    return calls


@pytest.mark.parametrize("count", [1, MANY + 1])
@pytest.mark.parametrize("work", ["translate", "kept_items"])
def test_many_items_of_a_response(
    http: httpx.Client, monkeypatch: pytest.MonkeyPatch, count: int, work: str
) -> None:
    calls = spied(monkeypatch, handlers, work)
    items = [{"role": "user", "content": "x"}] * count
    answer = http.post("/v1/responses", json={"input": items, "max_output_tokens": 1})
    assert answer.status_code == (200 if count == 1 else 400)
    assert calls == [count == 1]


@pytest.mark.parametrize("count", [1, MANY + 1])
def test_many_blocks_of_messages(
    http: httpx.Client, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    calls = spied(monkeypatch, messages, "translate")
    blocks = [{"type": "text", "text": ""}] * count
    body = {"model": "alphabet", "messages": [{"role": "user", "content": blocks}]}
    assert http.post("/v1/messages/count_tokens", json=body).status_code == 200
    # So many have no room in the context.
    answer = http.post("/v1/messages", json=body | {"max_tokens": 1})
    assert answer.status_code == (200 if count == 1 else 400)
    assert calls == [count == 1] * 2


def test_a_grammar_of_tools_is_written_off_the_event_loop(
    http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = spied(monkeypatch, MessageForm, "constraint")
    body = {
        "messages": [{"role": "user", "content": "x"}],
        "max_tokens": 1,
        "tools": [{"type": "function", "function": FUNCTION}],
    }
    assert http.post("/v1/chat/completions", json=body).status_code == 200
    assert calls == [False]
