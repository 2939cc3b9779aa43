"""Errors look as the clients of each path expect them, whoever gives them."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import msgspec

from headway.errors import Overloaded
from headway.server.errors import (
    OPENAI_FORM,
    REQUEST_ID,
    ErrorDetail,
    ErrorForm,
    error_response,
    form_of,
    plain_error,
)


class Told(msgspec.Struct):
    said: str
    status: int
    request_id: str


def write(detail: ErrorDetail, status: int, request_id: str) -> Told:
    return Told(detail.message, status, request_id)


FORM = ErrorForm(body=Told, write=write)


def scope(path: str) -> dict[str, Any]:
    state = SimpleNamespace(error_forms={"/other": FORM})
    return {"path": path, "app": SimpleNamespace(state=state), REQUEST_ID: "r"}


def test_a_form_holds_at_its_path_and_below() -> None:
    assert form_of(scope("/other")) is FORM
    assert form_of(scope("/other/deep/down")) is FORM
    for path in ("/", "/others", "/v1/other", ""):
        assert form_of(scope(path)) is OPENAI_FORM


def test_errors_are_written_in_their_form() -> None:
    refusal = error_response(Overloaded("later", retry_after=2.5), scope("/other"))
    assert json.loads(bytes(refusal.body)) == {"said": "later", "status": 429, "request_id": "r"}
    assert refusal.headers["retry-after"] == "3"
    absent = plain_error(404, "nothing", scope=scope("/other/x"))
    assert json.loads(bytes(absent.body)) == {"said": "nothing", "status": 404, "request_id": "r"}
    usual = json.loads(bytes(plain_error(404, "nothing").body))
    assert usual["error"]["message"] == "nothing"
