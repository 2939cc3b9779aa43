"""Runs the commands that the tutorial shows, and puts what they print and draw into its pages.

    python docs/tutorial/charts.py            # write pages and charts anew
    python docs/tutorial/charts.py --check DIR    # say what is not as the commands have it; exit 1

A command stands in a block of `console` after `$ `, and what it prints below it, up to the block's
end or the next command; the notes at the end, which are the same for all, are left out. Commands
run in the folder of the pages. All of them simulate published
rates with a seed, so that they say the same on every machine.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import shlex
import sys
from pathlib import Path

from headway.cli.main import main as headway

FOLDER = Path(__file__).parent
BLOCK = re.compile(r"(?<=^```console\n).*?(?=^```$)", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^\$ ((?:[^\n]*\\\n)*[^\n]*)\n", re.MULTILINE)


def printed(command: str) -> str:
    """What a command of ours prints; it writes its files into the current folder.

    Raises ValueError for another program, and for a command that fails.
    """
    program, *words = shlex.split(command.replace("\\\n", " "))
    if program != "headway":
        raise ValueError(f"the tutorial runs headway alone, not {program}")
    shown, asides = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(asides):
        status = headway(words)
    if status:
        raise ValueError(f"{command} failed: {asides.getvalue()}")
    return shown.getvalue()


def run_block(block: re.Match[str]) -> str:
    """The block with what its commands print now."""
    commands = COMMAND.findall(block[0])
    return "\n".join(f"$ {command}\n{without_notes(printed(command))}" for command in commands)


def without_notes(text: str) -> str:
    """What a command printed, without the list of sentences after its tables."""
    return text.partition("\n\n- ")[0].rstrip("\n") + "\n"


def run_page(page: Path) -> str:
    """The page with what its commands print now. Charts are drawn into the current folder."""
    return BLOCK.sub(run_block, page.read_text())


def write() -> None:
    """All pages and charts, anew."""
    os.chdir(FOLDER)
    for page in sorted(FOLDER.glob("*.md")):
        page.write_text(run_page(page))


def check(scratch: Path) -> list[str]:
    """Pages and charts that are not what the commands make, by name."""
    (scratch / "images").mkdir(parents=True)
    os.chdir(scratch)
    stale = [
        page.name for page in sorted(FOLDER.glob("*.md")) if run_page(page) != page.read_text()
    ]
    kept = {path.name: path.read_bytes() for path in (FOLDER / "images").iterdir()}
    drawn = {path.name: path.read_bytes() for path in (scratch / "images").iterdir()}
    return stale + sorted(name for name in kept | drawn if kept.get(name) != drawn.get(name))


def main() -> int:
    parser = argparse.ArgumentParser(description="The tutorial's figures and charts.")
    parser.add_argument("--check", type=Path, metavar="DIR", help="draw there, and compare")
    arguments = parser.parse_args()
    try:
        if arguments.check is None:
            write()
            return 0
        stale = check(arguments.check.absolute())
    except ValueError as error:
        print(error)
        return 2
    for name in stale:
        print(f"{name} is not what its commands make now: run docs/tutorial/charts.py")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
