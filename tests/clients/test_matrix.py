"""The page about client libraries says what their tests show."""

from __future__ import annotations

import pytest

from tests.clients.features import FEATURES, LIBRARIES, library
from tests.clients.matrix import ROOT, Outcomes, calls, document


def test_the_page_is_made_from_the_tests() -> None:
    for module in LIBRARIES.values():
        library(module)
    assert (ROOT / "docs" / "compatibility.md").read_text() == document(), (
        "python -m tests.clients.matrix > docs/compatibility.md"
    )


@pytest.mark.parametrize("name", LIBRARIES)
def test_every_test_of_a_library_says_what_it_shows(name: str) -> None:
    library(LIBRARIES[name])
    module = __import__(f"tests.clients.test_{name}", fromlist=["REAL"])
    tests = [each for each in vars(module) if each.startswith("test_")]
    found = calls(name)
    assert len({call.text for call in found}) == len(tests) > 0
    assert all(call.text.endswith(".") and call.feature in FEATURES for call in found)


def test_a_call_that_failed_is_named() -> None:
    outcomes = Outcomes()
    outcomes.given["openai", "chat"] += [("test_a", "passed"), ("test_b", "failed")]
    assert outcomes.cells()["openai", "chat"] == "1 of 2; test_b failed"
