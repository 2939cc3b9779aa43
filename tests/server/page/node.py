"""Runs scripts beside the page's modules under Node, where it is installed."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import headway.server.page

STATIC = Path(headway.server.page.__file__).parent / "static"
PROGRAMS = Path(__file__).parent / "programs"


def run_script(folder: Path, script: str, given: object) -> Any:
    """What a script in `programs` answers, as JSON, to JSON; `folder` is a new one for the modules.

    Skips the test where there is no Node.
    """
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    (folder / "package.json").write_text('{"type": "module"}')
    for module in STATIC.glob("*.js"):
        shutil.copy(module, folder)
    shutil.copy(PROGRAMS / script, folder)
    done = subprocess.run(
        [node, script],
        cwd=folder,
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
