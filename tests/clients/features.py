"""What client libraries are asked to show, and which of it a test shows.

Every test of a library is marked with `shows`; `tests.clients.matrix` makes a table of the marks.
"""

from __future__ import annotations

import importlib
import os
import warnings
from typing import Any, Literal, get_args

import pytest
from pydantic import BaseModel, Field

Feature = Literal[
    "chat", "stream", "tools", "structured output", "responses", "messages", "embeddings"
]
FEATURES: tuple[Feature, ...] = get_args(Feature)
WAITING: frozenset[Feature] = frozenset()
"""What the server cannot do yet; tests that need one of these are skipped."""

LIBRARIES = {
    "openai": "openai",
    "langchain": "langchain_openai",
    "litellm": "litellm",
    "instructor": "instructor",
    "agents": "agents",
    "anthropic": "anthropic",
}
"""The module of each library, by the name of its tests."""

REAL = [
    pytest.mark.model,
    # The libraries warn of each other, and that is not for us to mend.
    pytest.mark.filterwarnings("ignore"),
]
QUESTION: Any = [{"role": "user", "content": "Which city is the capital of France?"}]

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
os.environ.setdefault("OPENAI_AGENTS_DISABLE_TRACING", "1")
os.environ.setdefault("LANGSMITH_TRACING", "false")


class Place(BaseModel, extra="forbid"):
    """A place on a map."""

    name: str = Field(max_length=12)
    kind: Literal["city", "river"]
    inhabitants: int = Field(ge=0, le=99_999_999)


class Anything(BaseModel, extra="allow"):
    """Any JSON object."""


def shows(feature: Feature, *needs: Feature, refused: str = "") -> pytest.MarkDecorator:
    """Mark a test with the feature it shows, and the others without which it cannot.

    `refused` says why the server refuses this; the test then asserts that it does.
    """
    return pytest.mark.shows(feature, *needs, refused=refused)


def library(name: str) -> Any:
    """A client library; without it the tests are skipped, but not where everything must run."""
    if not os.environ.get("CI"):
        pytest.importorskip(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(name)
