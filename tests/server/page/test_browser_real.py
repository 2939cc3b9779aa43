"""The page over the real command and the real default model."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from tests.server.serving import MODEL, headway_serve

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.model

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "full_name_": {"type": "string", "maxLength": 20},
        "kind": {"enum": ["*city*", "*river*"]},
    },
    "required": ["full_name_", "kind"],
    "additionalProperties": False,
}


def test_an_answer_matches_the_schema_and_is_shown_as_it_is(browser_page: Page) -> None:
    page = browser_page
    with headway_serve() as (_, url):
        page.goto(url + "/")
        page.wait_for_selector(f"#model-name:has-text('{MODEL}')")
        page.fill("#field-schema", json.dumps(SCHEMA))
        page.fill("#prompt", "Tell me about Paris.")
        page.press("#prompt", "Enter")
        page.wait_for_selector(".message.assistant:not(.running)")
        jsonschema.validate(json.loads(page.inner_text(".message.assistant pre")), SCHEMA)
        figures = page.inner_text(".message.assistant .answer-figures")
        assert "ended by itself" in figures
        assert "tokens/s" in figures
        page.goto("about:blank")
