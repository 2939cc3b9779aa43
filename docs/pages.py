"""What the site has beside the files of `docs/`: pages that lie elsewhere in the repository.

mkdocs calls the functions whose names begin with `on_`; mkdocs.yml names this file. Links are
written so that they lead somewhere in a checkout. Here, those to other pages are turned into the
site's own, and those to files that the site does not have become plain text.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(__file__).parents[1]
ELSEWHERE = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "architecture.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "GLOSSARY.md": "glossary.md",
    "benchmarks/README.md": "benchmarks.md",
    "benchmarks/mutation.md": "mutation.md",
    "examples/deploy/README.md": "deploy.md",
}
"""Files of the repository, and which pages they are."""
DECISIONS = "decisions/README.md"
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put all decisions below their own page."""
    config.nav = _with_decisions(config.nav or [])
    return config


def _with_decisions(nav: list[Any]) -> list[Any]:
    """The menu, in which the page of decisions has become a folder of them."""
    found: list[Any] = []
    for entry in nav:
        if isinstance(entry, dict):
            ((title, below),) = entry.items()
            if isinstance(below, list):
                found.append({title: _with_decisions(below)})
                continue
            if below == DECISIONS:
                found.append({title: decisions()})
                continue
        found.append(entry)
    return found


def decisions() -> list[str]:
    """The pages of decisions, the overview first."""
    numbered = sorted(path.name for path in (ROOT / "docs" / "decisions").glob("[0-9]*.md"))
    return [DECISIONS, *(f"decisions/{name}" for name in numbered)]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie elsewhere."""
    from mkdocs.structure.files import File

    for source, page in ELSEWHERE.items():
        text = relinked((ROOT / source).read_text(), source)
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: object) -> str:
    """Turn the links of pages that lie in `docs/`."""
    if page.file.src_uri in ELSEWHERE.values():
        return markdown
    return relinked(markdown, f"docs/{page.file.src_uri}")


def relinked(text: str, source: str) -> str:
    """A file's text with its links as the site has them; `source` is its path in the repository."""
    return LINK.sub(lambda link: _link(link, source), text)


def _link(link: re.Match[str], source: str) -> str:
    said, target = link.groups()
    place, mark, anchor = target.partition("#")
    if ":" in place or not place:
        return link[0]
    named = posixpath.normpath(posixpath.join(posixpath.dirname(source), place))
    page = _page_of(named)
    if page is None:
        return said if (ROOT / named).exists() else link[0]
    folder = posixpath.dirname(_page_of(source) or "")
    return f"[{said}]({posixpath.relpath(page, folder or '.')}{mark}{anchor})"


def _page_of(named: str) -> str | None:
    """The page that a file of the repository is."""
    if named.startswith("docs/"):
        return named.removeprefix("docs/")
    return ELSEWHERE.get(named)
