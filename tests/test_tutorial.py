"""The tutorial's commands say and draw what its pages show, and its pages hang together."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

TUTORIAL = Path(__file__).parents[1] / "docs" / "tutorial"
PAGES = sorted(TUTORIAL.glob("*.md"))
ORDER = (
    "index",
    "sequential",
    "static",
    "dynamic",
    "continuous",
    "kv-cache",
    "width",
    "paced",
)


def run(folder: Path, scratch: Path) -> subprocess.CompletedProcess[str]:
    """`charts.py --check` on a folder of pages."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HEADWAY_")}
    return subprocess.run(
        [sys.executable, str(folder / "charts.py"), "--check", str(scratch)],
        env=clean | {"HEADWAY_HOME": str(scratch / "home")},
        capture_output=True,
        text=True,
        check=False,
    )


def test_pages_and_charts_are_what_the_commands_make_now(tmp_path: Path) -> None:
    done = run(TUTORIAL, tmp_path)
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


COMMAND = (
    "headway simulate --device l4 --model llama-3.2-1b --num-prompts 2 --output-len 2 "
    "--svg images/a.svg"
)


def a_tutorial(folder: Path, block: str) -> Path:
    folder.mkdir()
    (folder / "charts.py").write_text((TUTORIAL / "charts.py").read_text())
    (folder / "images").mkdir()
    (folder / "page.md").write_text(f"# A page\n\n```console\n{block}```\n")
    return folder


def test_a_stale_page_and_a_stale_chart_are_named(tmp_path: Path) -> None:
    folder = a_tutorial(tmp_path / "pages", f"$ {COMMAND}\nWhat it once said.\n")
    done = run(folder, tmp_path / "scratch")
    assert done.returncode == 1
    assert re.findall(r"^[\w.]+", done.stdout, re.MULTILINE) == ["page.md", "a.svg"]


def test_what_is_written_is_then_found_current(tmp_path: Path) -> None:
    split = COMMAND.replace(" --num-prompts", " \\\n    --num-prompts")
    folder = a_tutorial(tmp_path / "pages", f"$ {split}\n$ {COMMAND} --seed 1\n")
    subprocess.run([sys.executable, str(folder / "charts.py")], check=True)
    page = (folder / "page.md").read_text()
    assert page.count("llama-3.2-1b on NVIDIA L4, simulated\n") == 2
    assert f"$ {split}\n" in page
    assert (folder / "images" / "a.svg").exists()
    assert run(folder, tmp_path / "scratch").returncode == 0


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("rm -r x", "the tutorial runs headway alone, not rm"),
        ("headway simulate --device l4 --model none", "failed: headway: "),
    ],
)
def test_another_program_or_a_command_that_fails_is_an_error(
    tmp_path: Path, command: str, said: str
) -> None:
    done = run(a_tutorial(tmp_path / "pages", f"$ {command}\n"), tmp_path / "scratch")
    assert done.returncode == 2
    assert said in done.stdout


def test_each_page_leads_to_the_next() -> None:
    assert {page.stem for page in PAGES} == set(ORDER)
    for name, after in pairwise(ORDER):
        last = (TUTORIAL / f"{name}.md").read_text().rstrip().splitlines()[-1]
        assert f"]({after}.md)" in last, name


def test_each_page_runs_a_command_and_shows_its_chart() -> None:
    shown: set[str] = set()
    for page in PAGES:
        text = page.read_text()
        drawn = set(re.findall(r"--svg (images/[\w-]+\.svg)", text))
        images = set(re.findall(r"!\[[^\]]{40,}\]\((images/[\w-]+\.svg)\)", text))
        assert drawn, page.name
        assert drawn == images, page.name
        shown |= images
    assert shown == {f"images/{path.name}" for path in (TUTORIAL / "images").iterdir()}
