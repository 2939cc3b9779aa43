"""The site of the documents: its menu has every page, links lead somewhere, nothing is fetched."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
BUILT = importlib.util.find_spec("material") is not None
needs_mkdocs = pytest.mark.skipif(not BUILT, reason="the extra `docs` is not installed")


def hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pages", DOCS / "pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def settings() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    return found


def pages_of(nav: list[Any]) -> Iterator[str]:
    for entry in nav:
        below = next(iter(entry.values())) if isinstance(entry, dict) else entry
        if isinstance(below, list):
            yield from pages_of(below)
        else:
            yield below


# The menu.


def test_the_menu_has_every_page_once_and_none_besides() -> None:
    pages = hooks()
    menu = [*pages_of(settings()["nav"]), *pages.decisions()[1:]]
    own = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert len(menu) == len(set(menu))
    assert own - set(menu) == set(), "add it to `nav` in mkdocs.yml"
    assert set(menu) == own | set(pages.ELSEWHERE.values())


def test_decisions_are_put_below_their_page_in_their_order() -> None:
    pages = hooks()
    nav = [{"A": "a.md"}, {"B": [{"Decisions": pages.DECISIONS}, "b.md"]}]
    found = pages._with_decisions(nav)
    assert found[0] == {"A": "a.md"}
    (decisions,) = found[1]["B"][0].values()
    assert decisions[:2] == [pages.DECISIONS, "decisions/0001-shared-prefixes-wait.md"]
    assert decisions[1:] == sorted(decisions[1:])
    assert found[1]["B"][1] == "b.md"


# Links.


@pytest.mark.parametrize(
    ("source", "link", "turned"),
    [
        ("README.md", "[a](docs/page.md)", "[a](page.md)"),
        ("README.md", "[a](docs/tools.md#reasoning)", "[a](tools.md#reasoning)"),
        ("README.md", "[a](ARCHITECTURE.md)", "[a](architecture.md)"),
        ("README.md", "[a](pyproject.toml)", "a"),
        ("README.md", "[a](docs/not-there.txt)", "[a](not-there.txt)"),
        ("README.md", "[a](not-there.txt)", "[a](not-there.txt)"),
        ("benchmarks/README.md", "[a](../docs/batch-size.md)", "[a](batch-size.md)"),
        ("benchmarks/README.md", "[a](mutation.md)", "[a](mutation.md)"),
        ("benchmarks/README.md", "[a](results)", "a"),
        ("docs/tools.md", "[a](../GLOSSARY.md)", "[a](glossary.md)"),
        ("docs/tools.md", "[a](sampling.md#x)", "[a](sampling.md#x)"),
        ("docs/tutorial/width.md", "[a](../batch-size.md)", "[a](../batch-size.md)"),
        ("docs/tutorial/width.md", "[a](../../GLOSSARY.md)", "[a](../glossary.md)"),
        ("docs/tutorial/width.md", "[a](paced.md)", "[a](paced.md)"),
        ("docs/tools.md", "[a](https://example.org/x)", "[a](https://example.org/x)"),
        ("docs/tools.md", "[a](#here)", "[a](#here)"),
        ("docs/tools.md", "![a](images/x.svg)", "![a](images/x.svg)"),
    ],
)
def test_links_lead_to_the_same_on_the_site(source: str, link: str, turned: str) -> None:
    assert hooks().relinked(f"See {link}.", source) == f"See {turned}."


# The site.


class _Asked(HTMLParser):
    """What a browser fetches of a page, and where its links lead."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.title = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids.add(given.get("id", ""))
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag == "link" and given.get("rel") not in ("canonical", "next", "prev"):
            self.fetched.append(given.get("href", ""))
        elif "src" in given:
            self.fetched.append(given["src"])
        if tag == "h1":
            self.title = "there is one"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"]
    done = subprocess.run(
        [*command, "--site-dir", str(folder)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def asked(site: Path) -> dict[Path, _Asked]:
    found = {}
    for path in site.rglob("*.html"):
        found[path] = _Asked()
        found[path].feed(path.read_text())
    return found


@needs_mkdocs
def test_every_page_is_built(asked: dict[Path, _Asked]) -> None:
    assert len(asked) > 50
    assert {path.name for path, page in asked.items() if not page.title} <= {"404.html"}


@needs_mkdocs
def test_reading_it_asks_nothing_of_other_servers(site: Path, asked: dict[Path, _Asked]) -> None:
    for path, page in asked.items():
        assert page.fetched
        assert [each for each in page.fetched if "//" in each] == [], path
    for sheet in site.rglob("*.css"):
        assert re.findall(r"(?:url\(|@import)[\"' ]*(?:https?:)?//", sheet.read_text()) == []


@needs_mkdocs
def test_every_link_and_its_anchor_are_there(site: Path, asked: dict[Path, _Asked]) -> None:
    lost = []
    for path, page in asked.items():
        for link in page.links:
            place, _, anchor = link.partition("#")
            if ":" in place or path.name == "404.html":
                continue
            target = (path.parent / place).resolve() if place else path
            if target.is_dir():
                target /= "index.html"
            known = asked[target].ids if target in asked else set()
            if not target.exists() or (anchor and anchor not in known):
                lost.append(f"{path.relative_to(site)}: {link}")
    assert lost == []


@needs_mkdocs
def test_what_is_searched_is_there_and_scripts_of_the_documents_are_not(site: Path) -> None:
    index = (site / "search" / "search_index.json").read_text()
    assert "relegate" in index
    assert not [*site.rglob("*.py")]
