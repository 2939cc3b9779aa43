"""Small changes put into a copy of the code, one at a time: how many do the tests of a room notice?

Needs the extra `headway[mutation]`. A sample of places is drawn by a seed and one mutant made at
each; what is left is written as JSON: which survived, and which were noticed only by waiting.

    python benchmarks/mutation.py scheduler --sample 40 --seed 1 --out results.json

Left out are changes of `|`, which mostly stands in annotations; `is` for another comparison, which
for the small numbers and interned texts here are the same; decorators, and what `@dataclass` is
told, which are declarations.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import TestOutcome, WorkerOutcome, WorkItem, WorkResult

ROOT = Path(__file__).parents[1]
LEFT_OUT = re.compile(r"Operator_BitOr_|Comparison.*_Is(Not)?$|RemoveDecorator")
# Failing examples are not made smaller, which would take most of the time.
PYTEST = "-q -x -p no:cacheprovider --hypothesis-profile=mutation --hypothesis-seed=0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Some modules, and the tests that should notice a change of them, the fastest first."""

    modules: tuple[str, ...]
    tests: str
    timeout: float = 120.0
    """Seconds; a mutant that takes longer counts as noticed by waiting."""


_SCHEDULING = "src/headway/scheduling"
_BY_EXAMPLE = " ".join(
    f"tests/scheduling/test_{name}.py"
    for name in ("estimates", "allocation", "checks", "scheduler", "preemption", "prefix_cache")
)
ROOMS = {
    "scheduler": Room(
        modules=tuple(
            f"{_SCHEDULING}/{name}.py"
            for name in (
                *("admission", "allocation", "drafts", "fast_forward"),
                *("queues", "scheduler", "sequence"),
            )
        ),
        tests=f"{_BY_EXAMPLE} tests/scheduling -k 'not toy'",
    ),
    "blocks": Room(
        modules=(f"{_SCHEDULING}/block_pool.py", "src/headway/types/block_hash.py"),
        tests=f"{_BY_EXAMPLE} tests/scheduling/test_block_pool.py"
        " tests/scheduling/test_every_policy.py -k 'not toy'",
    ),
    "policy": Room(
        modules=(f"{_SCHEDULING}/policy",),
        tests="tests/scheduling/policy tests/scheduling/test_every_policy.py"
        " tests/scheduling/test_fast_forward.py",
    ),
    "client": Room(modules=("src/headway/client",), tests="tests/client"),
    "server": Room(modules=("src/headway/server",), tests="tests/server -m 'not model'"),
    "sampling": Room(
        modules=("src/headway/runner/sampling", "src/headway/types/sampling.py"),
        tests="tests/runner/test_sampling.py tests/runner/test_philox.py tests/llm/test_resolve.py"
        " tests/native/test_sample.py tests/types tests/runner/test_runners.py"
        " -k 'not bfloat16 and not float16'",
    ),
}


def copy_of_tree(folder: Path) -> Path:
    """What git knows of the working tree, and the compiled library: mutants are made there."""
    listed = subprocess.run(
        ["git", "ls-files"],  # noqa: S607
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split("\n")
    libraries = (ROOT / "src/headway/native").glob("libheadway.*")
    for name in [*filter(None, listed), *(str(path.relative_to(ROOT)) for path in libraries)]:
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def sample_of(items: tuple[WorkItem, ...], size: int, seed: int) -> set[str]:
    """Jobs of one mutant at each of some places, all drawn at random."""
    places: defaultdict[tuple[str, tuple[int, int]], list[tuple[str, str]]] = defaultdict(list)
    for item in items:
        (mutation,) = item.mutations
        line = Path(mutation.module_path).read_text().split("\n")[mutation.start_pos[0] - 1]
        if not LEFT_OUT.search(mutation.operator_name) and not line.startswith("@dataclass"):
            place = (str(mutation.module_path), mutation.start_pos)
            places[place].append((mutation.operator_name, item.job_id))
    draw = random.Random(seed)
    chosen = draw.sample(sorted(places), min(size, len(places)))
    # By name: job ids differ from run to run.
    return {draw.choice(sorted(places[place]))[1] for place in chosen}


def run_room(name: str, tree: Path, *, sample: int, seed: int) -> dict[str, object]:
    """Make a sample of a room's mutants in `tree`, one after the other; what became of them."""
    room, session = ROOMS[name], tree / "session.sqlite"
    command = f"{sys.executable} -m pytest {room.tests} {PYTEST}"
    config = tree / "mutation.toml"
    modules = [str(tree / module) for module in room.modules]
    config.write_text(
        f"[cosmic-ray]\nmodule-path = {json.dumps(modules)}\ntimeout = {room.timeout}\n"
        f"excluded-modules = []\ntest-command = {json.dumps(command)}\n"
        '[cosmic-ray.distributor]\nname = "local"\n'
    )
    environment = os.environ | {"PYTHONPATH": f"{tree / 'src'}{os.pathsep}{tree}"}
    ray = [sys.executable, "-m", "cosmic_ray.cli"]

    def call(*arguments: str) -> None:
        subprocess.run([*ray, *arguments], cwd=tree, env=environment, check=True)

    call("init", "--force", str(config), str(session))
    call("baseline", str(config))  # the tests must pass as the code is
    with use_db(session, WorkDB.Mode.open) as work:
        items = work.work_items
        chosen = sample_of(items, sample, seed)
        others = [item.job_id for item in items if item.job_id not in chosen]
        work.set_multiple_results(others, WorkResult(worker_outcome=WorkerOutcome.SKIPPED))
    call("exec", str(config), str(session))
    with use_db(session, WorkDB.Mode.open) as work:
        results = [
            (item, result) for item, result in work.completed_work_items if item.job_id in chosen
        ]
    waited = [item for item, result in results if result.output == "timeout"]
    survived = [
        (item, result) for item, result in results if result.test_outcome == TestOutcome.SURVIVED
    ]
    return {
        "room": name,
        "mutants": len(items),
        "sampled": len(results),
        "noticed": len(results) - len(survived),
        "noticed only by waiting": [described(item) for item in waited],
        "survivors": [
            {"mutant": described(item), "diff": result.diff} for item, result in survived
        ],
    }


def described(item: WorkItem) -> str:
    (mutation,) = item.mutations
    where = re.sub(r"^.*/src/", "src/", str(mutation.module_path))
    return f"{where}:{mutation.start_pos[0]} {mutation.operator_name} in {mutation.definition_name}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rooms", nargs="+", choices=ROOMS)
    parser.add_argument("--sample", type=int, default=40, help="places in each room (default: 40)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, help="JSON, written after each room")
    given = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory(prefix="headway-mutation-") as folder:
        tree = copy_of_tree(Path(folder))
        for name in given.rooms:
            found.append(run_room(name, tree, sample=given.sample, seed=given.seed))
            given.out.write_text(json.dumps(found, indent=1))
            print(name, found[-1]["noticed"], "of", found[-1]["sampled"], flush=True)


if __name__ == "__main__":
    main()
