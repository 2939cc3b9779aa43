"""Which client libraries work, and with what: docs/compatibility.md, made from the tests.

    python -m tests.clients.matrix > docs/compatibility.md
    python -m tests.clients.matrix --run [--url http://127.0.0.1:8000]

The first prints the page as the tests' marks have it. The second runs the tests, against a server
that it starts or the one given, and prints the table with what they gave.
"""

from __future__ import annotations

import argparse
import contextlib
import inspect
import os
import re
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from tests.clients.features import FEATURES, LIBRARIES, WAITING, Feature, library

ROOT = Path(__file__).parents[2]
HEAD = """# Client libraries

What was tried of the libraries that people call a server with, in tests that run against a server
of the default model (`tests/clients`). This page is made from them by
`python -m tests.clients.matrix > docs/compatibility.md`; with `--run` it tries them again.
Whether a small model calls the right tool is its own affair: the tests ask for calls and forms that
it must keep, and check that these come to the library whole.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What one test tries of a library, under one feature; a test may show several."""

    feature: str
    needs: frozenset[str]
    text: str
    refused: str = ""
    """Why the server refuses it; empty where it works."""

    @property
    def outcome(self) -> str:
        if self.refused:
            return "refused"
        return "not yet" if self.needs & WAITING else "works"


def calls(name: str) -> list[Call]:
    """What the tests of a library try, in their order."""
    library(LIBRARIES[name])
    module = __import__(f"tests.clients.test_{name}", fromlist=["REAL"])
    found = []
    for test in vars(module).values():
        if not inspect.isfunction(test) or test.__module__ != module.__name__:
            continue
        shown: dict[str, list[Any]] = defaultdict(list)
        for mark in _shown(getattr(test, "pytestmark", [])):
            shown[mark.args[0]].append(mark)
        for feature, marks in shown.items():
            call = Call(
                feature=feature,
                # One of several ways that works is enough.
                needs=frozenset.intersection(*(frozenset(mark.args) for mark in marks)),
                text=inspect.cleandoc(test.__doc__ or test.__name__).partition("\n")[0],
                refused=marks[0].kwargs.get("refused", ""),
            )
            found.append(call)
    return found


def _shown(marks: list[Any]) -> Iterator[Any]:
    for mark in marks:
        if mark.name == "shows":
            yield mark
        elif mark.name == "parametrize":
            for case in mark.args[1]:
                yield from _shown(list(getattr(case, "marks", ())))


def document() -> str:
    """The whole page, as Markdown."""
    tried = {name: calls(name) for name in LIBRARIES}
    cells: dict[tuple[str, str], str] = {
        (name, feature): _summary([call for call in some if call.feature == feature])
        for name, some in tried.items()
        for feature in FEATURES
    }
    return "\n".join([HEAD, *_table(cells), "", *(_section(n, c) for n, c in tried.items())])


def _summary(some: list[Call]) -> str:
    """One word for several calls."""
    outcomes = list(dict.fromkeys(call.outcome for call in some))
    return ", in part ".join(outcomes)


def _table(cells: dict[tuple[str, str], str]) -> Iterator[str]:
    yield f"| | {' | '.join(FEATURES)} |"
    yield "|---" * (len(FEATURES) + 1) + "|"
    for name in LIBRARIES:
        yield f"| {_versions()[name]} | {' | '.join(cells[name, each] for each in FEATURES)} |"


def _section(name: str, some: list[Call]) -> str:
    lines = [f"## {_versions()[name]}\n\n| | | |\n|---|---|---|"]
    for call in sorted(some, key=lambda call: FEATURES.index(cast(Feature, call.feature))):
        about = f": {call.refused}" if call.refused else ""
        lines.append(f"| {call.feature} | {call.outcome}{about} | {call.text} |")
    return "\n".join(lines) + "\n"


def _versions() -> dict[str, str]:
    """The libraries by their names at the package index, with the oldest versions supported."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = {}
    for requirement in project["optional-dependencies"]["clients"]:
        package, _, version = re.split("(>=)", requirement)
        short = package.removeprefix("openai-") if package != "openai" else package
        found[short.removesuffix("-openai")] = f"{package} {version}"
    return found


class Outcomes:
    """A plugin of pytest that keeps what each test gave."""

    def __init__(self) -> None:
        self.given: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
        self._features: dict[str, set[str]] = {}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            self._features[item.nodeid] = {mark.args[0] for mark in item.iter_markers("shows")}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or not report.passed:
            name = re.sub(r".*test_(\w+)\.py.*", r"\1", report.nodeid)
            for feature in self._features.get(report.nodeid, ()):
                self.given[name, feature].append((report.nodeid.split("::")[-1], report.outcome))

    def cells(self) -> dict[tuple[str, str], str]:
        """How many of the tests passed, and the names of those that did not."""
        cells: dict[tuple[str, str], str] = defaultdict(str)
        for key, given in self.given.items():
            good = sum(outcome == "passed" for _, outcome in given)
            bad = [f"{test} {outcome}" for test, outcome in given if outcome != "passed"]
            cells[key] = f"{good} of {len(given)}" + "".join(f"; {each}" for each in bad)
        return cells


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--run", action="store_true", help="run the tests")
    parser.add_argument("--url", help="a server of the default model that runs already")
    given = parser.parse_args()
    if not given.run:
        print(document(), end="")
        return 0
    if given.url:
        os.environ["CLIENTS_URL"] = given.url
    outcomes = Outcomes()
    with contextlib.redirect_stdout(sys.stderr):
        status = pytest.main(["-q", "--tb=line", str(Path(__file__).parent)], plugins=[outcomes])
    print("\n".join(_table(outcomes.cells())))
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
