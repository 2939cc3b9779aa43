"""`headway simulate --roles`: fleets whose machines have roles, and comparing them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from headway.cli.main import main

FLAGS = ["simulate", "--device", "h100", "--model", "llama-3.1-8b", "--num-prompts", "12"]


def test_roles_are_compared_side_by_side(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    flags = ["--roles", "prefill,decode:2", "--compare-roles", "--json", str(path)]
    assert main([*FLAGS, *flags]) == 0
    runs = json.loads(path.read_text())["runs"]
    roles = [(run["settings"].get("roles"), run["settings"].get("fixed_roles")) for run in runs]
    assert roles == [(None, None), ("prefill,decode:2", "true"), ("prefill,decode:2", "false")]
    assert all(run["settings"]["replicas"] == 3 for run in runs)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--roles", "prefill,decode", "--replicas", "3"], "--replicas is 3"),
        (["--roles", "prefil,decode"], "--roles: 'prefil' is none of"),
        (["--fixed-roles"], "--fixed-roles needs --roles"),
        (["--compare-roles"], "--compare-roles needs --roles"),
        (
            ["--roles", "prefill,decode", "--find", "replicas", "--slo", "ttft_p99=1s"],
            "--find replicas tries fleets of any size",
        ),
    ],
)
def test_contradictions_name_the_flag(
    flags: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*FLAGS, *flags]) != 0
    assert named in capsys.readouterr().err
