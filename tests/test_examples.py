"""Every example in `examples/` runs as it stands, in a process of its own, on the real model."""

from __future__ import annotations

import os
import subprocess
import sys
from ast import literal_eval
from itertools import pairwise
from pathlib import Path

import pytest

from tests.server.serving import headway_serve

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))


def test_examples_are_short() -> None:
    assert EXAMPLES
    for path in EXAMPLES:
        assert len(path.read_text().splitlines()) <= 40, f"{path.name} is longer than 40 lines"


def run(name: str, **environment: str) -> str:
    path = next(path for path in EXAMPLES if path.name == name)
    done = subprocess.run(
        [sys.executable, str(path)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    return done.stdout


@pytest.mark.model
def test_completion() -> None:
    assert "Paris" in run("completion.py")


@pytest.mark.model
def test_streaming() -> None:
    lines = run("streaming.py").splitlines()
    subjects = [line.partition(":")[0] for line in lines]
    assert set(subjects) == {"a cat", "a train"}
    changes = sum(one != next_one for one, next_one in pairwise(subjects))
    assert changes > 10, "the two streams arrive interleaved"


@pytest.mark.model
def test_openai_client() -> None:
    with headway_serve() as (_, url):
        assert "Paris" in run("openai_client.py", HEADWAY_URL=url)


@pytest.mark.model
def test_structured_output() -> None:
    with headway_serve() as (_, url):
        place, choice = run("structured_output.py", HEADWAY_URL=url).splitlines()
    assert place.startswith("name=")
    assert choice in ("yes", "no")


@pytest.mark.model
def test_tools() -> None:
    with headway_serve() as (_, url):
        (line,) = run("tools.py", HEADWAY_URL=url).splitlines()
    name, _, arguments = line.partition(" ")
    assert name == "get_weather"
    assert set(literal_eval(arguments)) == {"city", "days"}


@pytest.mark.model
def test_responses() -> None:
    with headway_serve() as (_, url):
        call, *answer = run("responses.py", HEADWAY_URL=url).splitlines()
    name, _, arguments = call.partition(" ")
    assert name == "Weather"
    assert set(literal_eval(arguments)) == {"city", "days"}
    assert answer


@pytest.mark.model
def test_messages() -> None:
    pytest.importorskip("anthropic")
    with headway_serve() as (_, url):
        (line,) = run("messages.py", HEADWAY_URL=url).splitlines()
    assert line.startswith("get_weather {'city': ")
