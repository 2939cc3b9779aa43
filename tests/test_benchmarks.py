import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# An engine that is faster in every later prompt set, and one that never runs.
RUN = """#!/usr/bin/env bash
[ "$1" = broken ] && { echo "no such engine"; exit 3; }
echo "COLDSTART 1.5s ok=True"
echo "PEAKRSS 2000 MiB over 2 procs"
cat > "$2" <<END
[{"name": "W0", "decode_tps": [90, $((100 + SET)), 200], "ttft50": 0.25},
 {"name": "W1a", "out_tps": 400, "ttft50": 1, "itl50": 20, "itl99": 30},
 {"name": "INV", "match": 3, "of": 4, "form": "$FORM"}]
END
"""


def compare(folder: Path, *systems: str) -> tuple[dict[str, object], str]:
    (folder / "run.sh").write_text(RUN)
    command = [sys.executable, str(ROOT / "benchmarks" / "peers.py"), *systems]
    command += ["--peers", str(folder), "--out", str(folder / "out"), "--rounds", "3"]
    environment = dict(os.environ) | {"PYTHONPATH": str(ROOT / "src")}
    subprocess.run(
        [*command, "--pause", "0"], env=environment, check=True, timeout=120, capture_output=True
    )
    record = json.loads((folder / "out" / "peers.json").read_text())
    return record, (folder / "out" / "peers.md").read_text()


def test_engines_take_turns_and_the_table_has_medians_and_spread(tmp_path: Path) -> None:
    record, table = compare(tmp_path, "first:q4_0", "second")
    runs = record["runs"]
    assert isinstance(runs, list)
    order = [run["system"] for run in runs]
    assert order == ["first q4_0", "second", "second", "first q4_0", "first q4_0", "second"]
    assert [run["figures"]["W0 decode tokens/s"] for run in runs] == [100, 100, 101, 101, 102, 102]
    assert runs[0]["figures"]["start s"] == 1.5
    assert runs[0]["figures"]["peak memory MiB"] == 2000
    assert runs[0]["figures"]["INV identical %"] == 75
    assert "| W0 decode tokens/s | 101 (100-102, n=3) | 101 (100-102, n=3) |" in table


def test_an_engine_that_fails_does_not_end_the_comparison(tmp_path: Path) -> None:
    record, table = compare(tmp_path, "broken", "second")
    runs = record["runs"]
    assert isinstance(runs, list)
    assert ["no such engine" in run.get("error", "") for run in runs].count(True) == 3
    assert "Failed turns: broken: 3, second: 0" in table
    assert "| W1a output tokens/s |  | 400 (400-400, n=3) |" in table


def test_benchmarks_say_how_they_are_used() -> None:
    names = (
        "agreement",
        "api_cost",
        "disaggregation_real",
        "fairness",
        "fleet_cost",
        "fleet_moves",
        "headline",
        "invariance",
        "larger_shapes",
        "long_prompt",
        "online_model",
        "paced",
        "paced_ablation",
        "paced_throughput",
        "peers",
        "plots",
        "recording_cost",
        "response_cache",
        "restart_pause",
        "routers",
        "simulation",
        "speculation",
        "structured",
        "two_builds",
    )
    for name in names:
        command = [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), "--help"]
        environment = dict(os.environ) | {"PYTHONPATH": str(ROOT / "src")}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert "usage:" in done.stdout


def test_paced_is_compared_with_fixed_settings_and_nobody_passes_the_bound(tmp_path: Path) -> None:
    rows = [
        f"2023-11-16 18:15:{s:02d}.{n}00000,{900 + 50 * n},60" for s in range(4) for n in range(9)
    ]
    lines = ["TIMESTAMP,ContextTokens,GeneratedTokens", *rows]
    (tmp_path / "AzureLLMInferenceTrace_conv.csv").write_text("\n".join(lines))
    command = [sys.executable, str(ROOT / "benchmarks" / "paced.py"), "h100"]
    command += ["--traces", str(tmp_path), "--out", str(tmp_path / "out.json")]
    command += ["--loads", "azure conversation", "--rates", "8", "--requests", "36"]
    command += ["--slo", "ttft_p99=100ms,tpot_p99=30ms"]
    environment = dict(os.environ) | {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True, timeout=300
    )
    record = json.loads((tmp_path / "out.json").read_text())
    (bound,) = record["bounds"].values()
    systems = {row["system"]: row for row in record["rows"]}
    fixed = [row for row in systems.values() if row["policy"] == "continuous"]
    assert len([row for row in fixed if not row["refused"]]) >= 20
    assert all(row["attainment"] <= bound["attainment at most"] for row in systems.values())
    assert all(
        abs(row["attainment"] + row["late_share"] + row["shed_share"] - 1) < 1e-9
        for row in systems.values()
    )
    refused = [row for name, row in systems.items() if "10% refused at random" in name]
    assert {row["refused"] for row in refused} == {4}
    assert all(row["shed_share"] == 4 / 36 for row in refused)
    assert "256 x 2048 (vLLM's defaults)" in done.stdout


def test_every_part_of_paced_can_be_turned_off_and_what_is_known_is_kept(tmp_path: Path) -> None:
    rows = [f"2023-11-16 18:15:00.{n:02d}00000,{900 + 50 * n},9" for n in range(40)]
    lines = ["TIMESTAMP,ContextTokens,GeneratedTokens", *rows]
    (tmp_path / "AzureLLMInferenceTrace_conv.csv").write_text("\n".join(lines))
    out = tmp_path / "out.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "paced_ablation.py")]
    command += ["--traces", str(tmp_path), "--out", str(out), "--requests", "40", "--seeds", "0"]
    command += ["--loads", "azure conversation x 4"]
    environment = dict(os.environ) | {"PYTHONPATH": str(ROOT / "src")}

    def run() -> tuple[str, list[str]]:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True, timeout=300
        )
        return done.stdout, done.stderr.splitlines()

    shown, told = run()
    found = {
        (row["part"], row["variant"]): row["attainment"]
        for row in json.loads(out.read_text())["rows"]
    }
    assert len(told) == len(found) > 30
    assert found["as shipped", "as shipped"] < 1, "the load is more than can be served in time"
    assert len(set(found.values())) > 3, "parts that are off make a difference"
    assert all(f"{part}: {name}" in shown for part, name in found if part != "as shipped")
    assert run() == (shown, []), "nothing is simulated twice"


@pytest.mark.model
def test_answers_to_random_schemas_are_valid(tmp_path: Path) -> None:
    """A small part of what `structured.py` asks for: every kind of schema, in four ways."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, str(ROOT / "benchmarks" / "structured.py"), "--port", port]
    command += ["--schemas", "18", "--room", "120", "--rounds", "0"]
    environment = dict(os.environ) | {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "out.json")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "out.json").read_text())["validity"]
    assert found["answers"]["valid"] + found["answers"].get("cut off", 0) == 4 * 18
    assert found["answers"]["valid"] > 36
    assert found["neighbours answered"] == 4 * 18


def test_routers_are_compared_and_nothing_is_simulated_twice(tmp_path: Path) -> None:
    line = {"input_length": 900, "output_length": 9}
    lines = [
        json.dumps({**line, "timestamp": 400 * n, "hash_ids": [n % 3, 10 + n]}) for n in range(40)
    ]
    (tmp_path / "mooncake_conversation_trace.jsonl").write_text("\n".join(lines))
    command = [sys.executable, str(ROOT / "benchmarks" / "routers.py"), "--replicas", "2"]
    command += ["--traces", str(tmp_path), "--loads", "mooncake x 0.8", "--policies", "paced"]
    command += ["--routers", "prefix", "predicted", "--out", str(tmp_path / "out.json")]
    environment = dict(os.environ) | {"PYTHONPATH": str(ROOT / "src")}

    def run() -> tuple[str, str]:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True, timeout=120
        )
        return done.stdout, done.stderr

    shown, told = run()
    assert told.count("%") == 2
    assert "| mooncake x 0.8 | 2 | paced | " in shown
    rows = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert [row["router"] for row in rows] == ["prefix", "predicted"]
    assert all(0.0 < row["attainment"] <= 1.0 for row in rows)
    assert run() == (shown, "")


SELECTION = """
import atexit, json, os
told = []
class SelectionService:
    def __init__(self, indexer_threads):
        self.known, self.turn, self.settings = {}, 0, os.environ["DYN_ROUTER_USE_KV_EVENTS"]
    async def upsert_worker(self, worker):
        told.append(["worker", worker["worker_id"], worker["block_size"]])
    async def select_and_reserve(self, asked):
        assert asked["block_hashes"] == asked["sequence_hashes"] and self.settings == "false"
        self.turn += 1
        blocks = [hash for hash in asked["block_hashes"] if 0 <= hash < 2**63]
        told.append(["select", asked["selection_id"], blocks, asked["isl_tokens"]])
        return {"worker_id": self.turn % 2}
    async def prefill_complete(self, name):
        told.append(["began", name])
    async def free_reservation(self, name):
        told.append(["ended", name])
atexit.register(lambda: open(os.environ["TOLD"], "w").write(json.dumps(told)))
"""


def test_the_opponent_is_told_of_prompts_first_tokens_and_ends(tmp_path: Path) -> None:
    (tmp_path / "dynamo").mkdir()
    (tmp_path / "dynamo" / "_core.py").write_text(SELECTION)
    # Every third prompt begins with the same 512 tokens; every second answer is long.
    lines = [
        json.dumps(
            {
                "timestamp": 400 * n,
                "input_length": 900,
                "output_length": 2 if n % 2 else 400,
                "hash_ids": [n % 3, 10 + n],
            }
        )
        for n in range(40)
    ]
    (tmp_path / "mooncake_conversation_trace.jsonl").write_text("\n".join(lines))
    command = [sys.executable, str(ROOT / "benchmarks" / "routers.py"), "--replicas", "2"]
    command += ["--traces", str(tmp_path), "--loads", "mooncake x 0.8", "--policies", "paced"]
    environment = dict(os.environ) | {
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(tmp_path)]),
        "TOLD": str(tmp_path / "told.json"),
    }
    done = subprocess.run(
        [*command, "--routers", "dynamo"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert "| load | replicas | policy | dynamo |" in done.stdout
    told = json.loads((tmp_path / "told.json").read_text())
    assert [each for each in told if each[0] == "worker"] == [["worker", 0, 64], ["worker", 1, 64]]
    asked = {each[1]: each[2] for each in told if each[0] == "select"}
    assert list(asked) == [str(number) for number in range(2 * 225)]
    assert {len(blocks) for blocks in asked.values()} == {900 // 64}
    shared = [len(set(asked["0"]) & set(asked[name])) for name in ("3", "1")]
    assert shared == [512 // 64, 0]
    began, ended = ([each[1] for each in told if each[0] == what] for what in ("began", "ended"))
    assert 0 < len(set(began)) == len(began)
    assert 225 < len(set(ended)) == len(ended) < 2 * 225
    for name in began:
        if name in ended:
            assert told.index(["began", name]) < told.index(["ended", name])


@pytest.mark.model
def test_prefill_and_decode_apart_give_the_same_tokens_as_together(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "disaggregation_real.py")]
    command += ["--requests", "6", "--rate", "20", "--rounds", "1"]
    command += ["--pairs", "ttft_p99=60s,tpot_p99=9s", "--kv-cache-memory", str(2**26)]
    environment = dict(os.environ) | {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "out.json")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((tmp_path / "out.json").read_text())
    assert (record["answers"], record["changed"]) == (3 * 6, [])
    (rows,) = record["pairs"].values()
    assert {name: turns[0]["attainment"] for name, turns in rows.items()} == {
        "aggregated": 1.0,
        "fixed": 1.0,
        "elastic": 1.0,
    }
    assert rows["aggregated"][0]["handed over"] == 0
    assert rows["fixed"][0]["handed over"] > 0
    assert list(record["elastic below the best"].values()) == [0.0]


def test_an_answer_that_differs_or_is_missing_is_told() -> None:
    program = """
from disaggregation_real import below_the_best, changed
same = {"a": (1, 2), "b": (3,)}
assert changed({"aggregated": same, "fixed": dict(same), "elastic": dict(same)}) == []
found = changed({"aggregated": same, "fixed": {"a": (1, 9), "b": (3,)}, "elastic": {"b": (3,)}})
assert sorted(found) == ["elastic a", "fixed a"], found
rows = {"aggregated": [0.9, 0.5, 0.8], "fixed": [0.2, 0.2, 0.2], "elastic": [0.7, 0.75, 0.1]}
rows = {name: [{"attainment": each} for each in row] for name, row in rows.items()}
assert abs(below_the_best(rows) - 0.1) < 1e-9
rows["fixed"][1]["attainment"] = rows["fixed"][0]["attainment"] = 0.95
assert abs(below_the_best(rows) - 0.25) < 1e-9
"""
    folders = os.pathsep.join([str(ROOT / "src"), str(ROOT / "benchmarks")])
    environment = dict(os.environ) | {"PYTHONPATH": folders}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=60)
