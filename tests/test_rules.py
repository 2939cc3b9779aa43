"""The rules that CONTRIBUTING.md states, and the places that the documents name, hold."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"
FILES = sorted((SOURCE / "headway").rglob("*.py"))
MOST_LINES = 400
MOST_FUNCTION_LINES = 50

Function = ast.FunctionDef | ast.AsyncFunctionDef


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


def long_functions(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, Function) and node.end_lineno is not None:
            lines = node.end_lineno - node.lineno + 1
            if lines > MOST_FUNCTION_LINES:
                yield f"{node.name} has {lines} lines"


def test_files_and_functions_stay_short() -> None:
    assert len(FILES) > 100
    problems = [f"{path.name}: {each}" for path in FILES for each in long_functions(parsed(path))]
    lengths = {path.name: len(path.read_text().splitlines()) for path in FILES}
    problems += [f"{name} has {n} lines" for name, n in lengths.items() if n > MOST_LINES]
    assert problems == []


BACKGROUND = re.compile(r"\b(create_task|ensure_future|call_soon|call_later|call_at)\(")
API_PROCESS = ("client", "llm", "server")
AWAITED = re.compile(r"# awaited$|\bgroup\.create_task")


def unwatched(text: str) -> list[str]:
    """Lines that start something in the background of which nobody would hear that it failed."""
    lines = [each for each in text.splitlines() if BACKGROUND.search(each)]
    return [each.strip() for each in lines if not AWAITED.search(each)]


def test_nothing_runs_in_the_background_unwatched() -> None:
    """What is not awaited where it is started goes through `headway.background`."""
    package = SOURCE / "headway"
    files = [path for path in FILES if path.relative_to(package).parts[0] in API_PROCESS]
    assert len(files) > 20
    assert {path.name: each for path in files if (each := unwatched(path.read_text()))} == {}
    assert unwatched("  self.x = asyncio.create_task(work())  # why") != []


def test_a_long_function_would_be_found() -> None:
    text = "class C:\n    async def f(self):\n" + "        pass\n" * MOST_FUNCTION_LINES
    assert list(long_functions(ast.parse(text))) == ["f has 51 lines"]


def test_no_two_public_classes_share_a_name() -> None:
    places = defaultdict(list)
    for path in FILES:
        for node in parsed(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(module_of(path))
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def imports_of(path: Path, modules: set[str]) -> set[str]:
    """Modules of ours that a module imports when it is imported."""
    found = set()
    for node in parsed(path).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                found.add(name if name in modules else node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return (found & modules) - {module_of(path)}


def cycle_in(graph: dict[str, set[str]]) -> list[str]:
    """Some modules that import each other in a circle; empty where there is none."""
    left = {name: set(needs) for name, needs in graph.items()}
    while left:
        free = {name for name, needs in left.items() if not needs & left.keys()}
        if not free:
            return sorted(left)
        left = {name: needs for name, needs in left.items() if name not in free}
    return []


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    modules = {module_of(path): path for path in FILES}
    graph = {name: imports_of(path, set(modules)) for name, path in modules.items()}
    # What a package re-exports is no idea of its own: who imports the package means its parts.
    for name, path in modules.items():
        if path.name == "__init__.py":
            graph[name] = {each for each in graph[name] if not each.startswith(f"{name}.")}
    assert cycle_in(graph) == []
    assert cycle_in({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["a", "b", "c"]


PATHLIKE = re.compile(r"`((?:src|tests|benchmarks|examples|native|docs)/[\w./-]*|[A-Z]+\.md)`")


@pytest.mark.parametrize("name", ["ARCHITECTURE.md", "CONTRIBUTING.md", "README.md"])
def test_files_that_documents_name_exist(name: str) -> None:
    named = PATHLIKE.findall((ROOT / name).read_text())
    # CONTRIBUTING.md counts from the package where it says nothing else.
    places = (ROOT, SOURCE / "headway")
    assert [each for each in named if not any((p / each).exists() for p in places)] == []
